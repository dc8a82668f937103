//! Sessions in the cache alone: gone when the cache is emptied.

use async_trait::async_trait;

use super::error::Error;
use super::store::{Replaced, Store, Stored};
use neverstale::{Cache, Key};

pub(super) struct CacheStore(pub(super) Cache);

/// Returns the key of a session in a cache.
pub(super) fn key(name: &str) -> Key {
    Key::reserved("session.", name)
}

#[async_trait]
impl Store for CacheStore {
    async fn add(&self, session: &Stored) -> Result<bool, Error> {
        self.0.try_add(&key(&session.name), session, session.ttl()).await.ok_or(Error::Cache)
    }

    async fn get(&self, name: &str) -> Result<Option<Stored>, Error> {
        let found: Option<Stored> = self.0.try_get(&key(name)).await.ok_or(Error::Cache)?;
        Ok(found.filter(|session| session.name == name && !session.is_expired()))
    }

    /// Compares nothing, as caches cannot: the later change wins.
    async fn replace(&self, old: Option<&Stored>, new: &Stored) -> Result<Replaced, Error> {
        // A cache that counts in seconds may still hold an expired session.
        if old.is_some_and(Stored::is_expired) {
            return Ok(Replaced::Gone);
        }
        let replaced = self.0.try_replace(&key(&new.name), new, new.ttl()).await;
        Ok(if replaced.ok_or(Error::Cache)? { Replaced::Done } else { Replaced::Gone })
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        self.0.delete(&key(name)).await;
        Ok(())
    }
}
