//! The handle over a backend, and its options.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::backend::{Backend, ServerCheck};
use super::integrity::Integrity;
use super::key::{Key, KeyPrefix};
use super::single_flight::Flights;
use super::stats::{Counters, Event, LayerStats};
use super::ttl::Ttl;

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
    /// How cached values are protected. By a checksum by default.
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

    pub(super) fn backend(&self) -> &Arc<dyn Backend> {
        &self.shared.backend
    }

    pub(super) fn options(&self) -> &CacheOptions {
        &self.options
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn flights(&self) -> &Flights {
        &self.shared.flights
    }

    fn layers(&self) -> MutexGuard<'_, Vec<(&'static str, Arc<Counters>)>> {
        self.shared.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name under which the backend stores a key.
    pub(super) fn name(&self, key: &Key) -> String {
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
