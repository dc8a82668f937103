//! The access log: a line for each request with the cache's decision, and an id that the request's other lines share.
//!
//! The line has the path without the query, which may be private, and no header. Long methods and paths are cut, and
//! neither can hold control characters, so that none can look like another line.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::field::display;
use tracing::{Instrument, Level, Span, debug, enabled, error_span, info};

use super::log_limit::LogLimit;
use crate::monitor::{Decision, Monitor};
use neverstale_axum::Outcome;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a reverse proxy.
const LONGEST_ID: usize = 64;

/// How many characters of a method and of a path are logged, and of a path with its query on `/cache`.
const LONGEST_METHOD: usize = 16;
const LONGEST_PATH: usize = 200;
const LONGEST_DECISION: usize = 100;

/// Paths that machines poll. Lines for successful requests would hide the others, so they are logged at `debug`.
const POLLED: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/cache", "/cache.json"];

/// How many replayed responses are logged in each second: writing the line takes longer than the response.
const REPLAYS: u64 = 100;

/// The log of all requests.
pub(super) struct AccessLog {
    monitor: Monitor,
    replays: LogLimit,
}

/// The line of one request. If this is dropped before its end, the client has left, and the line says so.
pub(super) struct Line<'a> {
    log: &'a AccessLog,
    id: HeaderValue,
    method: Method,
    uri: Uri,
    started: Instant,
    is_over: bool,
}

/// Gives the log lines of a request its id. A layer of its own, since a span takes longer than a replay.
pub(super) async fn in_span(request: Request, next: Next) -> Response {
    let span = request.headers().get(REQUEST_ID).map_or_else(Span::none, span);
    next.run(request).instrument(span).await
}

fn span(id: &HeaderValue) -> Span {
    // At the level of errors, so that every line of a request has its id.
    error_span!("request", id = id.to_str().unwrap_or_default())
}

impl AccessLog {
    pub(super) fn new(monitor: &Monitor) -> Self {
        Self { monitor: monitor.clone(), replays: LogLimit::new(REPLAYS, Duration::from_secs(1)) }
    }

    /// Begins the line of a request, and gives the request an id.
    pub(super) fn begin<B>(&self, request: &mut Request<B>) -> Line<'_> {
        let id = request_id(request.headers());
        request.headers_mut().insert(REQUEST_ID, id.clone());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Line { log: self, id, method, uri, started: Instant::now(), is_over: false }
    }

    /// Counts a replayed response, and returns whether it is logged.
    fn logs_replay(&self, now: Instant) -> bool {
        let unlogged = self.replays.count(now);
        if let Some(count @ 1..) = unlogged {
            info!(count, "answered again, without a line for each");
        }
        self.monitor.count_replay();
        unlogged.is_some()
    }
}

impl Line<'_> {
    /// Writes the line, counts the response, and gives it the id of its request.
    pub(super) fn end(mut self, response: &mut Response) {
        let (status, outcome) = (response.status(), response.extensions().get::<Outcome>());
        let took = self.started.elapsed();
        let is_detail = match outcome {
            Some(Outcome::Replayed(_)) => !self.log.logs_replay(self.started + took),
            _ => status.is_success() && POLLED.contains(&self.uri.path()),
        };
        self.record("answered", status.as_u16(), outcome, took, is_detail);
        response.headers_mut().insert(REQUEST_ID, self.id.clone());
    }

    fn record(
        &mut self,
        message: &str,
        status: u16,
        outcome: Option<&Outcome>,
        took: Duration,
        is_detail: bool,
    ) {
        self.is_over = true;
        self.log.monitor.count(status, outcome, took);
        if is_detail && !enabled!(Level::DEBUG) {
            return;
        }
        // Rounded to a hundredth of a millisecond.
        let took_ms = (took.as_secs_f64() * 100_000.0).round() / 100.0;
        span(&self.id).in_scope(|| {
            let method = display(cut(self.method.as_str(), LONGEST_METHOD));
            let path = &*cut(self.uri.path(), LONGEST_PATH);
            let cache = outcome.map(display);
            if is_detail {
                debug!(method, path, status, took_ms, cache, "{message}");
            } else {
                info!(method, path, status, took_ms, cache, "{message}");
            }
        });
        if let Some(outcome) = outcome {
            let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
            self.log.monitor.note(Decision {
                at: SystemTime::now(),
                method: self.method.to_string(),
                path: cut(path, LONGEST_DECISION).into_owned(),
                status,
                outcome: outcome.to_string(),
                took_ms,
            });
        }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        // nginx's status for a client that has left.
        const CLIENT_LEFT: u16 = 499;
        if !self.is_over {
            self.record("left unanswered", CLIENT_LEFT, None, self.started.elapsed(), false);
        }
    }
}

/// Returns the id that a reverse proxy has given the request, if it is plain, or else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let given = headers
        .get(REQUEST_ID)
        .filter(|id| (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(is_plain));
    given.cloned().unwrap_or_else(|| {
        let mut digits = [0; 16];
        let id = base16ct::lower::encode_str(&fastrand::u64(..).to_be_bytes(), &mut digits);
        HeaderValue::from_str(id.expect("two digits for each byte"))
            .expect("a header can hold digits and letters")
    })
}

/// Returns the first characters of a text, with an ellipsis if there are more.
fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
