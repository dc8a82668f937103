//! What is to be seen of the cache: what each layer has done, altogether and in the last half hour, how its servers
//! are, and what was decided for the latest requests.

mod edge;
mod history;
mod metrics;
mod report;
mod requests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use self::edge::Refusals;
use self::history::History;
use self::requests::Requests;
use neverstale::Cache;
use neverstale::version::VersionStats;
use neverstale_axum::Outcome;
use neverstale_sessions::Sessions;

pub use self::edge::{Connections, Cut, Open, Refusal};
pub use self::history::Point;
pub use self::report::{GateReport, Layer, Report, Server};

/// How many decisions are kept.
const DECISIONS: usize = 50;

/// How much of a path is kept.
const LONGEST_PATH: usize = 100;

/// Looks at the cache from outside. Cheap to clone.
#[derive(Clone)]
pub struct Monitor(Arc<Shared>);

struct Shared {
    cache: Cache,
    strategy: String,
    gate: Box<dyn Fn() -> Option<VersionStats> + Send + Sync>,
    sessions: Sessions,
    started: Instant,
    started_at: SystemTime,
    history: Mutex<History>,
    decisions: Mutex<VecDeque<Decision>>,
    requests: Requests,
    connections: Arc<Connections>,
    refusals: Refusals,
}

/// What was decided for a request, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// When it was answered.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// The method: one that a cached handler knows.
    pub method: String,
    /// Path and query, which the cache goes by. A long one's end is missing.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// As `Cache-Status` says it.
    pub outcome: String,
    /// How long the answer took, in milliseconds.
    pub took_ms: f64,
}

impl Monitor {
    /// Begins to look at these parts. `gate` tells what asking for the current version came to, if it is asked for.
    #[must_use]
    pub fn new(
        cache: &Cache,
        strategy: &impl ToString,
        gate: impl Fn() -> Option<VersionStats> + Send + Sync + 'static,
        sessions: &Sessions,
    ) -> Self {
        Self(Arc::new(Shared {
            cache: cache.clone(),
            strategy: strategy.to_string(),
            gate: Box::new(gate),
            sessions: sessions.clone(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            history: Mutex::default(),
            decisions: Mutex::default(),
            requests: Requests::default(),
            connections: Arc::default(),
            refusals: Refusals::default(),
        }))
    }

    /// Notes down, now and then, what the layers have done. Never ends.
    pub async fn watch(self) {
        loop {
            lock(&self.0.history).sample(&self.0.cache.stats());
            sleep(history::INTERVAL).await;
        }
    }

    /// Counts an answer, and what the view cache did for it, where there is one.
    pub fn count(&self, status: u16, outcome: Option<&Outcome>, took: Duration) {
        self.0.requests.count(status, outcome.map(Outcome::word), took);
    }

    /// As [`count`](Self::count), for an answer that is given out again as it has left the site before.
    pub fn count_again(&self, status: u16, outcome: &Outcome, took: Duration) {
        self.0.requests.given_again.add_one();
        self.count(status, Some(outcome), took);
    }

    /// Returns where connections are counted.
    #[must_use]
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.0.connections)
    }

    /// Counts a request that was not let in.
    pub fn refuse(&self, refusal: Refusal) {
        self.0.refusals.refused[refusal as usize].add_one();
    }

    /// Returns how many were not let in for this reason so far.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.0.refusals.refused[refusal as usize].get()
    }

    /// Counts a POST that was let in although the cache could not say how many there were before it.
    pub fn pass_uncounted(&self) {
        self.0.refusals.uncounted.add_one();
    }

    /// Keeps a decision among the latest, unless others are at it just now: nobody waits for this.
    pub fn note(&self, decide: impl FnOnce() -> Decision) {
        let Ok(mut decisions) = self.0.decisions.try_lock() else { return };
        let mut decision = decide();
        decision.path = cut(&decision.path, LONGEST_PATH).into_owned();
        decisions.truncate(DECISIONS - 1);
        decisions.push_front(decision);
    }
}

/// Returns so many characters of a text, and whether there were more.
pub(crate) fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

fn as_rfc3339<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
