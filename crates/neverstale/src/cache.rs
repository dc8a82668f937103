//! The handle over a backend, and its options.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::backend::{Backend, ServerCheck, Ttl};
use super::integrity::Integrity;
use super::key::Key;
use super::options::CacheOptions;
use super::single_flight::Flights;
use super::stats::{Counters, Event, LayerStats};

/// The handle that everything cached goes through. Cheap to clone; no method fails.
///
/// # Cancel safety
///
/// Every operation may be dropped at any point. Whether its write has happened, or is yet to happen, is open then.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    options: Arc<CacheOptions>,
}

/// What all handles over one backend share.
struct Shared {
    backend: Arc<dyn Backend>,
    flights: Flights,
    layers: Mutex<Vec<(&'static str, Arc<Counters>)>>,
    /// What goes on after its caller has its value: storing it, and releasing locks.
    background: TaskTracker,
}

/// A [`Backend`], or one that other handles use as well, as `Arc<dyn Backend>`.
pub trait IntoBackend {
    /// Returns the backend as it is shared.
    fn into_backend(self) -> Arc<dyn Backend>;
}

impl<B: Backend> IntoBackend for B {
    fn into_backend(self) -> Arc<dyn Backend> {
        Arc::new(self)
    }
}

impl IntoBackend for Arc<dyn Backend> {
    fn into_backend(self) -> Self {
        self
    }
}

impl Cache {
    /// Creates a handle over a backend.
    pub fn new(backend: impl IntoBackend, options: CacheOptions) -> Self {
        let counters = Arc::<Counters>::default();
        let layers = Mutex::new(vec![("cache", Arc::clone(&counters))]);
        let shared = Arc::new(Shared {
            backend: backend.into_backend(),
            flights: Flights::default(),
            layers,
            background: TaskTracker::new(),
        });
        Self { shared, counters, options: Arc::new(options) }
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
        self.with(|options| options.prefix = options.prefix.namespace(namespace))
    }

    /// Returns a handle that waits for another process's build no longer than this, such as for a caller that has
    /// waited already.
    #[must_use]
    pub fn with_max_wait(&self, max_wait: Duration) -> Self {
        self.with(|options| options.max_wait = max_wait)
    }

    /// Returns a handle with an integrity of its own: for values that must not be forged, whatever the others need.
    #[must_use]
    pub fn with_integrity(&self, integrity: Integrity) -> Self {
        self.with(|options| options.integrity = integrity)
    }

    fn with(&self, change: impl FnOnce(&mut CacheOptions)) -> Self {
        let mut options = CacheOptions::clone(&self.options);
        change(&mut options);
        Self { options: Arc::new(options), ..self.clone() }
    }

    /// Returns the lifetime of values that have none of their own.
    #[must_use]
    pub fn default_ttl(&self) -> Ttl {
        self.options().default_ttl
    }

    /// Returns the limit on the bytes of a value in its envelope.
    #[must_use]
    pub fn largest_value(&self) -> usize {
        self.options().largest_value
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
            Event::Error => &counters.errors,
        }
        .add_one();
    }

    /// Waits for what goes on in the background, such as releasing locks and pending deletes, and then closes the
    /// backend. What is not done after `limit` is left undone.
    ///
    /// Outside a tokio runtime it does nothing. Call it once nothing else uses the cache. A backend that is closed may
    /// fail later operations, which are misses.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it leaves the backend open or closed, and what goes on in the background goes on. It may
    /// be called again.
    pub async fn close(&self, limit: Duration) {
        if Handle::try_current().is_err() {
            return;
        }
        let started = Instant::now();
        self.background().close();
        // Locks that are not released expire.
        let _ = timeout(limit, self.background().wait()).await;
        self.backend().close(limit.saturating_sub(started.elapsed())).await;
    }

    /// Returns how long another process's build is waited for.
    #[must_use]
    pub fn max_wait(&self) -> Duration {
        self.options.max_wait
    }

    /// Returns the backend, for tools: it takes and returns bare bytes, and its errors are told. Nothing is counted.
    ///
    /// ```
    /// use neverstale::{Cache, CacheOptions, Key, Ttl, backend::locmem::Locmem};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = Cache::new(Locmem::new(), CacheOptions::default());
    /// let visits = Key::new("visits")?;
    /// assert_eq!(cache.incr(&visits, 1).await, None);
    /// // A counter is bare, and made where there is none.
    /// cache.backend().add(&cache.name(&visits), "0".into(), Ttl::Never).await?;
    /// assert_eq!(cache.incr(&visits, 1).await, Some(1));
    /// assert_eq!(cache.backend().get(&cache.name(&visits)).await?.as_deref(), Some(&b"1"[..]));
    /// // Values of the cache are in an envelope, which a counter is not.
    /// assert_eq!(cache.get::<u64>(&visits).await, None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
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

    pub(super) fn background(&self) -> &TaskTracker {
        &self.shared.background
    }

    fn layers(&self) -> MutexGuard<'_, Vec<(&'static str, Arc<Counters>)>> {
        self.shared.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name under which the backend stores a key.
    #[must_use]
    pub fn name(&self, key: &Key) -> String {
        self.options.prefix.apply(key)
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
