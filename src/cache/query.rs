//! Layer 1: a query's rows, kept under a key of their own until a write changes what the query would answer.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Cache, Key, Strategy, Ttl};

/// How long an old answer can live that a strategy's weakness left behind. Hygiene: see [`Strategy`].
const TTL: Ttl = Ttl::After(Duration::from_secs(300));

/// One cached query: where its answer is kept, and how a write becomes visible in it.
///
/// The answer may be empty or null: what counts is that it is there.
#[derive(Clone, Debug)]
pub struct CachedQuery {
    cache: Cache,
    key: Key,
    strategy: Strategy,
}

impl CachedQuery {
    /// Names the query.
    #[must_use]
    pub fn new(cache: Cache, key: Key, strategy: Strategy) -> Self {
        Self { cache, key, strategy }
    }

    /// Returns the cached answer, or else runs `query` and keeps what it answers.
    ///
    /// # Errors
    ///
    /// Those of `query`; nothing is kept then. The cache has none.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point it leaves the cache without the answer or with it.
    pub async fn get_or_run<T, E>(&self, query: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
    {
        if let Some(answer) = self.cache.get(&self.key).await {
            return Ok(answer);
        }
        let answer = query().await?;
        self.cache.set(&self.key, &answer, TTL).await;
        Ok(answer)
    }

    /// Makes a write visible. To be called after the commit, with the same `query` as [`get_or_run`](Self::get_or_run).
    ///
    /// It cannot fail: the write is done. Where the new answer cannot be had, the old one is deleted.
    ///
    /// # Cancel safety
    ///
    /// None: dropped half-way it may leave the old answer. Run it in a task of its own where the caller may vanish.
    pub async fn changed<T, E>(&self, query: impl AsyncFnOnce() -> Result<T, E>)
    where
        T: Serialize,
    {
        match self.strategy {
            Strategy::Delete => self.cache.delete(&self.key).await,
            Strategy::Update => match query().await {
                Ok(answer) => self.cache.set(&self.key, &answer, TTL).await,
                Err(_) => self.cache.delete(&self.key).await,
            },
        }
    }
}
