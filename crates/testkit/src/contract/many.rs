//! Several keys at once.

use bytes::Bytes;
use neverstale::backend::Backend;
use neverstale::{Cache, CacheOptions, Key};

use super::{AT_ONCE, MINUTE, read};
use crate::stores::Store;

pub async fn many_values_stand_where_their_keys_stood(backend: &dyn Backend) {
    set_many(backend, &["c", "a", "empty", "b"]).await;
    backend.set("empty", Bytes::new(), MINUTE).await.unwrap();
    for keys in [["a", "missing", "b", "c", "empty"], ["empty", "c", "b", "a", "missing"]] {
        for (key, value) in keys.iter().zip(get_many(backend, &keys).await) {
            let expected = match *key {
                "missing" => None,
                "empty" => Some(Bytes::new()),
                key => Some(value_of(key)),
            };
            assert_eq!(value, expected, "{key}");
        }
    }
}

pub async fn a_thousand_keys_are_asked_at_once(backend: &dyn Backend) {
    let names: Vec<_> = (0..1_000).map(|number| format!("key-{number}")).collect();
    let keys: Vec<_> = names.iter().map(String::as_str).collect();
    set_many(backend, &keys[300..400]).await;
    let values = get_many(backend, &keys).await;
    assert_eq!(values.len(), 1_000);
    for (number, value) in values.into_iter().enumerate() {
        assert_eq!(value, (300..400).contains(&number).then(|| value_of(keys[number])), "{number}");
    }
}

pub async fn nothing_comes_of_no_keys(backend: &dyn Backend) {
    backend.set("k", "v".into(), MINUTE).await.unwrap();
    assert!(backend.get_many(&[]).await.is_empty());
    assert!(backend.set_many(&[], MINUTE).await.is_empty());
    assert!(backend.delete_many(&[]).await.is_empty());
    assert_eq!(read(backend, "k").await.as_deref(), Some("v"));
}

pub async fn many_lifetimes_of_zero_leave_nothing(backend: &dyn Backend) {
    set_many(backend, &["old"]).await;
    let pairs = ["old", "new"].map(|key| (key.into(), value_of(key)));
    for stored in backend.set_many(&pairs, AT_ONCE).await {
        stored.unwrap();
    }
    assert_eq!(get_many(backend, &["old", "new"]).await, [None, None]);
}

pub async fn deleting_many_says_of_each_whether_there_was_a_value(backend: &dyn Backend) {
    set_many(backend, &["a", "b", "kept"]).await;
    let keys = ["missing", "b", "missing-too", "a"].map(String::from);
    for expected in [[false, true, false, true], [false; 4]] {
        let deleted = backend.delete_many(&keys).await.into_iter().map(Result::unwrap);
        assert_eq!(deleted.collect::<Vec<_>>(), expected);
    }
    assert_eq!(get_many(backend, &["a", "b", "kept"]).await, [None, None, Some(value_of("kept"))]);
}

fn value_of(key: &str) -> Bytes {
    format!("value of {key}").into()
}

async fn set_many(backend: &dyn Backend, keys: &[&str]) {
    let pairs: Vec<_> = keys.iter().map(|key| ((*key).to_owned(), value_of(key))).collect();
    let stored = backend.set_many(&pairs, MINUTE).await;
    assert_eq!(stored.len(), keys.len());
    stored.into_iter().for_each(Result::unwrap);
}

async fn get_many(backend: &dyn Backend, keys: &[&str]) -> Vec<Option<Bytes>> {
    let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    backend.get_many(&keys).await.into_iter().map(Result::unwrap).collect()
}

pub async fn a_key_that_is_named_twice_is_served_twice(Store { backend, .. }: &Store) {
    let cache = Cache::new(backend.clone(), CacheOptions::default());
    let keys = ["a", "b", "a"].map(|name| Key::new(name).unwrap());
    cache.set_many(&[(keys[0].clone(), 1), (keys[1].clone(), 2), (keys[0].clone(), 3)], MINUTE).await;
    assert_eq!(cache.get_many(&keys).await, [Some(3), Some(2), Some(3)]);
    cache.delete_many(&keys).await;
    assert_eq!(cache.get_many::<u8>(&keys).await, [None; 3]);
}
