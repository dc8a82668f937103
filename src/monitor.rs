//! What is to be seen of the cache: what each layer has done, altogether and in the last half hour, how its servers are,
//! and what was decided for the latest requests.

mod history;
mod metrics;
mod report;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use self::history::History;
use crate::cache::Cache;
use crate::cache::view::ViewCache;
use crate::listing::Listing;
use crate::session::Sessions;

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
    listing: Listing,
    pages: ViewCache,
    sessions: Sessions,
    started: Instant,
    history: Mutex<History>,
    decisions: Mutex<VecDeque<Decision>>,
    answers: Answers,
}

/// What was decided for a request, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// When it was answered.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// The method.
    pub method: String,
    /// Path and query, of which a long one's end is missing.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// As `Cache-Status` says it.
    pub outcome: String,
    /// How long the answer took, in milliseconds.
    pub took_ms: f64,
}

/// How many requests were answered, by the first digit of the status, and how long all of them took together.
#[derive(Default)]
struct Answers {
    by_class: [AtomicU64; 5],
    micros: AtomicU64,
}

impl Monitor {
    /// Begins to look at these parts.
    #[must_use]
    pub fn new(cache: &Cache, listing: &Listing, pages: &ViewCache, sessions: &Sessions) -> Self {
        Self(Arc::new(Shared {
            cache: cache.clone(),
            listing: listing.clone(),
            pages: pages.clone(),
            sessions: sessions.clone(),
            started: Instant::now(),
            history: Mutex::default(),
            decisions: Mutex::default(),
            answers: Answers::default(),
        }))
    }

    /// Notes down, now and then, what the layers have done. Never ends.
    pub async fn watch(self) {
        loop {
            lock(&self.0.history).sample(&self.0.cache.stats());
            sleep(history::INTERVAL).await;
        }
    }

    /// Counts an answer.
    pub fn count(&self, status: u16, took: Duration) {
        let answers = &self.0.answers;
        if let Some(count) = answers.by_class.get(usize::from(status / 100).wrapping_sub(1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        answers.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Keeps a decision among the latest, unless others are at it just now: nobody waits for this.
    pub fn note(&self, decide: impl FnOnce() -> Decision) {
        let Ok(mut decisions) = self.0.decisions.try_lock() else { return };
        let mut decision = decide();
        if let Some((end, _)) = decision.path.char_indices().nth(LONGEST_PATH) {
            decision.path.truncate(end);
            decision.path.push('…');
        }
        decisions.truncate(DECISIONS - 1);
        decisions.push_front(decision);
    }

    /// Empties the cache and this process's copies.
    pub async fn clear(&self) {
        self.0.cache.clear().await;
        self.0.pages.drop_copies();
    }
}

fn as_rfc3339<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
