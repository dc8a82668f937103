//! What each server was asked and how it went, since the client was made. It counts times as the cache over it does, by
//! code of its own: nothing here is imported from there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::ErrorKind;
use super::options::ServerAddress;

/// Client-side statistics of one server, since the client was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStats {
    /// Which server.
    pub server: ServerAddress,
    /// Whether the server is marked down.
    pub is_down: bool,
    /// The failure for which it is, of the last retry.
    pub outage: Option<ErrorKind>,
    /// The last failure, of the server or of a single command, and how long ago it was.
    pub last_error: Option<(ErrorKind, Duration)>,
    /// Whether the latest connection has logged in.
    pub is_authenticated: bool,
    /// Operations asked for, whether they could be sent or not; each key of a multi-key operation counts.
    pub operations: u64,
    /// Keys asked for that had a value.
    pub hits: u64,
    /// Keys asked for that had none.
    pub misses: u64,
    /// Operations that failed, timeouts among them.
    pub errors: u64,
    /// Operations without an answer in time.
    pub timeouts: u64,
    /// Connections made.
    pub connections: u64,
    /// How long the operations took that were answered, from the call to the answer: the first counts those that took
    /// less than 1 µs, the next less than 2, 4, 8, …; the last all that took longer.
    pub latency: [u64; LATENCY_BUCKETS],
    /// All of them together, in microseconds.
    pub latency_micros: u64,
}

/// The last bucket but one ends at about 4 s.
pub const LATENCY_BUCKETS: usize = 24;

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) is_down: AtomicBool,
    pub(super) is_authenticated: AtomicBool,
    pub(super) operations: Counter,
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) errors: Counter,
    pub(super) timeouts: Counter,
    pub(super) connections: Counter,
    last_error: Mutex<Option<(ErrorKind, Instant)>>,
    latency: [Counter; LATENCY_BUCKETS],
    latency_micros: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn count_look_up(&self, is_hit: bool) {
        let counter = if is_hit { &self.hits } else { &self.misses };
        counter.add(1);
    }

    /// Notes a failure of the server or of a single command.
    pub(super) fn failed(&self, cause: &ErrorKind) {
        *self.last_error() = Some((cause.clone(), Instant::now()));
    }

    /// Returns why the server is left out, if it is.
    pub(super) fn outage(&self) -> Option<ErrorKind> {
        if !self.is_down.load(Ordering::Relaxed) {
            return None;
        }
        self.last_error().as_ref().map(|(cause, _)| cause.clone())
    }

    fn last_error(&self) -> MutexGuard<'_, Option<(ErrorKind, Instant)>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn took(&self, time: Duration) {
        let bits = u128::BITS - time.as_micros().leading_zeros();
        self.latency[(bits as usize).min(LATENCY_BUCKETS - 1)].add(1);
        self.latency_micros.add(time.as_micros().try_into().unwrap_or(usize::MAX));
    }

    pub(super) fn snapshot(&self, server: &ServerAddress) -> ServerStats {
        ServerStats {
            server: server.clone(),
            is_down: self.is_down.load(Ordering::Relaxed),
            outage: self.outage(),
            last_error: self.last_error().as_ref().map(|(cause, when)| (cause.clone(), when.elapsed())),
            is_authenticated: self.is_authenticated.load(Ordering::Relaxed),
            operations: self.operations.get(),
            hits: self.hits.get(),
            misses: self.misses.get(),
            errors: self.errors.get(),
            timeouts: self.timeouts.get(),
            connections: self.connections.get(),
            latency: std::array::from_fn(|index| self.latency[index].get()),
            latency_micros: self.latency_micros.get(),
        }
    }
}
