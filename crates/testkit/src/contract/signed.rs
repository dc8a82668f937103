//! Values that are signed: whoever has the secret reads them, under their own names, and nobody else does.

use std::sync::Arc;

use neverstale::backend::Backend;
use neverstale::{Cache, CacheOptions, Integrity, Key};

use super::MINUTE;
use crate::stores::Store;

fn cache(backend: &Arc<dyn Backend>, seal: Integrity) -> Cache {
    Cache::new(backend.clone(), CacheOptions::default().integrity(seal))
}

fn signed(backend: &Arc<dyn Backend>) -> Cache {
    cache(backend, seal(b"a secret of thirty-two bytes or more"))
}

fn seal(secret: &[u8]) -> Integrity {
    Integrity::signed(&secret.try_into().unwrap())
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn unreadable(cache: &Cache) -> u64 {
    cache.stats().iter().map(|stats| stats.unreadable).sum()
}

pub async fn what_is_signed_is_read_by_those_with_the_secret(Store { backend, other, .. }: &Store) {
    let (one, other) = (signed(backend), signed(other));
    // Some of them are compressed, and the last has a name that is hashed.
    let long = "task ".repeat(20_000);
    let pairs = ["a".to_owned(), "b".to_owned(), "é".repeat(300)].map(|name| (key(&name), long.clone()));
    let keys: Vec<_> = pairs.iter().map(|(key, _)| key.clone()).collect();
    one.set_many(&pairs, MINUTE).await;
    assert_eq!(other.get_many(&keys).await, vec![Some(long); 3]);
    assert!(other.replace(&keys[0], "short", MINUTE).await);
    assert_eq!(one.get(&keys[0]).await, Some(String::from("short")));
    assert!(!one.add(&keys[0], "later", MINUTE).await);
    let build = async || Ok::<_, std::convert::Infallible>(7);
    assert_eq!(one.get_or_set(&key("built"), MINUTE, build).await, Ok(7));
    assert_eq!(other.get(&key("built")).await, Some(7));
    assert_eq!((unreadable(&one), unreadable(&other)), (0, 0));
}

pub async fn what_is_signed_is_a_miss_to_everybody_else(Store { backend, other, .. }: &Store) {
    signed(backend).set(&key("k"), &1, MINUTE).await;
    for stranger in
        [cache(other, Integrity::default()), cache(other, seal(b"another secret of thirty-two bytes"))]
    {
        assert_eq!(stranger.get::<i64>(&key("k")).await, None);
        assert_eq!(unreadable(&stranger), 1);
        stranger.set(&key("k"), &2, MINUTE).await;
        assert_eq!(signed(backend).get::<i64>(&key("k")).await, None);
        signed(backend).set(&key("k"), &1, MINUTE).await;
    }
    assert_eq!(signed(other).get(&key("k")).await, Some(1));
}

pub async fn what_is_signed_counts_under_its_own_name_only(Store { backend, .. }: &Store) {
    let cache = signed(backend);
    cache.set(&key("a"), &1, MINUTE).await;
    let envelope = backend.get("a").await.unwrap().unwrap();
    backend.set("b", envelope.clone(), MINUTE).await.unwrap();
    backend.set("~v2:a", envelope, MINUTE).await.unwrap();
    assert_eq!(cache.get(&key("a")).await, Some(1));
    assert_eq!(cache.get::<i64>(&key("b")).await, None);
    assert_eq!(cache.namespace(2).get::<i64>(&key("a")).await, None);
    assert_eq!(unreadable(&cache), 2);
}
