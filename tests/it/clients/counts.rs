//! Counting in the cache, for all processes together.

use std::collections::BTreeSet;
use std::time::Duration;

use neverstale::backend::locmem::Locmem;
use neverstale::{Cache, CacheOptions, Key};

use crate::support::backends::both_clients;
use testkit::eventually;
use testkit::memcached::Memcached;

const MINUTE: Duration = Duration::from_secs(60);

/// Handles of two processes.
fn handles(memcached: &Memcached) -> Vec<Cache> {
    let backends = both_clients(&memcached.address(), false);
    backends.into_iter().map(|backend| Cache::over(backend, CacheOptions::default())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_that_begin_at_once_add_up() {
    let memcached = Memcached::start();
    let caches = handles(&memcached);
    for round in 0..20 {
        let key = Key::new(format!("n{round}")).unwrap();
        let counts =
            caches.iter().cycle().take(20).map(|cache| async { cache.count(&key, MINUTE).await.unwrap() });
        let counts: BTreeSet<_> = futures_util::future::join_all(counts).await.into_iter().collect();
        assert_eq!(counts, (1..=20).collect());
    }
}

#[tokio::test]
async fn a_count_ends_when_its_time_is_over_however_many_come() {
    let memcached = Memcached::start();
    let mut caches = handles(&memcached);
    caches.push(Cache::new(Locmem::new(), CacheOptions::default()));
    for (number, cache) in caches.iter().enumerate() {
        let key = Key::new(format!("n{number}")).unwrap();
        for expected in 1..=3 {
            assert_eq!(cache.count(&key, Duration::from_secs(2)).await, Some(expected), "{cache}");
        }
        eventually("it begins anew", async || cache.count(&key, Duration::from_secs(2)).await == Some(1))
            .await;
    }
}

#[tokio::test]
async fn a_count_is_unknown_if_the_cache_fails() {
    let mut memcached = Memcached::start();
    let caches = handles(&memcached);
    let key = Key::new("n").unwrap();
    memcached.client().set("n", "no number", 0).unwrap();
    for cache in &caches {
        assert_eq!(cache.count(&key, MINUTE).await, None, "{cache}");
    }
    memcached.kill();
    for cache in &caches {
        assert_eq!(cache.count(&key, MINUTE).await, None, "{cache}");
    }
}
