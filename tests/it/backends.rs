//! The contract of a backend, kept by all of them, with a real server where there is one.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tasklist::cache::Ttl;
use tasklist::cache::backend::locmem::Locmem;
use tasklist::cache::backend::memcache_crate::MemcacheCrate;
use tasklist::cache::backend::{Backend, ErrorKind, memcached};
use tasklist::config::{Config, Variables, cache::BackendConfig};
use tasklist::memcached::Options;

use crate::support::memcached::Memcached;

/// Runs a test of the contract in [`Backend`] on every backend, with a real server where there is one.
async fn on_every_backend(test: impl AsyncFn(&dyn Backend)) {
    test(&Locmem::new()).await;
    let memcached = Memcached::start_with_sasl();
    test(&memcache_crate(&memcached.address(), true)).await;
    let memcached = Memcached::start_with_sasl();
    test(&native(&memcached.address(), true)).await;
}

/// Options as the program makes them of `CACHE_URL`.
fn options(address: &str, login: bool) -> Options {
    let login = if login { "tester:sesame@" } else { "" };
    let url = format!("memcached://{login}{address}");
    let config = Config::from_variables(&Variables::from([("CACHE_URL", url.as_str())])).unwrap();
    let BackendConfig::Memcached(options) = config.cache.backend else { panic!("{url}") };
    options
}

fn memcache_crate(address: &str, login: bool) -> MemcacheCrate {
    MemcacheCrate::new(&options(address, login)).unwrap()
}

fn native(address: &str, login: bool) -> memcached::Memcached {
    memcached::Memcached::new(options(address, login))
}

/// Runs a test on both memcached backends without a login.
async fn on_both_clients(memcached: &mut Memcached, test: impl AsyncFn(&dyn Backend, &mut Memcached)) {
    test(&memcache_crate(&memcached.address(), false), memcached).await;
    test(&native(&memcached.address(), false), memcached).await;
}

const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));

#[tokio::test]
async fn a_backend_returns_what_was_stored_last_and_nothing_after_a_delete() {
    on_every_backend(async |backend| {
        assert_eq!(backend.get("k").await.unwrap(), None);
        for value in [&b"one"[..], b"", b"\0\r\n\xff"] {
            backend.set("k", Bytes::copy_from_slice(value), Ttl::Never).await.unwrap();
            assert_eq!(backend.get("k").await.unwrap().as_deref(), Some(value));
        }
        assert!(backend.delete("k").await.unwrap());
        assert!(!backend.delete("k").await.unwrap());
        assert_eq!(backend.get("k").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_value_is_gone_when_its_lifetime_is_over() {
    on_every_backend(async |backend| {
        let value = || Bytes::from_static(b"v");
        backend.set("gone", value(), Ttl::Never).await.unwrap();
        backend.set("gone", value(), Ttl::After(Duration::ZERO)).await.unwrap();
        assert_eq!(backend.get("gone").await.unwrap(), None);
        backend.set("short", value(), Ttl::After(Duration::from_millis(100))).await.unwrap();
        backend.set("long", value(), Ttl::After(Duration::from_secs(31 * 86_400))).await.unwrap();
        backend.set("renewed", value(), Ttl::After(Duration::from_millis(100))).await.unwrap();
        backend.set("renewed", value(), MINUTE).await.unwrap();
        while backend.get("short").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for key in ["long", "renewed"] {
            assert!(backend.get(key).await.unwrap().is_some(), "{key}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_that_is_too_large_leaves_no_older_one_behind() {
    on_both_clients(&mut Memcached::start(), async |backend, _| {
        backend.set("k", Bytes::from_static(b"old"), MINUTE).await.unwrap();
        let largest = Bytes::from(vec![b'x'; 1_000_000]);
        backend.set("k", largest.clone(), MINUTE).await.unwrap();
        assert_eq!(backend.get("k").await.unwrap(), Some(largest));
        let error = backend.set("k", vec![b'x'; 1_000_001].into(), MINUTE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge(1_000_001));
        assert_eq!(backend.get("k").await.unwrap(), None, "and the server is asked as before");
    })
    .await;
}

#[tokio::test]
async fn a_value_that_the_server_refuses_leaves_no_older_one_behind() {
    on_both_clients(&mut Memcached::start_with(&["-I", "512k"]), async |backend, _| {
        backend.set("k", Bytes::from_static(b"old"), MINUTE).await.unwrap();
        let error = backend.set("k", vec![b'x'; 700_000].into(), MINUTE).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Refused(_)), "{error}");
        assert_eq!(backend.get("k").await.unwrap(), None, "and the server is asked as before");
    })
    .await;
}

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
            // The crate's own wait must be over as well, else the answer is not late.
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

/// Asks until the backend answers again.
async fn wait_for_answer(backend: &dyn Backend, key: &str) -> Option<Bytes> {
    let started = Instant::now();
    loop {
        match backend.get(key).await {
            Ok(answer) => return answer,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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

#[tokio::test]
async fn a_server_without_sasl_is_used_without_it() {
    let memcached = Memcached::start();
    let backends: [Box<dyn Backend>; 2] =
        [Box::new(memcache_crate(&memcached.address(), true)), Box::new(native(&memcached.address(), true))];
    for backend in backends {
        backend.set("k", Bytes::from_static(b"v"), MINUTE).await.unwrap();
        assert!(backend.get("k").await.unwrap().is_some());
        assert!(backend.check().await.remove(0).outcome.unwrap().ends_with("no login"));
    }
}

#[tokio::test]
async fn what_one_client_writes_the_other_reads_on_every_server() {
    let servers: Vec<_> = (0..3).map(|_| Memcached::start_with_sasl()).collect();
    let address = servers.iter().map(Memcached::address).collect::<Vec<_>>().join(",");
    let clients: [Box<dyn Backend>; 2] =
        [Box::new(memcache_crate(&address, true)), Box::new(native(&address, true))];
    for (one, other) in [(0, 1), (1, 0)] {
        for number in 0..50 {
            let (key, value) = (format!("{one}:{number}"), Bytes::from(format!("value {number}")));
            clients[one].set(&key, value.clone(), MINUTE).await.unwrap();
            assert_eq!(clients[other].get(&key).await.unwrap(), Some(value));
        }
    }
    for server in &servers {
        assert!(server.stat("curr_items") > 0, "each has its share");
    }
}
