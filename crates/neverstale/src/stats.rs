//! What each layer of the cache has done since the process started.
//!
//! The client for memcached has a histogram like the one here, on purpose: it imports nothing of ours.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// The counters of one layer, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerStats {
    /// The name of the layer.
    pub layer: &'static str,
    /// Look-ups of a key that had a value.
    pub hits: u64,
    /// Look-ups of a key that had none, or none that could be read.
    pub misses: u64,
    /// Misses whose key had a value that was damaged, or not made by this cache.
    pub unreadable: u64,
    /// Values built on a miss.
    pub builds: u64,
    /// Values that a caller got from the build of another caller.
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
    /// The latency of operations of the backend.
    pub latency: Latency,
}

/// A histogram of the latency of operations, with a bucket for each power of two microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The number of operations in each bucket.
    ///
    /// Bucket 0 counts those below 1 µs, bucket `n` those from 2ⁿ⁻¹ µs to below 2ⁿ µs, the last all longer ones.
    pub buckets: [u64; BUCKETS],
    /// The sum of all latencies, in microseconds.
    pub micros: u64,
}

/// An event that a layer over the cache counts, such as a hit in copies of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The layer was asked for a value that it has.
    Hit,
    /// The layer was asked for a value that it does not have.
    Miss,
    /// The layer built a value.
    Build,
    /// The layer stored a value.
    Fill,
    /// An operation of the layer failed.
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

    /// Returns a latency that this share of all operations did not reach; zero if there were no operations.
    ///
    /// `share` is between 0 and 1. The result is a power of two microseconds: the end of the bucket that reaches the
    /// share. Operations that took longer than about 4 s count as less than about 8 s.
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
