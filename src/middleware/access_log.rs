//! A line in the log for each request, with what the cache did for it, and a name that its other lines share.
//!
//! The line has the path and not the query: logs are kept for long and read by many, and what stands behind a `?` may
//! be a visitor's own affair. Nor has it any header. What a visitor chooses is cut where it is long, and a path or
//! method has no control characters, so that none looks like another line.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::Response;
use tokio::time::Instant;
use tracing::field::display;
use tracing::{Instrument, Level, Span, debug, enabled, error_span, info};

use crate::monitor::{Decision, Monitor, cut};
use neverstale_axum::Outcome;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest name that is taken over from a router in front of us.
const LONGEST_ID: usize = 64;

/// How much of a method and of a path is logged.
const LONGEST_METHOD: usize = 16;
const LONGEST_PATH: usize = 200;

/// What machines ask for again and again. A line for each would hide the others, so these are for those who look
/// closely, unless something is wrong.
const POLLED: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/cache", "/cache.json"];

/// How many answers that are given again have a line in each second.
const LINES: u64 = 100;

/// The log of all requests.
pub(super) struct AccessLog {
    monitor: Monitor,
    budget: Budget,
}

/// Lines for answers that are given again: [`LINES`] in each second.
struct Budget {
    started: Instant,
    /// In which second from the start answers were given again the last time, and how many.
    spent: AtomicU64,
}

/// The line of one request: written when it is answered, or when this is dropped, since its client has left: what was
/// asked for may have been done.
pub(super) struct Line<'a> {
    log: &'a AccessLog,
    id: HeaderValue,
    method: Method,
    uri: Uri,
    started: Instant,
    span: OnceLock<Span>,
    is_over: bool,
}

impl AccessLog {
    pub(super) fn new(monitor: &Monitor) -> Self {
        Self { monitor: monitor.clone(), budget: Budget::new() }
    }

    pub(super) fn begin<B>(&self, request: &Request<B>) -> Line<'_> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let (started, span) = (Instant::now(), OnceLock::new());
        Line { log: self, id: request_id(request.headers()), method, uri, started, span, is_over: false }
    }

    /// Counts an answer that is given again, and returns whether it has a line of its own. Says how many had none, in
    /// the first second after that has any.
    fn has_line(&self, now: Instant) -> bool {
        let (has_line, count) = self.budget.spend(now);
        if count > 0 {
            info!(count, "answered again, without a line for each");
        }
        has_line
    }
}

impl Budget {
    fn new() -> Self {
        Self { started: Instant::now(), spent: AtomicU64::new(0) }
    }

    /// Counts an answer. Returns whether there is a line for it, and, of the second before that had any, for how many
    /// there was none: of all who are told so, one.
    fn spend(&self, now: Instant) -> (bool, u64) {
        let second = now.duration_since(self.started).as_secs() & u64::from(u32::MAX);
        let last = self.spent.load(Ordering::Relaxed);
        // Whoever is late counts among those who were not, or there would be lines for all of that second again.
        if last >> 32 >= second {
            return (self.spent.fetch_add(1, Ordering::Relaxed) & u64::from(u32::MAX) < LINES, 0);
        }
        let is_first =
            self.spent.compare_exchange(last, second << 32 | 1, Ordering::Relaxed, Ordering::Relaxed);
        let without = (last & u64::from(u32::MAX)).saturating_sub(LINES);
        (true, if is_first.is_ok() { without } else { 0 })
    }
}

impl Line<'_> {
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Runs what answers the request; whatever is logged meanwhile names it.
    pub(super) async fn within<T>(&self, answer: impl Future<Output = T>) -> T {
        answer.instrument(self.span().clone()).await
    }

    /// Writes the line of an answer, and gives it the request's name.
    pub(super) fn end(mut self, response: &mut Response) {
        self.is_over = true;
        let took = self.started.elapsed();
        let outcome = response.extensions().get::<Outcome>();
        let status = response.status();
        let is_polled = status.is_success() && POLLED.contains(&self.uri.path());
        self.write(status, outcome, took, is_polled);
        self.log.monitor.count(status.as_u16(), outcome, took);
        self.name(response);
    }

    /// As [`end`](Self::end), for an answer that was given again. Where there are many, not each has a line of its own
    /// that would say the same as the others: making the line would take longer than the answer.
    pub(super) fn end_again(mut self, response: &mut Response, outcome: &Outcome, took: Duration) {
        self.is_over = true;
        let status = response.status();
        if self.log.has_line(self.started + took) {
            self.write(status, Some(outcome), took, false);
        } else if enabled!(Level::DEBUG) {
            self.write(status, Some(outcome), took, true);
        }
        self.log.monitor.count_replay();
        self.log.monitor.count(status.as_u16(), Some(outcome), took);
        self.name(response);
    }

    /// Gives an answer the request's name, which is not needed any more: a copy would cost more than the name.
    fn name(&mut self, response: &mut Response) {
        let id = std::mem::replace(&mut self.id, HeaderValue::from_static(""));
        response.headers_mut().insert(REQUEST_ID, id);
    }

    fn write(&self, status: StatusCode, outcome: Option<&Outcome>, took: Duration, is_detail: bool) {
        let (status, took_ms) = (status.as_u16(), milliseconds(took));
        self.span().in_scope(|| {
            let method = display(cut(self.method.as_str(), LONGEST_METHOD));
            let path = cut(self.uri.path(), LONGEST_PATH);
            let cache = outcome.map(|outcome| display(outcome.summary()));
            if is_detail {
                debug!(method, path = &*path, status, took_ms, cache, "answered");
            } else {
                info!(method, path = &*path, status, took_ms, cache, "answered");
            }
        });
        if let Some(outcome) = outcome {
            self.log.monitor.note(|| Decision {
                at: SystemTime::now(),
                method: self.method.to_string(),
                path: self.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
                status,
                outcome: outcome.summary().to_string(),
                took_ms,
            });
        }
    }

    fn span(&self) -> &Span {
        // At the level of errors, so that whatever is logged of a request names it.
        self.span.get_or_init(|| error_span!("request", id = self.id.to_str().unwrap_or_default()))
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        // nginx has made it up for that.
        const CLIENT_LEFT: u16 = 499;
        if self.is_over {
            return;
        }
        let took = self.started.elapsed();
        self.span().in_scope(|| {
            let method = display(cut(self.method.as_str(), LONGEST_METHOD));
            let path = cut(self.uri.path(), LONGEST_PATH);
            info!(
                method,
                path = &*path,
                status = CLIENT_LEFT,
                took_ms = milliseconds(took),
                "left unanswered"
            );
        });
        self.log.monitor.count(CLIENT_LEFT, None, took);
    }
}

/// Returns a duration to a hundredth of a millisecond.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Returns the name that a router in front of us has given the request, if it is one, or else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let given = headers
        .get(REQUEST_ID)
        .filter(|id| (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(is_plain));
    given.cloned().unwrap_or_else(|| {
        let (mut id, digit) = ([0; 16], |half: u8| b"0123456789abcdef"[usize::from(half)]);
        for (digits, byte) in id.chunks_exact_mut(2).zip(fastrand::u64(..).to_be_bytes()) {
            digits.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        HeaderValue::from_bytes(&id).expect("digits and letters")
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn spend(budget: &Budget, times: u64) -> u64 {
        (0..times).filter(|_| budget.spend(Instant::now()).0).count() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_lines_are_written_a_second_and_then_how_many_were_not() {
        let budget = Budget::new();
        assert_eq!(spend(&budget, LINES + 7), LINES);
        advance(Duration::from_secs(3)).await;
        assert_eq!(budget.spend(Instant::now()), (true, 7));
        assert_eq!(spend(&budget, LINES), LINES - 1);
        advance(Duration::from_secs(1)).await;
        assert_eq!(budget.spend(Instant::now()), (true, 1));
        advance(Duration::from_secs(1)).await;
        assert_eq!(budget.spend(Instant::now()), (true, 0), "all had one");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_late_opens_no_second_again() {
        let budget = Budget::new();
        let earlier = Instant::now();
        advance(Duration::from_secs(1)).await;
        assert_eq!(spend(&budget, LINES + 7), LINES);
        assert_eq!(budget.spend(earlier), (false, 0));
        assert_eq!(spend(&budget, 1), 0);
        advance(Duration::from_secs(1)).await;
        assert_eq!(budget.spend(Instant::now()), (true, 9));
    }
}
