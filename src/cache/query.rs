//! Layer 1: a query's rows, kept under a key of their own until a write changes what the query would answer.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Cache, Key, Strategy, Ttl};

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
        let ttl = self.strategy.ttl(self.cache.default_ttl());
        match self.current_key().await {
            Some(key) => self.cache.get_or_set(&key, ttl, query).await,
            None => query().await,
        }
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
            Strategy::Expire | Strategy::Delete | Strategy::Rotate => self.forget().await,
            Strategy::Update => match query().await {
                Ok(answer) => self.cache.set(&self.key, &answer, self.cache.default_ttl()).await,
                Err(error) => {
                    tracing::warn!(cache.key = %self.key, "deleted, since the new answer could not be had: {error}");
                    self.forget().await;
                }
            },
        }
    }

    /// Lets nobody read the answer any more (but does nothing where answers are left to expire): for a write of which it
    /// is not known whether it happened.
    ///
    /// # Cancel safety
    ///
    /// As [`changed`](Self::changed).
    pub async fn forget(&self) {
        match self.strategy {
            Strategy::Expire => {}
            Strategy::Delete | Strategy::Update => self.cache.invalidate(&self.key).await,
            Strategy::Rotate => self.cache.set(&self.key.token(), &random_token(), Ttl::Never).await,
        }
    }

    /// Returns the key of the answer; none if it cannot be told, since the cache fails.
    async fn current_key(&self) -> Option<Key> {
        if self.strategy != Strategy::Rotate {
            return Some(self.key.clone());
        }
        let name = self.key.token();
        let mut token: Option<String> = self.cache.get(&name).await;
        if token.is_none() {
            let new = random_token();
            let is_ours = self.cache.add(&name, &new, Ttl::Never).await;
            // Whoever was first has it right.
            token = if is_ours { Some(new) } else { self.cache.get(&name).await };
        }
        token.and_then(|token| Key::new(format!("{}.{token}", self.key)).ok())
    }
}

/// Returns a token that was never used and never will be.
pub(super) fn random_token() -> String {
    format!("{:016x}", fastrand::u64(..))
}

impl<T> Clone for CachedQuery<T> {
    fn clone(&self) -> Self {
        let Self { cache, key, strategy, answer } = self;
        Self { cache: cache.clone(), key: key.clone(), strategy: *strategy, answer: *answer }
    }
}
