//! Sessions in the cache alone: nothing else to write to, and gone when the cache is.

use async_trait::async_trait;

use super::Error;
use super::store::{Acceptable, Name, Replaced, Store, Stored};
use neverstale::{Cache, Key};

/// Keeps sessions in the cache. Where the cache fails, a request goes on without its session.
#[derive(Clone, Debug)]
pub struct CacheStore {
    cache: Cache,
}

impl CacheStore {
    /// Keeps sessions in this cache.
    #[must_use]
    pub fn new(cache: &Cache) -> Self {
        Self { cache: cache.counted_as("sessions") }
    }
}

/// Returns where a session is in a cache.
pub(super) fn key(name: &Name) -> Key {
    Key::reserved("session.", name.as_str())
}

#[async_trait]
impl Store for CacheStore {
    async fn add(&self, session: &Stored) -> Result<bool, Error> {
        self.cache.try_add(&key(&session.name), session, session.ttl()).await.ok_or(Error::Cache)
    }

    async fn get(&self, name: &Name, _: Acceptable) -> Result<Option<Stored>, Error> {
        let found: Option<Stored> = self.cache.try_get(&key(name)).await.ok_or(Error::Cache)?;
        Ok(found.filter(|session| session.name == *name && !session.is_over()))
    }

    /// Without comparing: the later one wins. A cache that counts in seconds may still have what is over.
    async fn replace(&self, old: Option<&Stored>, new: &Stored) -> Result<Replaced, Error> {
        if old.is_some_and(Stored::is_over) {
            return Ok(Replaced::Gone);
        }
        let replaced = self.cache.try_replace(&key(&new.name), new, new.ttl()).await;
        Ok(if replaced.ok_or(Error::Cache)? { Replaced::Done } else { Replaced::Gone })
    }

    async fn delete(&self, name: &Name) -> Result<(), Error> {
        self.cache.delete(&key(name)).await;
        Ok(())
    }

    async fn clear_expired(&self, _: usize) -> Result<usize, Error> {
        Ok(0)
    }

    fn describe(&self) -> &'static str {
        "cache, gone when the cache is emptied"
    }
}
