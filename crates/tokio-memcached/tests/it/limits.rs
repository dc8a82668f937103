//! What a caller, a slow line or a hostile server can make the client do, and no more.

use std::time::Duration;

use tokio_memcached::{Client, ErrorKind, Options};

use super::{MINUTE, assert_kind, client_of, data, impatient, options, stats};
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::proxy::Proxy;
use testkit::rogue::{Answer, Question, Rogue};

const MEGABYTE: usize = 1024 * 1024;

/// More than what the systems between client and server keep.
const HUGE: usize = 30 * MEGABYTE;

const GET_QUIET: u8 = 0x09;
const STAT: u8 = 0x10;

fn is_protocol(kind: ErrorKind) -> bool {
    kind == ErrorKind::Protocol
}

#[tokio::test]
async fn any_duration_may_be_given() {
    let memcached = Memcached::start();
    let client = |limit| {
        let options = options(&[memcached.address()]);
        Client::new(options.operation_timeout(limit).connect_timeout(limit).retry_interval(limit))
    };
    for duration in [Duration::MAX, Duration::from_secs(u64::MAX)] {
        let client = client(duration);
        client.set("k", "v", MINUTE).await.unwrap();
        assert_eq!(data(client.get_many(&["k"]).await.remove(0)), Some(b"v".to_vec()));
    }
    client(Duration::ZERO).get("k").await.unwrap_err();
}

/// The first takes all there is for a caller, and the second the place in the queue.
#[tokio::test]
async fn a_full_queue_is_waited_for_and_not_for_ever() {
    let rogue = Rogue::start(|question| match question.key.as_slice() {
        b"first" => Answer::Nothing,
        _ => question.well(),
    })
    .await;
    let client = Client::new(impatient(&rogue.address.to_string()).queue_length(1));
    let (first, second, third) = tokio::join!(client.get("first"), client.get("second"), client.get("third"));
    let is_timeout = |kind| matches!(kind, ErrorKind::Timeout(_));
    assert!(is_timeout(first.unwrap_err().kind()));
    let (second, third) = (second.unwrap_err(), third.unwrap_err());
    assert!(!second.was_written() && !third.was_written(), "{second:?} {third:?}");
    assert_eq!(rogue.requests(), 2, "a greeting, and the first");
}

#[tokio::test]
async fn a_long_batch_is_sent_in_several() {
    let rogue = Rogue::start(Question::well).await;
    let client = Client::new(options(&[rogue.address.to_string()]).batch_bytes(100));
    let values: Vec<_> = (0..10).map(|number| (format!("key-{number}"), vec![b'v'; 50])).collect();
    client.set_many(&values, MINUTE).await.into_iter().for_each(|stored| stored.unwrap());
    // A greeting, ten values, and a command behind each two of them.
    assert_eq!(rogue.requests(), 1 + 10 + 5);
}

#[tokio::test]
async fn an_idle_connection_is_kept_alive() {
    let rogue = Rogue::start(Question::well).await;
    let interval = Duration::from_millis(10);
    let client = Client::new(options(&[rogue.address.to_string()]).keep_alive_interval(interval));
    client.get("k").await.unwrap();
    eventually("it is probed again and again", async || rogue.requests() > 5).await;
    assert_eq!(stats(&client).connections, 1);
}

#[test]
fn there_is_no_client_without_servers() {
    assert_kind(Options::new([]), |kind| kind == ErrorKind::NoServers);
}

/// The first value fills all there is between client and server, so that the second is not begun.
#[tokio::test]
async fn what_was_not_begun_is_said_to_be_unwritten() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let client = Client::new(impatient(&proxy.address.to_string()));
    super::until_answered(&client, "k").await;
    proxy.hold("begun");
    let value = vec![0_u8; HUGE];
    let (begun, behind) =
        tokio::join!(client.set("begun", value.clone(), MINUTE), client.set("behind", "v", MINUTE));
    let (begun, behind) = (begun.unwrap_err(), behind.unwrap_err());
    assert!(matches!(begun.kind(), ErrorKind::Timeout(_)) && begun.was_written(), "{begun:?}");
    assert!(!behind.was_written(), "{behind:?}");
    assert_eq!(proxy.messages_with("behind"), 0);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_sent() {
    let memcached = Memcached::start_with(&["-I", "64m", "-m", "256"]);
    let proxy = Proxy::start(memcached.address()).await;
    let client = Client::new(options(&[proxy.address.to_string()]));
    client.get("k").await.unwrap();
    proxy.hold("first");
    let value = vec![0_u8; HUGE];
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.set("first", value, MINUTE).await }
    });
    proxy.wait_for_held().await;
    let mut gone = Box::pin(client.set("gone", "v", MINUTE));
    assert!(futures_util::poll!(gone.as_mut()).is_pending());
    // It is in the queue by now; that it is not written yet is what the value before it makes sure of.
    drop(gone);
    proxy.release();
    first.await.unwrap().unwrap();
    assert_eq!(data(client.get("gone").await), None);
    assert_eq!(proxy.messages_with("gone"), 1, "only the get");
}

/// A router that has forgotten a connection says nothing: what is sent there gets lost.
#[tokio::test]
async fn an_idle_connection_that_was_lost_is_no_outage() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let idle = Duration::from_millis(1);
    let client = Client::new(options(&[proxy.address.to_string()]).probe_after(idle));
    client.set("k", "v", MINUTE).await.unwrap();
    tokio::time::sleep(idle * 2).await;
    proxy.lose();
    client.set("k", "new", MINUTE).await.unwrap();
    assert_eq!(data(client.get("k").await), Some(b"new".to_vec()));
    let now = stats(&client);
    assert_eq!((now.connections, now.errors, now.timeouts, now.is_down), (2, 0, 0, false));
}

#[tokio::test]
async fn a_value_keeps_no_more_memory_than_it_needs() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    for length in [1, 300, 5000, 30_000, 40_000, 300_000] {
        client.set("k", vec![b'v'; length], MINUTE).await.unwrap();
        client.set("other", "v", MINUTE).await.unwrap();
        let one = client.get("k").await.unwrap().unwrap().data;
        let many = client.get_many(&["k", "other", "k"]).await.remove(0).unwrap().unwrap().data;
        for value in [one, many] {
            assert_eq!(value.len(), length);
            // Where it is not alone in its buffer, it is most of it.
            if let Ok(value) = value.try_into_mut() {
                assert!(value.capacity() <= 2 * length + 64, "{length} bytes in {}", value.capacity());
            } else {
                assert!(length >= 32 * 1024, "{length} bytes share a buffer");
            }
        }
    }
}

#[tokio::test]
async fn statistics_without_end_end_the_connection() {
    // Long keys, and short ones in numbers.
    for (length, count) in [(65_000, 200), (2, 20_000)] {
        let rogue = Rogue::start(move |question| match question.opcode {
            STAT if question.connection == 1 => {
                Answer::Bytes(question.bytes(b"", &vec![b'k'; length], b"").repeat(count))
            }
            _ => question.well(),
        })
        .await;
        let client = Client::new(options(&[rogue.address.to_string()]).max_response_bytes(MEGABYTE));
        assert_kind(client.stats().await.remove(0).1, is_protocol);
        eventually("the next connection is used", async || client.get("k").await.is_ok()).await;
    }
}

#[tokio::test]
async fn more_answers_than_keys_end_the_connection() {
    let twice = |question: &Question| match question.opcode {
        GET_QUIET if question.connection == 1 => Answer::Bytes(question.well_bytes().repeat(2)),
        _ => question.well(),
    };
    let rogue = Rogue::start(twice).await;
    let client = Client::new(options(&[rogue.address.to_string()]));
    for value in client.get_many(&["a", "b", "c"]).await {
        assert_kind(value, is_protocol);
    }
    eventually("the next connection is used", async || client.get("k").await.is_ok()).await;
}
