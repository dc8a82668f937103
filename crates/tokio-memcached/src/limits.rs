//! How long what may take. Durations are the caller's and may be as long as they like.

use std::time::Duration;

use tokio::time::Instant;

use super::options::Options;

/// How often as long as for a response a caller waits for its request to be written.
const WAITING: u32 = 2;

/// How often as long as for a response a call takes at most: it waits, is written, and is answered.
const WHOLE_CALL: u32 = 4;

/// A connection that said nothing for so long is tried before a request is entrusted to it.
const IDLE: Duration = Duration::from_secs(1);

/// How often an idle connection is tried: routers on the way forget one that is silent for some minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Later than anything that is waited for.
const FAR_FUTURE: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a response, from when its request was written and the response before it was there; also for the next
    /// bytes to be taken by the system.
    pub(super) response: Duration,
    /// For a request to be written.
    pub(super) waiting: Duration,
    /// For the response that shows that an idle connection still works.
    pub(super) probe: Duration,
    /// From what silence on a connection counts as idle.
    pub(super) idle: Duration,
    /// How often an idle connection is tried.
    pub(super) keep_alive: Duration,
}

impl Limits {
    pub(super) fn new(options: &Options) -> Self {
        let response = options.operation_timeout;
        let waiting = response.saturating_mul(WAITING);
        Self { response, waiting, probe: response / 2, idle: IDLE, keep_alive: KEEP_ALIVE }
    }
}

/// Returns how long a call takes at most.
pub(super) fn whole_call(operation_timeout: Duration) -> Duration {
    operation_timeout.saturating_mul(WHOLE_CALL)
}

/// Returns a point in time, however long the wait.
pub(super) fn later(since: Instant, wait: Duration) -> Instant {
    since.checked_add(wait).unwrap_or_else(|| since + FAR_FUTURE)
}
