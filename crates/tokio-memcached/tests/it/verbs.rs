//! What each verb does on a real server, and what it refuses to send.

use std::time::Duration;

use bytes::Bytes;
use tokio_memcached::{Cas, Client, ErrorKind, Expiration, Item, Status};

use super::{MINUTE, assert_kind, client_of, data, options, stats};
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::rogue::{Question, Rogue};

const AT_ONCE: Expiration = Expiration::After(Duration::ZERO);

fn is_refused(status: Status) -> impl Fn(ErrorKind) -> bool {
    move |kind| kind == ErrorKind::Refused(status)
}

#[tokio::test]
async fn a_value_is_what_was_stored_last_until_it_is_deleted() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    assert_eq!(data(client.get("k").await), None);
    for value in [&b"one"[..], b"", b"\0\r\n\xff"] {
        client.set("k", value, MINUTE).await.unwrap();
        let stored = client.get("k").await.unwrap().unwrap();
        assert_eq!((&stored.data[..], stored.flags), (value, 0));
    }
    assert!(client.delete("k").await.unwrap());
    assert!(!client.delete("k").await.unwrap());
    assert_eq!(data(client.get("k").await), None);
}

#[tokio::test]
async fn add_stores_only_where_there_is_none_and_replace_only_where_there_is_one() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    assert!(!client.replace("k", "replaced", MINUTE).await.unwrap());
    assert!(client.add("k", "added", MINUTE).await.unwrap());
    assert!(!client.add("k", "added again", MINUTE).await.unwrap());
    assert_eq!(data(client.get("k").await), Some(b"added".to_vec()));
    assert!(client.replace("k", "replaced", MINUTE).await.unwrap());
    assert_eq!(data(client.get("k").await), Some(b"replaced".to_vec()));
}

#[tokio::test]
async fn a_stored_value_has_a_version_and_flags() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    let first = client.set("k", Item::from("one").flags(7), MINUTE).await.unwrap();
    let value = client.get("k").await.unwrap().unwrap();
    assert_eq!((&*value.data, value.flags, value.cas), (&b"one"[..], 7, first));
    let second = client.set("k", "two", MINUTE).await.unwrap();
    assert_eq!(client.cas("k", "three", MINUTE, first).await.unwrap(), Cas::Changed);
    assert!(matches!(client.cas("k", "three", MINUTE, second).await.unwrap(), Cas::Stored(_)));
    let flags = async |key| client.get(key).await.unwrap().unwrap().flags;
    assert_eq!(flags("k").await, 0);
    let item = |flags| Item::from("v").flags(flags);
    assert!(client.replace("k", item(1), MINUTE).await.unwrap() && flags("k").await == 1);
    let version = client.get("k").await.unwrap().unwrap().cas;
    client.cas("k", item(2), MINUTE, version).await.unwrap();
    assert_eq!(flags("k").await, 2);
    assert!(client.add("new", item(3), MINUTE).await.unwrap() && flags("new").await == 3);
    client.set_many(&[("k", item(4))], MINUTE).await.remove(0).unwrap();
    assert_eq!(flags("k").await, 4);
}

#[tokio::test]
async fn cas_stores_only_over_the_version_that_was_read() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    client.set("k", "one", MINUTE).await.unwrap();
    let version = client.get("k").await.unwrap().unwrap().cas;
    let Cas::Stored(second) = client.cas("k", "two", MINUTE, version).await.unwrap() else { panic!() };
    assert_eq!(client.get("k").await.unwrap().unwrap().cas, second);
    assert_eq!(client.cas("k", "three", MINUTE, version).await.unwrap(), Cas::Changed);
    assert_eq!(data(client.get("k").await), Some(b"two".to_vec()));
    client.delete("k").await.unwrap();
    assert_eq!(client.cas("k", "four", MINUTE, version).await.unwrap(), Cas::Missing);
    assert_eq!(data(client.get("k").await), None);
}

#[tokio::test]
async fn append_and_prepend_lengthen_what_is_there() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    assert!(!client.append("k", "!").await.unwrap());
    assert!(!client.prepend("k", "!").await.unwrap());
    client.set("k", "b", MINUTE).await.unwrap();
    assert!(client.append("k", "c").await.unwrap());
    assert!(client.prepend("k", "a").await.unwrap());
    assert_eq!(data(client.get("k").await), Some(b"abc".to_vec()));
}

#[tokio::test]
async fn numbers_are_counted_up_and_down_where_there_is_one() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    assert_eq!(client.incr("n", 1).await.unwrap(), None);
    assert_eq!(client.decr("n", 1).await.unwrap(), None);
    assert_eq!(data(client.get("n").await), None, "counting creates nothing");
    client.set("n", "40", MINUTE).await.unwrap();
    assert_eq!(client.incr("n", 2).await.unwrap(), Some(42));
    assert_eq!(client.decr("n", 100).await.unwrap(), Some(0));
    assert_eq!(client.incr("n", u64::MAX).await.unwrap(), Some(u64::MAX));
    assert_eq!(client.incr("n", 1).await.unwrap(), Some(0), "it wraps");
    client.set("n", "many", MINUTE).await.unwrap();
    assert_kind(client.incr("n", 1).await, is_refused(Status::NOT_A_NUMBER));
}

#[tokio::test]
async fn what_has_expired_cannot_be_read() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    let month = Expiration::After(Duration::from_secs(31 * 24 * 60 * 60));
    for (expires, readable) in [(Expiration::Never, true), (month, true), (MINUTE, true), (AT_ONCE, false)] {
        client.set("set", "v", expires).await.unwrap();
        assert_eq!(data(client.get("set").await).is_some(), readable, "{expires:?}");
        client.set("touched", "v", MINUTE).await.unwrap();
        assert!(client.touch("touched", expires).await.unwrap());
        assert_eq!(data(client.get("touched").await).is_some(), readable, "{expires:?}");
        client.set_many(&[("many", Bytes::from("v"))], expires).await.remove(0).unwrap();
        assert_eq!(data(client.get("many").await).is_some(), readable, "{expires:?}");
    }
    assert!(!client.touch("missing", MINUTE).await.unwrap());
}

#[tokio::test]
async fn many_keys_are_answered_in_their_order_wherever_they_are() {
    let servers = [Memcached::start(), Memcached::start(), Memcached::start()];
    let client = Client::new(options(&servers.each_ref().map(Memcached::address)));
    let values: Vec<_> = (0..3500).map(|n| (format!("key-{n}"), Bytes::from(format!("value {n}")))).collect();
    for stored in client.set_many(&values, MINUTE).await {
        stored.unwrap();
    }
    for server in &servers {
        assert!(server.stat("curr_items") > 500, "each has its share");
    }
    let keys: Vec<_> = (0..4000).map(|number| format!("key-{number}")).collect();
    for (number, value) in client.get_many(&keys).await.into_iter().enumerate() {
        assert_eq!(data(value), (number < 3500).then(|| format!("value {number}").into_bytes()));
    }
    for (number, deleted) in client.delete_many(&keys).await.into_iter().enumerate() {
        assert_eq!(deleted.unwrap(), number < 3500);
    }
    assert!(client.get_many(&keys).await.into_iter().all(|value| data(value).is_none()));
}

#[tokio::test]
async fn an_invalid_key_among_many_costs_itself_only() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    let is_invalid = |kind: ErrorKind| kind == ErrorKind::InvalidKey;
    let mut stored = client.set_many(&["a", "b c", "d"].map(|key| (key, Bytes::from(key))), MINUTE).await;
    assert!(stored.remove(0).is_ok() && stored.remove(1).is_ok());
    assert_kind(stored.remove(0), is_invalid);
    let mut values = client.get_many(&["a", "", "missing", "d"]).await;
    assert_eq!(data(values.remove(0)), Some(b"a".to_vec()));
    assert_kind(values.remove(0), is_invalid);
    assert_eq!(data(values.remove(0)), None);
    assert_eq!(data(values.remove(0)), Some(b"d".to_vec()));
    let mut deleted = client.delete_many(&["d", "\n", "a"]).await;
    assert!(deleted.remove(0).unwrap() && deleted.remove(1).unwrap());
    assert_kind(deleted.remove(0), is_invalid);
}

#[tokio::test]
async fn the_same_key_twice_is_answered_twice() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    client.set("k", "v", MINUTE).await.unwrap();
    for value in client.get_many(&["k"; 3]).await {
        assert_eq!(data(value), Some(b"v".to_vec()));
    }
    let deleted = client.delete_many(&["k"; 2]).await;
    assert_eq!(deleted.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn nothing_is_asked_for_no_keys() {
    let rogue = Rogue::start(Question::well).await;
    let client = Client::new(options(&[rogue.address.to_string()]));
    assert!(client.get_many::<&str>(&[]).await.is_empty());
    assert!(client.set_many::<&str, &str>(&[], MINUTE).await.is_empty());
    assert!(client.delete_many::<&str>(&[]).await.is_empty());
    assert_eq!((rogue.bytes(), stats(&client).operations), (0, 0));
}

#[tokio::test]
async fn every_server_says_its_version_and_its_statistics_and_is_flushed() {
    let servers = [Memcached::start(), Memcached::start()];
    let addresses = servers.each_ref().map(Memcached::address);
    let client = Client::new(options(&addresses));
    for number in 0..50 {
        client.set(format!("key-{number}"), "v", MINUTE).await.unwrap();
    }
    for ((address, version), expected) in client.version().await.into_iter().zip(&addresses) {
        assert_eq!(address.to_string(), *expected);
        assert!(version.unwrap().starts_with("1."));
    }
    let mut items = 0;
    for ((address, stats), server) in client.stats().await.into_iter().zip(&servers) {
        assert_eq!(address.to_string(), server.address());
        let stats = stats.unwrap();
        assert!(stats.len() > 20 && stats["pid"].parse::<u32>().is_ok());
        items += stats["curr_items"].parse::<u32>().unwrap();
    }
    assert_eq!(items, 50);
    client.flush().await.unwrap();
    for number in 0..50 {
        assert_eq!(data(client.get(format!("key-{number}")).await), None);
    }
}

#[tokio::test]
async fn an_invalid_key_is_refused_before_a_byte_is_sent() {
    let rogue = Rogue::start(Question::well).await;
    let client = Client::new(options(&[rogue.address.to_string()]));
    let is_invalid = |kind: ErrorKind| kind == ErrorKind::InvalidKey;
    let long = "k".repeat(251);
    for key in ["", "a key", "tab\t", "line\r\n", "\0", "del\x7f", &long] {
        assert_kind(client.get(key).await, is_invalid);
        assert_kind(client.set(key, "v", MINUTE).await, is_invalid);
        assert_kind(client.add(key, "v", MINUTE).await, is_invalid);
        assert_kind(client.replace(key, "v", MINUTE).await, is_invalid);
        assert_kind(client.cas(key, "v", MINUTE, 1).await, is_invalid);
        assert_kind(client.append(key, "v").await, is_invalid);
        assert_kind(client.prepend(key, "v").await, is_invalid);
        assert_kind(client.delete(key).await, is_invalid);
        assert_kind(client.incr(key, 1).await, is_invalid);
        assert_kind(client.decr(key, 1).await, is_invalid);
        assert_kind(client.touch(key, MINUTE).await, is_invalid);
        assert_kind(client.get_many(&[key]).await.remove(0), is_invalid);
        assert_kind(client.set_many(&[(key, Bytes::new())], MINUTE).await.remove(0), is_invalid);
        assert_kind(client.delete_many(&[key]).await.remove(0), is_invalid);
    }
    assert_eq!((rogue.connections(), rogue.bytes(), stats(&client).operations), (0, 0, 0));
}

#[tokio::test]
async fn a_key_of_250_bytes_and_one_in_any_script_work() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    let long = "k".repeat(250);
    for key in [long.as_str(), "ключ", "鍵", "🗝", "!~"] {
        client.set(key, key.to_owned(), MINUTE).await.unwrap();
        assert_eq!(data(client.get(key).await), Some(key.as_bytes().to_vec()));
    }
    assert_eq!(data(client.get(b"\xff\x80").await), None, "bytes that are no text");
}

#[tokio::test]
async fn a_value_too_long_for_the_server_is_refused() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    let long = Bytes::from(vec![b'v'; 900_000]);
    client.set("k", long.clone(), MINUTE).await.unwrap();
    assert_eq!(client.get("k").await.unwrap().unwrap().data, long);
    let too_long = Bytes::from(vec![b'v'; 1024 * 1024 + 1]);
    assert_kind(client.set("k", too_long.clone(), MINUTE).await, is_refused(Status::TOO_LARGE));
    let stored = client.set_many(&[("k", too_long), ("other", long)], MINUTE).await;
    let [refused, other] = stored.try_into().unwrap();
    assert_kind(refused, is_refused(Status::TOO_LARGE));
    other.unwrap();
    assert_eq!(stats(&client).connections, 1, "the connection is none the worse");
}

#[tokio::test]
async fn a_value_over_the_clients_limit_is_not_sent() {
    let rogue = Rogue::start(Question::well).await;
    let client = Client::new(options(&[rogue.address.to_string()]).max_value_bytes(100));
    let value = Bytes::from(vec![0; 101]);
    let is_too_large = |kind: ErrorKind| kind == ErrorKind::TooLarge(101);
    assert_kind(client.set("k", value.clone(), MINUTE).await, is_too_large);
    assert_kind(client.add("k", value.clone(), MINUTE).await, is_too_large);
    assert_kind(client.append("k", value.clone()).await, is_too_large);
    assert_kind(client.set_many(&[("k", value)], MINUTE).await.remove(0), is_too_large);
    assert_eq!((rogue.connections(), rogue.bytes()), (0, 0));
}

#[tokio::test]
async fn the_statistics_say_what_was_asked_and_how_it_went() {
    let mut memcached = Memcached::start();
    let client = Client::new(super::impatient(&memcached.address()));
    assert_eq!((stats(&client).connections, stats(&client).operations), (0, 0), "nothing until it is used");
    client.set("k", "v", MINUTE).await.unwrap();
    client.get("k").await.unwrap();
    client.get("missing").await.unwrap();
    client.get_many(&["k", "missing", "missing-too"]).await;
    let now = stats(&client);
    assert_eq!((now.operations, now.hits, now.misses), (6, 2, 3));
    assert_eq!((now.errors, now.timeouts, now.connections, now.is_down), (0, 0, 1, false));
    memcached.stop();
    client.get("k").await.unwrap_err();
    super::until_left_out(&client).await;
    client.get("k").await.unwrap_err();
    let now = stats(&client);
    assert_eq!((now.errors, now.timeouts, now.connections), (2, 1, 1));
    memcached.go_on();
    eventually("the server is used again", async || !stats(&client).is_down).await;
    assert_eq!(stats(&client).connections, 2);
    memcached.kill();
    eventually("the server is left out", async || client.get("k").await.is_err() && stats(&client).is_down)
        .await;
    let now = stats(&client);
    assert_eq!((now.hits, now.misses), (2, 3));
}
