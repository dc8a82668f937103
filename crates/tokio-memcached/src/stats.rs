//! Client-side statistics of one server.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, ErrorKind};
use super::options::ServerAddress;

/// Client-side statistics of one server, since the client was created.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStats {
    /// The address of the server.
    pub server: ServerAddress,
    /// Whether the server is marked down.
    pub is_down: bool,
    /// The failure for which the server is marked down, as of the last retry.
    pub outage: Option<Error>,
    /// The last failure, of the server or of a single command, and how long ago it was.
    pub last_error: Option<(Error, Duration)>,
    /// Whether the latest connection has authenticated.
    pub is_authenticated: bool,
    /// Operations, sent or not; each key of a multi-key operation counts.
    pub operations: u64,
    /// Look-ups of a key that had a value.
    pub hits: u64,
    /// Look-ups of a key that had none.
    pub misses: u64,
    /// Operations that failed, timeouts among them.
    pub errors: u64,
    /// Operations without a response in time.
    pub timeouts: u64,
    /// Connections made.
    pub connections: u64,
    /// A histogram of the latency of operations with a response, from the call to the response.
    ///
    /// Bucket 0 counts those below 1 µs, bucket `n` those from 2ⁿ⁻¹ µs to below 2ⁿ µs, the last all longer ones.
    pub latency: [u64; LATENCY_BUCKETS],
    /// The sum of all these latencies, in microseconds.
    pub latency_micros: u64,
}

/// The number of latency buckets; the last but one ends at about 4 s.
pub const LATENCY_BUCKETS: usize = 24;

/// The counts so far, and the last failure with its time.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) counts: ServerStats,
    last_failure: Option<(Error, Instant)>,
}

impl Counters {
    pub(super) fn new(server: ServerAddress) -> Self {
        let counts = ServerStats {
            server,
            is_down: false,
            outage: None,
            last_error: None,
            is_authenticated: false,
            operations: 0,
            hits: 0,
            misses: 0,
            errors: 0,
            timeouts: 0,
            connections: 0,
            latency: [0; LATENCY_BUCKETS],
            latency_micros: 0,
        };
        Self { counts, last_failure: None }
    }

    pub(super) fn count_look_up(&mut self, is_hit: bool) {
        let counter = if is_hit { &mut self.counts.hits } else { &mut self.counts.misses };
        *counter += 1;
    }

    pub(super) fn count_response(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bits = (u64::BITS - micros.leading_zeros()) as usize;
        self.counts.latency[bits.min(LATENCY_BUCKETS - 1)] += 1;
        self.counts.latency_micros = self.counts.latency_micros.saturating_add(micros);
    }

    /// Counts an operation that failed.
    pub(super) fn count_error(&mut self, error: &Error) {
        self.counts.errors += 1;
        self.counts.timeouts += u64::from(matches!(error.kind(), ErrorKind::Timeout(_)));
        if !matches!(error.kind(), ErrorKind::Down | ErrorKind::Closed) {
            self.note_failure(error);
        }
    }

    /// Notes a failure of the server or of a single command.
    pub(super) fn note_failure(&mut self, error: &Error) {
        self.last_failure = Some((error.clone(), Instant::now()));
    }

    pub(super) fn last_error(&self) -> Option<&Error> {
        self.last_failure.as_ref().map(|(error, _)| error)
    }

    pub(super) fn snapshot(&self, is_down: bool) -> ServerStats {
        ServerStats {
            is_down,
            outage: self.last_error().filter(|_| is_down).cloned(),
            last_error: self.last_failure.as_ref().map(|(error, when)| (error.clone(), when.elapsed())),
            ..self.counts.clone()
        }
    }
}
