//! The numbers of `/cache` and `/metrics`: what the cache's layers and servers have done, and the latest decisions.

mod counters;
mod history;
mod metrics;
mod report;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use self::counters::Requests;
use self::history::History;
use neverstale::Cache;
use neverstale::version::VersionStats;
use neverstale_axum::Outcome;

pub use self::counters::{Connections, Cut, Open, Refusal};
pub use self::history::Point;
pub use self::report::{Layer, Report, Server, VersionChecks};

/// How many decisions are kept.
const DECISIONS: usize = 50;

/// Watches the cache from outside. Cheap to clone.
#[derive(Clone)]
pub struct Monitor(Arc<Shared>);

struct Shared {
    cache: Cache,
    strategy: String,
    sessions: String,
    gate: Box<dyn Fn() -> Option<VersionStats> + Send + Sync>,
    started: Instant,
    started_at: SystemTime,
    history: Mutex<History>,
    decisions: Mutex<VecDeque<Decision>>,
    registry: Registry,
    requests: Requests,
    connections: Connections,
}

/// What the cache did for a request, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// When the request was answered.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// The method.
    pub method: String,
    /// Path and query, cut if they are long.
    pub path: String,
    /// The status of the response.
    pub status: u16,
    /// The decision as in `Cache-Status`.
    pub outcome: String,
    /// How long the response took, in milliseconds.
    pub took_ms: f64,
}

impl Monitor {
    /// Returns a monitor of these parts. `gate` returns the statistics of version checks, if there are any.
    #[must_use]
    pub fn new(
        cache: &Cache,
        strategy: &impl ToString,
        sessions: &impl ToString,
        gate: impl Fn() -> Option<VersionStats> + Send + Sync + 'static,
    ) -> Self {
        let mut registry = Registry::with_prefix("tasklist");
        Self(Arc::new(Shared {
            cache: cache.clone(),
            strategy: strategy.to_string(),
            sessions: sessions.to_string(),
            gate: Box::new(gate),
            started: Instant::now(),
            started_at: SystemTime::now(),
            history: Mutex::default(),
            decisions: Mutex::default(),
            requests: Requests::register(&mut registry),
            connections: Connections::register(&mut registry),
            registry,
        }))
    }

    /// Samples the layers for their history, for ever.
    pub async fn watch(self) {
        loop {
            lock(&self.0.history).sample(&self.0.cache.stats());
            sleep(history::INTERVAL).await;
        }
    }

    /// Counts a response, and what the cache did for its page.
    pub fn count(&self, status: u16, outcome: Option<&Outcome>, took: Duration) {
        self.0.requests.count(status, outcome.map(Outcome::word), took);
    }

    /// Counts a response as one that was replayed.
    pub fn count_replay(&self) {
        self.0.requests.replayed.inc();
    }

    /// Returns the counters of connections.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.0.connections.clone()
    }

    /// Counts a refused request. Returns how many were refused for this reason so far.
    pub(crate) fn refuse(&self, refusal: Refusal) -> u64 {
        let counter = self.0.requests.refused(refusal);
        counter.inc();
        counter.get()
    }

    /// Counts a POST that was let in although the cache could not count it.
    pub fn pass_uncounted(&self) {
        self.0.requests.uncounted_posts.inc();
    }

    /// Keeps a decision among the latest.
    pub(crate) fn note(&self, decision: Decision) {
        let mut decisions = lock(&self.0.decisions);
        decisions.truncate(DECISIONS - 1);
        decisions.push_front(decision);
    }
}

fn as_rfc3339<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
