//! Caching that is slower when it fails, and never an error.
//!
//! # What is here
//!
//! A [`Cache`] is a handle over one [`Backend`]: in this process, or memcached. What the app keeps goes through it as a
//! typed value under a checked [`Key`] with a [`Ttl`].
//!
//! ```text
//!   view ── CachedQuery ──┐
//!           (strategy)    ├── Cache ────────── Backend ─┬─ locmem
//!                         │   prefix, envelope,         ├─ memcached, our own client
//!                         │   fail-safe, counters       └─ memcached, the memcache crate
//! ```
//!
//! # What people trip over
//!
//! - **A miss is data.** [`Cache::get`] answers `None`; whether there was no value, one of another format, or no server
//!   makes no difference to the caller. It does to the counters and the log.
//! - **Nothing is an answer too.** A cached empty list and a cached null are hits.
//! - **A write that fails owes a delete.** A server that could not take a new value may hold the old one. It is left
//!   out until it has deleted it, so what this process overwrote during an outage it does not read after it.
//! - **A value that is too large** leaves nothing behind, not the older value either, and is counted.
//! - **Keys are checked** where they are made: what holds a blank or a control character never reaches a server.
//!
//! # What it does not do
//!
//! It does not keep concurrent misses from running the same query, and what a [`Strategy`] does not guarantee is
//! written there.

pub mod backend;
mod codec;
mod key;
pub mod query;
mod raw;
mod stats;
mod strategy;
mod ttl;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::backend::{Backend, ServerCheck};

pub use self::key::{InvalidKey, Key, KeyPrefix};
pub use self::raw::Raw;
pub use self::stats::Stats;
pub use self::strategy::Strategy;
pub use self::ttl::Ttl;

/// The handle that everything cached goes through. Cheap to clone; no method fails.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    backend: Box<dyn Backend>,
    prefix: KeyPrefix,
    stats: Stats,
}

impl Cache {
    /// Puts a handle over a backend. All its keys get the prefix.
    pub fn new(backend: impl Backend, prefix: KeyPrefix) -> Self {
        Self(Arc::new(Inner { backend: Box::new(backend), prefix, stats: Stats::default() }))
    }

    /// Returns the value of a key, if there is one, it is a `T`, and the backend answers.
    pub async fn get<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        let found = self.forgive(key, self.backend().get(&self.name(key)).await).flatten();
        let value = found.as_deref().and_then(codec::decode);
        if found.is_some() && value.is_none() {
            self.0.stats.unreadable.add_one();
            tracing::debug!(cache.key = %key, "a value that is not ours, or damaged, is a miss");
        }
        let outcome = if value.is_some() { &self.0.stats.hits } else { &self.0.stats.misses };
        outcome.add_one();
        tracing::debug!(cache.key = %key, hit = value.is_some(), "cache get");
        value
    }

    /// Stores a value. If that fails, no older value is left behind.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &Key, value: &T, ttl: Ttl) {
        let name = self.name(key);
        let envelope = match codec::encode(value) {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(cache.key = %key, %error, "a value that cannot be encoded is left uncached");
                return self.delete(key).await;
            }
        };
        if self.forgive(key, self.0.backend.set(&name, envelope, ttl).await).is_some() {
            self.0.stats.fills.add_one();
        }
    }

    /// Removes a key. If that fails, the key stays unread until it could be removed.
    pub async fn delete(&self, key: &Key) {
        if self.forgive(key, self.backend().delete(&self.name(key)).await).is_some() {
            self.0.stats.deletes.add_one();
        }
    }

    /// Returns a view for tools: raw values, and errors.
    #[must_use]
    pub fn raw(&self) -> Raw<'_> {
        Raw(self)
    }

    fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }

    /// Returns the name under which the backend stores a key.
    fn name(&self, key: &Key) -> String {
        self.0.prefix.apply(key)
    }

    /// Tries every server of the backend once.
    pub async fn check(&self) -> Vec<ServerCheck> {
        self.0.backend.check().await
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// Makes a miss of an error, and counts it. An outage is logged where it is noticed, once and not per operation.
    fn forgive<T>(&self, key: &Key, result: Result<T, backend::Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if !error.kind.is_outage() => {
                self.0.stats.refused.add_one();
                tracing::warn!(cache.key = %key, "left uncached: {error}");
                None
            }
            Err(error) => {
                self.0.stats.errors.add_one();
                tracing::debug!(cache.key = %key, "cache operation failed: {error}");
                None
            }
        }
    }
}

/// Says what and where the backend is.
impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.backend.describe())
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({self})")
    }
}
