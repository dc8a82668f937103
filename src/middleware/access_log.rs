//! A line in the log for each request, with what the cache did for it, and a name that its other lines share.
//!
//! The line has the path and not the query: logs are kept for long and read by many, and what stands behind a `?` may be
//! a visitor's own affair. Nor has it any header. What a visitor chooses is cut where it is long, and a path or method has
//! no control characters, so that none looks like another line.

use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::field::display;
use tracing::{Instrument, Span, debug, error_span, info};

use crate::cache::view::Outcome;
use crate::monitor::{Decision, Monitor, cut};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest name that is taken over from a router in front of us.
const LONGEST_ID: usize = 64;

/// How much of a method and of a path is logged.
const LONGEST_METHOD: usize = 16;
const LONGEST_PATH: usize = 200;

/// What machines ask for again and again. A line for each would hide the others, so these are for those who look closely,
/// unless something is wrong.
const POLLED: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/cache", "/cache.json"];

pub(super) async fn write(State(monitor): State<Monitor>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // At the level of errors, so that whatever is logged of a request names it.
    let span = error_span!("request", id = id.to_str().unwrap_or_default());
    let mut waiting =
        Waiting { monitor: &monitor, span: &span, method: &method, uri: &uri, started, is_over: false };
    let mut response = next.run(request).instrument(span.clone()).await;
    waiting.is_over = true;
    let (took, status) = (started.elapsed(), response.status());
    let took_ms = milliseconds(took);
    let outcome = response.extensions().get::<Outcome>();
    span.in_scope(|| {
        let method = display(cut(method.as_str(), LONGEST_METHOD));
        let (path, status_code) = (cut(uri.path(), LONGEST_PATH), status.as_u16());
        let cache = outcome.map(|outcome| display(outcome.summary()));
        if status.is_success() && POLLED.contains(&uri.path()) {
            debug!(method, path = &*path, status = status_code, took_ms, cache, "answered");
        } else {
            info!(method, path = &*path, status = status_code, took_ms, cache, "answered");
        }
    });
    monitor.count(status.as_u16(), outcome, took);
    if let Some(outcome) = outcome {
        monitor.note(|| Decision {
            at: SystemTime::now(),
            method: method.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            status: status.as_u16(),
            outcome: outcome.summary().to_string(),
            took_ms,
        });
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// A client who waits for an answer. If this is dropped before it is over, the client has left: what was asked for may
/// have been done, so there is a line of it, with the status that nginx made up for that.
struct Waiting<'a> {
    monitor: &'a Monitor,
    span: &'a Span,
    method: &'a Method,
    uri: &'a Uri,
    started: Instant,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        const CLIENT_LEFT: u16 = 499;
        if self.is_over {
            return;
        }
        let took = self.started.elapsed();
        self.span.in_scope(|| {
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
        self.monitor.count(CLIENT_LEFT, None, took);
    }
}

/// Returns a duration to a hundredth of a millisecond.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Returns the name that a router in front of us has given the request, if it is one, or else a new one.
fn request_id(request: &Request) -> HeaderValue {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let given = request
        .headers()
        .get(REQUEST_ID)
        .filter(|id| (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(is_plain));
    given.cloned().unwrap_or_else(|| {
        HeaderValue::try_from(format!("{:016x}", fastrand::u64(..))).expect("digits and letters")
    })
}
