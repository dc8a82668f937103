//! Servers that are far away: what many round trips one after the other cost.

use std::time::Duration;

use bytes::Bytes;
use neverstale::backend::Backend;
use neverstale::backend::ErrorKind;
use tasklist::memcache_crate::MemcacheCrate;

use crate::support::app::Settings;
use crate::support::backends::options;
use testkit::contract::MINUTE;
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn many_values_for_a_server_far_away_do_not_mark_it_down() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let options = options(&proxy.address.to_string(), false).operation_timeout(Duration::from_millis(1500));
    let backend = MemcacheCrate::new(&options).unwrap();
    let new: Vec<_> = (0..90).map(|number| (format!("k{number}"), Bytes::from("new"))).collect();
    let keys: Vec<_> = new.iter().map(|(key, _)| key.clone()).collect();
    backend.set("another", Bytes::from("value"), MINUTE).await.unwrap();
    for distance in [20, 120] {
        for key in &keys {
            memcached.client().set(key, "old", 60).unwrap();
        }
        proxy.set_distance(Duration::from_millis(distance));
        let stored = backend.set_many(&new, MINUTE).await;
        assert!(stored.iter().any(Result::is_ok));
        assert!(
            stored.iter().flat_map(|stored| stored.as_ref().err()).all(|error| error.kind == ErrorKind::Busy)
        );
        assert!(backend.get("another").await.unwrap().is_some(), "the server is up");
        proxy.set_distance(Duration::ZERO);
        let mut found = vec![];
        eventually("what was not stored is deleted", async || {
            found = backend.get_many(&keys).await;
            found.iter().all(Result::is_ok)
        })
        .await;
        for ((key, stored), found) in keys.iter().zip(&stored).zip(found) {
            let expected = stored.is_ok().then(|| Bytes::from("new"));
            assert_eq!(found.unwrap(), expected, "{key} at {distance} ms");
        }
        proxy.set_distance(Duration::from_millis(distance));
        let deleted = backend.delete_many(&keys).await;
        assert!(deleted.iter().any(Result::is_ok));
        assert!(backend.get("another").await.unwrap().is_some(), "the server is up");
        proxy.set_distance(Duration::ZERO);
        eventually("all are deleted", async || {
            let found = backend.get_many(&keys).await;
            found.iter().all(|found| matches!(found, Ok(None)))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_fragments_is_stored_on_a_server_far_away() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let settings = Settings::new().with("MEMCACHIER_SERVERS", &proxy.address.to_string());
    let app = settings.with("MEMCACHE_CLIENT", "memcache").with("CACHE_LOCAL", "off").serve();
    for number in 0..90 {
        app.post("/add", &[("name", &format!("task {number}"))]).await;
    }
    memcached.client().flush().unwrap();
    proxy.set_distance(Duration::from_millis(10));
    let [first, second] = [app.get("/").await, app.get("/").await];
    assert_eq!((first.status, second.status), (200, 200));
    assert!(!app.output().contains("is left out"), "{}", app.output());
    let status = second.header("cache-status").unwrap();
    assert!(status.contains("hit"), "{status}");
}
