//! What the cache has done since the process started.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters, all of them since the start of the process.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) unreadable: Counter,
    pub(super) fills: Counter,
    pub(super) deletes: Counter,
    pub(super) refused: Counter,
    pub(super) errors: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load(Ordering::Relaxed).fmt(f)
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hits, {} misses ({} unreadable), {} fills, {} deletes, {} values refused, {} operations failed",
            self.hits, self.misses, self.unreadable, self.fills, self.deletes, self.refused, self.errors
        )
    }
}
