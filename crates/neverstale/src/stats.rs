//! What each layer of the cache has done since the process started.
//!
//! The client for memcached has a histogram like the one here, on purpose: it imports nothing of ours.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// One layer's numbers, as they were when asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerStats {
    /// Which layer.
    pub layer: &'static str,
    /// Keys asked for that had a value.
    pub hits: u64,
    /// Keys asked for that had none.
    pub misses: u64,
    /// Misses whose value was there and was not ours, or damaged.
    pub unreadable: u64,
    /// Values built on a miss.
    pub builds: u64,
    /// Values that another caller was building, and that were waited for.
    pub shared: u64,
    /// Values stored.
    pub fills: u64,
    /// Keys removed.
    pub deletes: u64,
    /// Values that the backend would not take.
    pub refused: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Bytes of the values read.
    pub bytes_read: u64,
    /// Bytes of the values stored.
    pub bytes_written: u64,
    /// How long the backend took.
    pub latency: Latency,
}

/// How long operations took: for each power of two, how many microseconds were below it and not below the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The first counts what took less than 1 µs, the next less than 2, 4, 8, …; the last all that took longer.
    pub buckets: [u64; BUCKETS],
    /// All of them together, in microseconds.
    pub micros: u64,
}

/// An event that a layer over the cache counts, such as a hit in copies of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It was asked for a value that it has.
    Hit,
    /// It was asked for a value that it does not have.
    Miss,
    /// It built a value.
    Build,
    /// It keeps a value.
    Fill,
    /// An operation of it failed.
    Error,
}

/// The last bucket but one ends at about 4 s.
const BUCKETS: usize = 24;

/// Counters of one layer, all of them since the start of the process.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) unreadable: Counter,
    pub(super) builds: Counter,
    pub(super) shared: Counter,
    pub(super) fills: Counter,
    pub(super) deletes: Counter,
    pub(super) refused: Counter,
    pub(super) errors: Counter,
    pub(super) bytes_read: Counter,
    pub(super) bytes_written: Counter,
    pub(super) latency: Histogram,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

/// Counts durations, which a [`Latency`] shows.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [Counter; BUCKETS],
    micros: Counter,
}

impl Counter {
    pub(super) fn add_one(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    pub(super) fn add(&self, time: Duration) {
        let bits = u128::BITS - time.as_micros().leading_zeros();
        self.buckets[(bits as usize).min(BUCKETS - 1)].add_one();
        self.micros.add(time.as_micros().try_into().unwrap_or(usize::MAX));
    }

    pub(super) fn snapshot(&self) -> Latency {
        let buckets = std::array::from_fn(|index| self.buckets[index].get());
        Latency { buckets, micros: self.micros.get() }
    }
}

impl Counters {
    pub(super) fn snapshot(&self, layer: &'static str) -> LayerStats {
        LayerStats {
            layer,
            hits: self.hits.get(),
            misses: self.misses.get(),
            unreadable: self.unreadable.get(),
            builds: self.builds.get(),
            shared: self.shared.get(),
            fills: self.fills.get(),
            deletes: self.deletes.get(),
            refused: self.refused.get(),
            errors: self.errors.get(),
            bytes_read: self.bytes_read.get(),
            bytes_written: self.bytes_written.get(),
            latency: self.latency.snapshot(),
        }
    }
}

impl Latency {
    /// Returns the number of operations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns a time that this share of all operations stayed below, or zero if there were none. `share` is between 0
    /// and 1; the answer is a power of two of microseconds.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let total = self.count();
        let mut below = 0;
        let reached = self.buckets.iter().position(|count| {
            below += count;
            total > 0 && below as f64 >= share * total as f64
        });
        reached.map_or(Duration::ZERO, |bits| Duration::from_micros(1 << bits))
    }
}

impl fmt::Display for LayerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} hits, {} misses ({} unreadable), {} builds, {} shared, {} fills, {} deletes, \
             {} values refused, {} operations failed",
            self.layer,
            self.hits,
            self.misses,
            self.unreadable,
            self.builds,
            self.shared,
            self.fills,
            self.deletes,
            self.refused,
            self.errors
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_end_of_the_bucket_that_reaches_it() {
        let histogram = Histogram::default();
        for micros in [0, 1, 3, 3, 100, 5_000_000, u64::MAX] {
            histogram.add(Duration::from_micros(micros));
        }
        let latency = histogram.snapshot();
        assert_eq!(latency.count(), 7);
        assert_eq!(latency.quantile(0.0), Duration::from_micros(1));
        assert_eq!(latency.quantile(0.5), Duration::from_micros(4));
        assert_eq!(latency.quantile(0.7), Duration::from_micros(128));
        assert!(latency.quantile(1.0) >= Duration::from_secs(4));
        assert_eq!(Histogram::default().snapshot().quantile(0.5), Duration::ZERO);
    }
}
