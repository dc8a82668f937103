//! A cache that makes a call slower when it fails, never wrong and never an error.
//!
//! # What is here
//!
//! A [`Cache`] is a handle over one [`Backend`]. What an application keeps goes through it as a typed value under a
//! checked [`Key`] with a [`Ttl`]. Two layers over it are here: a query's rows, and the fragments of a page rendered
//! from them. A third, whole pages, is the crate `neverstale-axum`.
//!
//! ```text
//!   layer 1  query::CachedQuery ──┐                           ┌─ locmem     this process
//!            rows, by a Strategy  │                           ├─ memcached  servers (feature `memcached`)
//!   layer 2  fragment::Fragments ─┼─► Cache ─────► Backend ───┼─ file       files below a directory
//!            rendered fragments   │   typed        bytes      ├─ dummy      nowhere
//!   layer 3  neverstale-axum ─────┘   values       by name    └─ yours
//!            whole pages                           ▲
//!   tools    Raw: bare bytes, and errors ──────────┘
//! ```
//!
//! The handle puts a prefix before the key and an envelope around the value, lets one build for all, counts, and makes
//! a miss of every error.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use neverstale::{Cache, CacheOptions, Key, Ttl, backend::locmem::Locmem};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::new(Locmem::new(), CacheOptions::default());
//! let key = Key::new("answer")?;
//! let slow = async || Ok::<u64, Infallible>(42);
//! assert_eq!(cache.get_or_set(&key, Ttl::After(Duration::from_secs(60)), slow).await?, 42);
//! assert_eq!(cache.get(&key).await, Some(42_u64));
//! # Ok(())
//! # }
//! ```
//!
//! # The steps of `get_or_set`
//!
//! 1. *Look.* A hit ends here, after one round trip.
//! 2. *Queue in this process.* One of all who miss the key builds; the others wait for what it makes.
//! 3. *Ask the other processes.* The builder adds `KEY~lock` to the backend, which lives for three seconds and is
//!    renewed while it builds. Whoever gets it looks once more: the one before may have stored the value.
//! 4. *Wait for theirs.* Whoever does not get it looks for value and lock every 5 to 100 ms, with jitter, until either
//!    the value is there or the lock is gone.
//! 5. *Build.* If the backend cannot be asked, without a lock: once per process.
//! 6. *Store,* unless the key was written to meanwhile; hand the value to those who wait; delete the lock.
//!
//! Nobody waits longer than [`CacheOptions::max_wait`] for another process: a lock that nobody renews costs time and
//! nothing else. For those before it in its own process, who are alive, one waits as long, and ten seconds at least. A
//! build that fails is the error of all who waited for it in its process: an outage costs them one timeout together and
//! not one each. A caller that leaves, or whose build panics, lets the next one build.
//!
//! # Freshness
//!
//! Values are kept under the [`version`] of the data that they were made of, and the database says which is the current
//! one: then nothing in the cache is ever wrong. Where there are no versions, writers tell the cache by a [`Strategy`].
//!
//! # What people trip over
//!
//! - **A miss is data.** [`Cache::get`] answers `None`; whether there was no value, one of another format, or no server
//!   makes no difference to the caller. It does to the counters and the log.
//! - **Nothing is an answer too.** A cached empty list and a cached null are hits.
//! - **A write that fails leaves a pending delete.** A server that could not take a new value, or refused it, may hold
//!   the old one. Until it has deleted it this process does not read the key, so what was overwritten during an outage
//!   is not read after it.
//! - **A value that is too large** leaves nothing behind, not the older value either, and is counted.
//! - **Keys are checked** where they are made: what holds a blank or a control character never reaches a server. What
//!   the cache stores beside its users' values has a `~` in its name, and no key of a user ever names it.
//! - **Sharing a build is sharing its age.** Who misses after another process has written may be given what was read
//!   before. What a [`Strategy`] does not guarantee is written there.
//! - **A fragment's key has all that it shows,** and a digest of its template, so a fragment is never old. What is left
//!   out of the key must never change.
//! - **Counters, locks and raw values are bare.** [`Cache::get`] does not read what [`Raw`] stores, nor the reverse.
//! - **A checksum finds damage and no malice.** Whoever can write to the servers can make a value, unless it is
//!   [signed](Integrity::signed); and even then bring an old one back.
//! - **[`Cache::clear`] empties the servers,** whoever else is on them; a prefix keeps names apart and nothing more.
//!
//! # How to add a backend
//!
//! Implement [`Backend`], whose documentation is the contract. What other backends needed as well is in [`backend`]:
//! limits, numbers as memcached reads them, and a [`Breaker`](backend::breaker::Breaker) for a store that can fail.
//! [`Cache::new`] takes it.
//!
//! # Limits
//!
//! A name has 250 bytes: a longer key is hashed. A value has [`LARGEST_VALUE`](backend::LARGEST_VALUE) bytes in its
//! envelope, compressed from 16 KiB on, and 32 MiB before that. Lifetimes are exact to a second. An operation takes
//! 750 ms at most, and on memcached what the options of the client say. There is no compare-and-swap,
//! and nothing is ordered between processes.
//!
//! Next: [`version`], why versioned values are never wrong.

pub mod backend;
pub mod build;
mod build_lock;
mod codec;
mod count;
mod envelope;
pub mod fragment;
mod get_or_set;
mod integrity;
mod key;
mod mistake;
pub mod query;
mod raw;

mod secret;
mod single_flight;
pub mod stats;
mod strategy;
mod sync;
mod ttl;
mod verbs;
pub mod version;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::backend::{Backend, ServerCheck};
use self::single_flight::Flights;
use self::stats::Counters;

pub use self::envelope::Envelope;
pub use self::integrity::Integrity;
pub use self::key::{InvalidKey, Key, KeyPrefix};
#[cfg(fault_injection)]
pub use self::mistake::is_chosen as makes_mistake;
pub use self::raw::Raw;
pub use self::secret::{Secret, WeakSecret};
pub use self::stats::{Event, Latency, LayerStats};
pub use self::strategy::{Strategy, VERSIONED};
pub use self::ttl::Ttl;

/// The handle that everything cached goes through. Cheap to clone; no method fails.
///
/// # Cancel safety
///
/// Every operation may be dropped at any point. Whether its write has happened, or is yet to happen, is open then.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
    prefix: KeyPrefix,
    counters: Arc<Counters>,
    max_wait: Duration,
    options: Arc<CacheOptions>,
}

/// What all handles over one backend share.
struct Shared {
    backend: Arc<dyn Backend>,
    flights: Flights,
    layers: Mutex<Vec<(&'static str, Arc<Counters>)>>,
}

/// How a cache is used, whatever its backend.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Before every key. Empty by default.
    pub prefix: KeyPrefix,
    /// For values that have none of their own. Five minutes by default, as in Django.
    pub default_ttl: Ttl,
    /// Values of so many bytes and more are compressed, with the feature `compression`. 16 KiB by default.
    pub compress_from: usize,
    /// So many bytes are read by one call at most, counted decompressed. What is beyond is a miss: a server could have
    /// made of little much. 64 MiB by default.
    pub largest_read: usize,
    /// How what the app itself has stored is known. By a checksum by default.
    pub integrity: Integrity,
    /// How long another process's build of a value is waited for, before it is built here as well. Ten seconds by
    /// default. Where callers have a time limit, let this be shorter by what a build takes.
    pub max_wait: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        let default_ttl = Ttl::After(Duration::from_secs(300));
        let (prefix, integrity) = Default::default();
        Self {
            prefix,
            default_ttl,
            compress_from: 16 * 1024,
            largest_read: 64 * 1024 * 1024,
            integrity,
            max_wait: Duration::from_secs(10),
        }
    }
}

impl Cache {
    /// Puts a handle over a backend.
    pub fn new(backend: impl Backend, options: CacheOptions) -> Self {
        Self::over(Arc::new(backend), options)
    }

    /// Puts a handle over a backend that others use as well.
    pub fn over(backend: Arc<dyn Backend>, options: CacheOptions) -> Self {
        let counters = Arc::<Counters>::default();
        Self {
            prefix: options.prefix.clone(),
            max_wait: options.max_wait,
            options: Arc::new(options),
            shared: Arc::new(Shared {
                backend,
                flights: Flights::default(),
                layers: Mutex::new(vec![("cache", Arc::clone(&counters))]),
            }),
            counters,
        }
    }

    /// Returns a handle whose operations are counted apart, under this name.
    #[must_use]
    pub fn counted_as(&self, name: &'static str) -> Self {
        let mut layers = self.layers();
        let known = layers.iter().find(|(layer, _)| *layer == name).map(|(_, counters)| Arc::clone(counters));
        let counters = known.unwrap_or_else(|| {
            let counters = Arc::<Counters>::default();
            layers.push((name, Arc::clone(&counters)));
            counters
        });
        Self { counters, ..self.clone() }
    }

    /// Returns a handle that sees the values of one namespace and none of the others. The first is that of every
    /// handle; its keys are as they are, the others' have `~v2:`, `~v3:`, … before them.
    #[must_use]
    pub fn namespace(&self, namespace: u32) -> Self {
        Self { prefix: self.options().prefix.namespace(namespace), ..self.clone() }
    }

    /// Returns a handle that waits for another process's build no longer than this: for somebody who has waited
    /// already.
    #[must_use]
    pub fn with_max_wait(&self, max_wait: Duration) -> Self {
        Self { max_wait, ..self.clone() }
    }

    /// Returns a handle with a seal of its own: for values that must not be forged, whatever the others need.
    #[must_use]
    pub fn with_integrity(&self, integrity: Integrity) -> Self {
        Self { options: Arc::new(CacheOptions { integrity, ..self.options().clone() }), ..self.clone() }
    }

    /// Returns a view for tools: raw values, and errors.
    #[must_use]
    pub fn raw(&self) -> Raw<'_> {
        Raw(self)
    }

    /// Returns the lifetime of values that have none of their own.
    #[must_use]
    pub fn default_ttl(&self) -> Ttl {
        self.options().default_ttl
    }

    /// Returns the numbers of each layer that has done something, since the start of the process.
    #[must_use]
    pub fn stats(&self) -> Vec<LayerStats> {
        let is_used = |stats: &LayerStats| stats.latency.count() + stats.hits + stats.misses > 0;
        self.stats_of_all().into_iter().filter(is_used).collect()
    }

    /// Returns the numbers of every layer, since the start of the process.
    #[must_use]
    pub fn stats_of_all(&self) -> Vec<LayerStats> {
        self.layers().iter().map(|(name, counters)| counters.snapshot(name)).collect()
    }

    /// Tries every server of the backend once.
    pub async fn check(&self) -> Vec<ServerCheck> {
        self.backend().check().await
    }

    /// Returns whether every value is dropped as soon as it is stored.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        self.backend().keeps_nothing()
    }

    /// Counts what a layer over the cache has done by itself.
    pub fn record(&self, event: Event) {
        let counters = self.counters();
        match event {
            Event::Hit => &counters.hits,
            Event::Miss => &counters.misses,
            Event::Build => &counters.builds,
            Event::Fill => &counters.fills,
        }
        .add_one();
    }

    /// Returns how long another process's build is waited for.
    #[must_use]
    pub fn max_wait(&self) -> Duration {
        self.max_wait
    }

    fn backend(&self) -> &Arc<dyn Backend> {
        &self.shared.backend
    }

    fn options(&self) -> &CacheOptions {
        &self.options
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn flights(&self) -> &Flights {
        &self.shared.flights
    }

    fn layers(&self) -> MutexGuard<'_, Vec<(&'static str, Arc<Counters>)>> {
        self.shared.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name under which the backend stores a key.
    fn name(&self, key: &Key) -> String {
        self.prefix.apply(key)
    }
}

/// Says what and where the backend is.
impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.backend().describe())
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({self})")
    }
}

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
