//! One key and its value.

use bytes::Bytes;
use neverstale::backend::{Backend, LARGEST_VALUE};

use super::{MINUTE, read};
use crate::memcached::PASSWORD;

pub async fn a_miss_is_none(backend: &dyn Backend) {
    assert_eq!(backend.get("k").await.unwrap(), None);
}

pub async fn an_empty_value_is_a_value(backend: &dyn Backend) {
    backend.set("k", Bytes::new(), MINUTE).await.unwrap();
    assert_eq!(backend.get("k").await.unwrap(), Some(Bytes::new()));
    assert!(!backend.add("k", "v".into(), MINUTE).await.unwrap());
    assert!(backend.replace("k", Bytes::new(), MINUTE).await.unwrap());
    assert!(backend.touch("k", MINUTE).await.unwrap());
    assert_eq!(backend.get_many(&["k".into()]).await.remove(0).unwrap(), Some(Bytes::new()));
    assert!(backend.delete("k").await.unwrap());
}

pub async fn bytes_of_all_kinds_come_back(backend: &dyn Backend) {
    let all: Vec<u8> = (0..=255).collect();
    for value in [&all[..], b"\r\n", b"\r\nEND\r\n", b"\0", b"\xff\xfe", b" ", "täglich".as_bytes()] {
        let value = Bytes::copy_from_slice(value);
        backend.set("k", value.clone(), MINUTE).await.unwrap();
        assert_eq!(backend.get("k").await.unwrap(), Some(value));
    }
}

pub async fn the_longest_key_and_the_longest_value_fit(backend: &dyn Backend) {
    let longest = Bytes::from(vec![b'x'; LARGEST_VALUE]);
    for key in ["k".repeat(250), "é".repeat(125), format!("{}a", "鍵".repeat(83))] {
        assert_eq!(key.len(), 250);
        backend.set(&key, longest.clone(), MINUTE).await.unwrap();
        assert!(backend.get(&key).await.unwrap() == Some(longest.clone()), "{key}");
        assert!(backend.delete(&key).await.unwrap());
        assert!(backend.add(&key, longest.clone(), MINUTE).await.unwrap());
        assert!(backend.replace(&key, longest.clone(), MINUTE).await.unwrap());
        assert!(backend.get(&key).await.unwrap() == Some(longest.clone()), "{key}");
    }
}

pub async fn keys_that_are_nearly_the_same_are_not(backend: &dyn Backend) {
    let long = ["1", "2"].map(|end| format!("{}{end}", "k".repeat(249)));
    let mut keys = vec!["key", "KEY", "Key", "key1", "key2", "key12", "key.", "key/", "/key", "../key"];
    keys.extend([
        "%", "_", "k%", "k_", "*", "k*", "'", "\"", "\\", ".", "..", "~", "é", "e\u{301}", "É", "ß",
    ]);
    keys.extend(long.iter().map(String::as_str));
    for key in &keys {
        assert!(backend.add(key, (*key).to_owned().into(), MINUTE).await.unwrap(), "{key}");
    }
    for key in &keys {
        assert_eq!(read(backend, key).await.as_deref(), Some(*key));
    }
    for key in &keys {
        assert!(backend.delete(key).await.unwrap(), "{key}");
    }
}

pub async fn setting_overwrites_whatever_was_there(backend: &dyn Backend) {
    for value in ["one", "a longer one", "", "2"] {
        backend.set("k", value.into(), MINUTE).await.unwrap();
        assert_eq!(read(backend, "k").await.as_deref(), Some(value));
    }
}

pub async fn adding_is_refused_where_there_is_a_value(backend: &dyn Backend) {
    assert!(backend.add("k", "one".into(), MINUTE).await.unwrap());
    assert!(!backend.add("k", "two".into(), MINUTE).await.unwrap());
    assert_eq!(read(backend, "k").await.as_deref(), Some("one"));
    backend.delete("k").await.unwrap();
    assert!(backend.add("k", "three".into(), MINUTE).await.unwrap());
    assert_eq!(read(backend, "k").await.as_deref(), Some("three"));
}

pub async fn what_is_read_after_adding_is_what_was_there_by_then(backend: &dyn Backend) {
    // With so many keys, where there are several servers, some pairs are on one and some on two.
    for number in 0..20 {
        let [lock, key] = ["lock", "key"].map(|name| format!("{name}{number}"));
        let both = async || backend.add_then_get(&lock, "mine".into(), MINUTE, &key).await.unwrap();
        assert_eq!(both().await, (true, None));
        let (is_added, _) = both().await;
        assert!(!is_added, "somebody has it");
        backend.delete(&lock).await.unwrap();
        backend.set(&key, "built".into(), MINUTE).await.unwrap();
        assert_eq!(both().await, (true, Some("built".into())));
        assert_eq!(read(backend, &lock).await.as_deref(), Some("mine"));
        // Reading comes after adding, or it would not see this.
        backend.delete(&key).await.unwrap();
        let seen = backend.add_then_get(&key, "added".into(), MINUTE, &key).await.unwrap();
        assert_eq!(seen, (true, Some("added".into())));
    }
}

pub async fn replacing_is_refused_where_there_is_none(backend: &dyn Backend) {
    assert!(!backend.replace("k", "one".into(), MINUTE).await.unwrap());
    assert_eq!(backend.get("k").await.unwrap(), None);
    backend.set("k", "two".into(), MINUTE).await.unwrap();
    assert!(backend.replace("k", "three".into(), MINUTE).await.unwrap());
    assert_eq!(read(backend, "k").await.as_deref(), Some("three"));
}

pub async fn deleting_says_whether_there_was_a_value(backend: &dyn Backend) {
    assert!(!backend.delete("k").await.unwrap());
    backend.set("k", "v".into(), MINUTE).await.unwrap();
    assert!(backend.delete("k").await.unwrap());
    assert_eq!(backend.get("k").await.unwrap(), None);
    assert!(!backend.delete("k").await.unwrap());
}

pub async fn clearing_removes_everything(backend: &dyn Backend) {
    for round in 0..20 {
        let keys = ["a", "b", "tasks:a"];
        for key in keys {
            assert!(backend.add(key, "v".into(), MINUTE).await.unwrap(), "{key} in round {round}");
        }
        backend.clear().await.unwrap();
        for value in backend.get_many(&keys.map(String::from)).await {
            assert_eq!(value.unwrap(), None, "in round {round}");
        }
    }
}

pub async fn the_stats_count_the_values(backend: &dyn Backend) {
    assert_eq!(count(backend).await, 0);
    for key in ["a", "b", "c", "a"] {
        backend.set(key, "v".into(), MINUTE).await.unwrap();
    }
    assert_eq!(count(backend).await, 3);
    backend.delete("a").await.unwrap();
    assert_eq!(count(backend).await, 2);
}

async fn count(backend: &dyn Backend) -> u64 {
    let stats = backend.stats().await.into_iter().map(|server| server.stats.unwrap());
    stats.map(|stats| stats["curr_items"].parse::<u64>().unwrap()).sum()
}

/// A store without servers has nothing to check; with them, each that says its stats is checked, and has some keys.
pub async fn every_server_that_is_checked_is_well(backend: &dyn Backend) {
    let servers: Vec<_> = backend.stats().await.into_iter().map(|server| server.server).collect();
    assert!(servers.contains(&backend.server_of("k")), "{servers:?}");
    let checks = backend.check().await;
    assert!(checks.is_empty() || checks.iter().map(|check| &check.server).eq(&servers), "{checks:?}");
    for check in checks {
        assert!(!check.outcome.unwrap().is_empty());
    }
}

pub async fn neither_name_nor_description_shows_a_password(backend: &dyn Backend) {
    let mut texts = vec![backend.describe(), backend.server_of("k")];
    texts.extend(backend.stats().await.into_iter().map(|server| format!("{server:?}")));
    texts.extend(backend.check().await.into_iter().map(|check| format!("{check:?}")));
    for text in texts {
        assert!(!text.is_empty() && !text.contains(PASSWORD), "{text}");
    }
}
