//! Layer 1: a query's rows, kept until a write changes them.
//!
//! ```
//! use std::convert::Infallible;
//! use neverstale::{Cache, CacheOptions, Key, Strategy};
//! use neverstale::{backend::locmem::Locmem, query::CachedQuery};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::new(Locmem::new(), CacheOptions::default());
//! let key = Key::new("tasks.all")?;
//! let tasks = CachedQuery::<Vec<String>, Infallible>::new(&cache, key, Strategy::Delete);
//! assert!(tasks.get_or_set(async || Ok(vec![])).await?.is_empty());
//! // A task is added, and only then the cache is told.
//! let query = async || Ok(vec!["milk".to_owned()]);
//! tasks.changed(query).await;
//! assert_eq!(tasks.get_or_set(query).await?, ["milk"]);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::{Joined, Look};
use super::codec::from_json;
use super::key::random_token;
#[cfg(fault_injection)]
use super::mistake::Mistake;
use super::strategy::VERSIONED;
use super::version::Versions;
use super::{Cache, Key, Strategy, Ttl};

/// One cached query that returns a `T`: where its result is kept, and how a write becomes visible in it.
///
/// An empty result is a result, and so is null. `E` is the error of the query.
pub struct CachedQuery<T, E> {
    cache: Cache,
    key: Key,
    /// The current version, if the caller knows it.
    known: Option<Arc<str>>,
    freshness: Arc<Freshness<T, E>>,
}

enum Freshness<T, E> {
    /// Writers invalidate.
    ByHand(Strategy),
    /// Readers ask for the current version. `label` returns the version of a result.
    Versioned { versions: Versions<E>, label: fn(&T) -> String },
}

impl<T: Serialize + DeserializeOwned, E: Clone + Send + Sync + 'static> CachedQuery<T, E> {
    /// Names a query whose writers tell the cache of changes, in the way of a strategy.
    ///
    /// Writers must call [`changed`](Self::changed). A query that is kept by version is made by
    /// [`versioned`](Self::versioned) instead, and is no strategy of this constructor:
    ///
    /// ```compile_fail
    /// # use std::convert::Infallible;
    /// # use neverstale::{Cache, CacheOptions, Key, Strategy, backend::dummy::Dummy, query::CachedQuery};
    /// # let (cache, key) = (Cache::new(Dummy, CacheOptions::default()), Key::new("tasks.all").unwrap());
    /// let query = CachedQuery::<Vec<String>, Infallible>::new(&cache, key, Strategy::Versioned);
    /// ```
    #[must_use]
    pub fn new(cache: &Cache, key: Key, strategy: Strategy) -> Self {
        Self::with(cache, key, Freshness::ByHand(strategy))
    }

    /// Names a query whose answers are kept by version: `label` returns that of an answer, which must have been read
    /// together with it.
    #[must_use]
    pub fn versioned(cache: &Cache, key: Key, versions: Versions<E>, label: fn(&T) -> String) -> Self {
        Self::with(cache, key, Freshness::Versioned { versions, label })
    }

    fn with(cache: &Cache, key: Key, freshness: Freshness<T, E>) -> Self {
        Self { cache: cache.counted_as("query"), key, known: None, freshness: Arc::new(freshness) }
    }

    /// Returns the same query for a caller that waits for another process's run of it no longer than this.
    #[must_use]
    pub fn with_max_wait(&self, max_wait: Duration) -> Self {
        Self { cache: self.cache.with_max_wait(max_wait), ..self.clone() }
    }

    /// Returns the same query for a caller that has learned the current version since it began. With `None` the query
    /// asks for the version itself.
    #[must_use]
    pub fn at(&self, version: Option<Arc<str>>) -> Self {
        Self { known: version, ..self.clone() }
    }

    /// Returns the cached answer, or else runs `query` and keeps its answer: once for all callers that miss it at once
    /// (see [`Cache::get_or_set`]).
    ///
    /// # Errors
    ///
    /// Those of `query`, and of asking for the version; nothing is kept then. The cache has none.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point it leaves the cache without the answer or with it.
    pub async fn get_or_set(&self, query: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        match &*self.freshness {
            Freshness::ByHand(strategy) => {
                let ttl = strategy.ttl(self.cache.default_ttl());
                match self.current_key(*strategy).await {
                    Some(key) => self.cache.get_or_set(&key, ttl, query).await,
                    None => query().await,
                }
            }
            Freshness::Versioned { versions, label } => self.get_or_set_version(versions, label, query).await,
        }
    }

    /// Returns the result of the current version. The query may read a newer one than the one asked for: its label says
    /// which, and under that its result is stored.
    ///
    /// The version is asked for first, unless the caller knows it, and once more after another process has been waited
    /// for.
    async fn get_or_set_version(
        &self,
        versions: &Versions<E>,
        label: impl Fn(&T) -> String,
        query: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let (cache, mut known) = (&self.cache, self.known.clone());
        let query = || {
            cache.counters().builds.add_one();
            query()
        };
        let mut has_waited = false;
        loop {
            // A caller that knows the version misses its page, and so most likely the result as well.
            let look = if known.is_some() { Look::First } else { Look::Again };
            let version = match known.take() {
                Some(version) => version,
                None => versions.current().await?,
            };
            let versioned = self.key.at(&version);
            if look == Look::Again
                && let Some(value) = cache.get(&versioned).await
            {
                return Ok(value);
            }
            let shared = &versioned;
            #[cfg(fault_injection)]
            let shared = if Mistake::ListFlightWithoutVersion.is_made() { &self.key } else { shared };
            let flight = cache.join(shared);
            match flight.wait(&versioned, look, cache.max_wait(), |value| from_json(&value)).await {
                Joined::Value { value, .. } => return Ok(value),
                Joined::Failed(failure) => match failure.error() {
                    Some(error) => return Err(error),
                    None => return query().await,
                },
                // The process that was waited for may have stored a newer version than the one asked for.
                Joined::Build(permit) if permit.has_waited && !has_waited => {
                    has_waited = true;
                    permit.end(None).await;
                }
                Joined::Build(permit) => {
                    let (permit, value) = permit.build(query()).await?;
                    let key = self.key.at(&label(&value));
                    #[cfg(fault_injection)]
                    let key = if Mistake::ListUnderAskedVersion.is_made() { versioned } else { key };
                    match cache.encode(&key, &value) {
                        Some(built) => {
                            let (storing, stored) = (cache.clone(), built.clone());
                            permit.end_after(
                                cache,
                                built,
                                async move { storing.store(&stored, VERSIONED).await },
                            );
                        }
                        None => permit.end(None).await,
                    }
                    return Ok(value);
                }
                Joined::BuildAlone => return query().await,
            }
        }
    }

    /// Makes a write visible. To be called after the commit, with the same `query` as [`get_or_set`](Self::get_or_set).
    /// Does nothing where readers ask for the version.
    ///
    /// It cannot fail: the write is done. Where the new answer cannot be had, the old one is deleted.
    ///
    /// # Cancel safety
    ///
    /// None: dropped half-way it may leave the old answer. Run it in a task of its own where the caller may vanish.
    pub async fn changed(&self, query: impl AsyncFnOnce() -> Result<T, E>)
    where
        E: fmt::Display,
    {
        if !matches!(*self.freshness, Freshness::ByHand(Strategy::Update)) {
            return self.forget().await;
        }
        match query().await {
            Ok(answer) => self.cache.set(&self.key, &answer, self.cache.default_ttl()).await,
            Err(error) => {
                tracing::warn!(cache.key = %self.key, "deleted, since the new answer could not be had: {error}");
                self.forget().await;
            }
        }
    }

    /// Invalidates the answer. Call it when the outcome of a write is unknown. It does nothing where answers are left
    /// to expire, or are kept by version.
    ///
    /// # Cancel safety
    ///
    /// As [`changed`](Self::changed).
    pub async fn forget(&self) {
        let Freshness::ByHand(strategy) = *self.freshness else { return };
        match strategy {
            Strategy::Expire => {}
            Strategy::Delete | Strategy::Update => self.cache.invalidate(&self.key).await,
            Strategy::Rotate => self.cache.set(&self.key.token(), &random_token(), Ttl::Never).await,
        }
    }

    /// Returns the key of the answer; none if it cannot be told, since the cache fails.
    async fn current_key(&self, strategy: Strategy) -> Option<Key> {
        if strategy != Strategy::Rotate {
            return Some(self.key.clone());
        }
        let name = self.key.token();
        let mut token: Option<String> = self.cache.get(&name).await;
        if token.is_none() {
            let new = random_token();
            token = if self.cache.add(&name, &new, Ttl::Never).await {
                Some(new)
            } else {
                match self.cache.try_get(&name).await {
                    // A program with another format has left one, which would be unreadable for ever.
                    Some(None) => {
                        self.cache.set(&name, &new, Ttl::Never).await;
                        self.cache.get(&name).await
                    }
                    // Another process was first.
                    found => found.flatten(),
                }
            };
        }
        token.map(|token| self.key.derive("@", &token))
    }
}

impl<T, E> Clone for CachedQuery<T, E> {
    fn clone(&self) -> Self {
        let (cache, key, known) = (self.cache.clone(), self.key.clone(), self.known.clone());
        Self { cache, key, known, freshness: Arc::clone(&self.freshness) }
    }
}
