//! Layer 1: a query's rows, kept under a key of their own until a write changes what the query would answer.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Cache, Key, Strategy};

/// One cached query that answers a `T`: where the answer is kept, and how a write becomes visible in it.
///
/// The answer may be empty or null: what counts is that it is there.
pub struct CachedQuery<T> {
    cache: Cache,
    key: Key,
    strategy: Strategy,
    answer: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> CachedQuery<T> {
    /// Names the query.
    #[must_use]
    pub fn new(cache: &Cache, key: Key, strategy: Strategy) -> Self {
        Self { cache: cache.counted_as("query"), key, strategy, answer: PhantomData }
    }

    /// Returns the cached answer, or else runs `query` and keeps what it answers: once, however many ask meanwhile (see
    /// [`Cache::get_or_set`]).
    ///
    /// # Errors
    ///
    /// Those of `query`; nothing is kept then. The cache has none.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point it leaves the cache without the answer or with it.
    pub async fn get_or_set<E>(&self, query: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        self.cache.get_or_set(&self.key, self.cache.default_ttl(), query).await
    }

    /// Makes a write visible. To be called after the commit, with the same `query` as [`get_or_set`](Self::get_or_set).
    ///
    /// It cannot fail: the write is done. Where the new answer cannot be had, the old one is deleted.
    ///
    /// # Cancel safety
    ///
    /// None: dropped half-way it may leave the old answer. Run it in a task of its own where the caller may vanish.
    pub async fn changed<E: fmt::Display>(&self, query: impl AsyncFnOnce() -> Result<T, E>) {
        match self.strategy {
            Strategy::Delete => self.forget().await,
            Strategy::Update => match query().await {
                Ok(answer) => self.cache.set(&self.key, &answer, self.cache.default_ttl()).await,
                Err(error) => {
                    tracing::warn!(cache.key = %self.key, "deleted, since the new answer could not be had: {error}");
                    self.forget().await;
                }
            },
        }
    }

    /// Deletes the answer, whatever the strategy: for a write of which it is not known whether it happened.
    ///
    /// # Cancel safety
    ///
    /// As [`changed`](Self::changed).
    pub async fn forget(&self) {
        self.cache.invalidate(&self.key).await;
    }
}

impl<T> Clone for CachedQuery<T> {
    fn clone(&self) -> Self {
        let Self { cache, key, strategy, answer } = self;
        Self { cache: cache.clone(), key: key.clone(), strategy: *strategy, answer: *answer }
    }
}
