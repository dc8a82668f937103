//! What a server's outage does to its backends.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use neverstale::backend::{Backend, ErrorKind, memcached};
use tokio_memcached::Options;

use super::on_both_clients;
use testkit::contract::MINUTE;
use testkit::eventually;
use testkit::memcached::Memcached;

#[tokio::test]
async fn a_late_answer_is_never_given_to_another_key() {
    on_both_clients(&mut Memcached::start(), async |backend, memcached| {
        for key in ["mine", "yours"] {
            backend.set(key, Bytes::from(key), MINUTE).await.unwrap();
        }
        for _ in 0..2 {
            memcached.stop();
            let error = backend.get("mine").await.unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Timeout(_)), "{error}");
            // Time is the subject: the crate's own wait must be over as well, else the answer is not late.
            tokio::time::sleep(Duration::from_millis(250)).await;
            memcached.go_on();
            let answer = wait_for_answer(backend, "yours").await;
            assert_eq!(answer.as_deref(), Some(&b"yours"[..]));
        }
    })
    .await;
}

#[tokio::test]
async fn what_could_not_be_written_is_not_read_after_the_outage() {
    on_both_clients(&mut Memcached::start(), async |backend, memcached| {
        for key in ["set", "deleted", "untouched"] {
            backend.set(key, Bytes::from_static(b"old"), MINUTE).await.unwrap();
        }
        memcached.stop();
        backend.get("untouched").await.unwrap_err();
        backend.set("set", Bytes::from_static(b"new"), MINUTE).await.unwrap_err();
        backend.delete("deleted").await.unwrap_err();
        memcached.go_on();
        assert_eq!(wait_for_answer(backend, "untouched").await.as_deref(), Some(&b"old"[..]));
        for key in ["set", "deleted"] {
            assert_eq!(backend.get(key).await.unwrap(), None, "{key}");
        }
    })
    .await;
}

/// More than queue and pipeline hold: the caller still waits for room when its time is over.
#[tokio::test]
async fn a_write_that_found_no_room_in_time_is_not_read_over() {
    let memcached = Memcached::start();
    let options = Options::new([memcached.address().parse().unwrap()]).unwrap();
    let options =
        options.operation_timeout(Duration::from_millis(200)).retry_interval(Duration::from_millis(50));
    let backend = memcached::Memcached::new(options);
    backend.set("k", "old".into(), MINUTE).await.unwrap();
    memcached.stop();
    let crowd = join_all((0..10_000).map(|_| backend.get("other")));
    let written = async {
        backend.set("k", "new".into(), MINUTE).await.unwrap_err();
        // At once, while the server may be asked again at any time.
        memcached.go_on();
        for _ in 0..100 {
            assert!(!backend.get("k").await.is_ok_and(|value| value.is_some()), "the old value");
        }
    };
    tokio::join!(crowd, written);
    eventually("the key is read again", async || backend.get("k").await.is_ok()).await;
    assert_eq!(backend.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_no_outage() {
    on_both_clients(&mut Memcached::start(), async |backend, memcached| {
        backend.set("k", Bytes::from_static(b"v"), MINUTE).await.unwrap();
        memcached.restart();
        // The runtime stood still meanwhile, and must see that the connection has ended.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(backend.get("k").await.unwrap(), None, "a new connection is made at once");
    })
    .await;
}

/// Asks until the backend answers again.
async fn wait_for_answer(backend: &dyn Backend, key: &str) -> Option<Bytes> {
    let mut answer = None;
    eventually("the backend answers again", async || {
        answer = backend.get(key).await.ok();
        answer.is_some()
    })
    .await;
    answer.flatten()
}
