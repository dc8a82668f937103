//! A line in the log for each request, with what the cache did for it, and a name that its other lines share.

use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::{Instrument, info, info_span};

use crate::cache::view::Outcome;
use crate::monitor::{Decision, Monitor};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest name that is taken over from a router in front of us.
const LONGEST_ID: usize = 64;

pub(super) async fn write(State(monitor): State<Monitor>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let span = info_span!("request", id = id.to_str().unwrap_or_default());
    let mut response = next.run(request).instrument(span.clone()).await;
    let (took, status) = (started.elapsed(), response.status().as_u16());
    let took_ms = (took.as_secs_f64() * 100_000.0).round() / 100.0;
    let outcome = response.extensions().get::<Outcome>();
    span.in_scope(|| match outcome {
        Some(outcome) => {
            info!(%method, path = uri.path(), status, took_ms, cache = outcome.summary(), "answered");
        }
        None => info!(%method, path = uri.path(), status, took_ms, "answered"),
    });
    monitor.count(status, took);
    if let Some(outcome) = outcome {
        monitor.note(|| Decision {
            at: SystemTime::now(),
            method: method.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            status,
            outcome: outcome.summary(),
            took_ms,
        });
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
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
