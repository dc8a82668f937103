//! Every layer of the site, from the outside in, with the reason for its place.

mod access_log;
mod body;
mod client_address;
mod error_pages;
mod front;
mod host;
mod load_shedding;
mod log_limit;
mod post_limit;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Extensions, StatusCode, Version};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};
use tower_http::csrf::CsrfLayer;
use tower_http::timeout::TimeoutLayer;

pub(crate) use self::front::Front;
use self::load_shedding::LoadShedding;
use crate::app::AppState;
use neverstale_axum::headers::accepts_nothing;
use neverstale_axum::target::is_https;
use neverstale_axum::{Outcome, conditional, head, watch_order};

/// The time that a whole request may take, the longest `SLOW_QUERY` included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers of every response: nothing from elsewhere, nothing inline, in no other site's frame.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    // Not `no-referrer`: with it browsers send `Origin: null` along with our own forms.
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

const STRICT_TRANSPORT_SECURITY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Puts all layers around the pages, and the outer ones around the probes as well.
pub(crate) fn around(pages: Router<AppState>, probes: Router<AppState>, state: AppState) -> Front {
    let limits = LoadShedding::new(&state);
    let site = outer(inner(pages, &state, &limits).merge(probes), &state);
    // The outermost, since a replayed response passes none of the others. It writes the log.
    Front::new(site, limits, state)
}

fn inner(pages: Router<AppState>, state: &AppState, limits: &Arc<LoadShedding>) -> Router<AppState> {
    let hosts = state.server.allowed_hosts.clone();
    pages.layer(
        ServiceBuilder::new()
            // Outside compression, which need not begin for a page that the browser has.
            .layer(from_fn(conditional::evaluate))
            // Compression would answer 406 to a client that accepts no encoding, even after a change.
            .map_request(accept_plain)
            // Outside the error pages, which are compressed as well. Cached pages come compressed already.
            .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(is_not_cached)))
            // Outside the layers that refuse requests, so that every refusal is a page of the site.
            .layer(from_fn_with_state(state.server.debug, error_pages::render))
            // Outside the layers below, whose panics it catches too.
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
            // Before anything that trusts the host: the CSRF check compares the origin with it.
            .layer(from_fn_with_state(hosts, host::check))
            // Before a POST is counted and its body read.
            .map_request(host::align_origin)
            .layer(CsrfLayer::new())
            // Counts POSTs, reads bodies and limits concurrency, in this order.
            .layer(from_fn_with_state(Arc::clone(limits), load_shedding::check))
            // Inside the layers that refuse requests, which then need no session.
            .layer(from_fn_with_state(state.sessions.clone(), neverstale_sessions::carry))
            // The innermost: pages are tagged as they are rendered. Cached pages have been.
            .layer(from_fn(conditional::tag)),
    )
}

/// Lets a client that accepts no encoding at all, not even none, have the plain response (RFC 9110, section 12.5.3).
fn accept_plain(mut request: Request) -> Request {
    if accepts_nothing(request.headers()) {
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
    request
}

fn is_not_cached(_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions) -> bool {
    !extensions.get::<Outcome>().is_some_and(Outcome::is_as_stored)
}

fn outer(all: Router<AppState>, state: &AppState) -> Router<AppState> {
    all.layer(
        ServiceBuilder::new()
            // Outside the layers that look at the method or the body.
            .layer(from_fn(head::as_get))
            .layer(from_fn_with_state(state.stopping.clone(), end_connection))
            // Outside the layers that set a header that matters here.
            .layer(watch_order())
            .layer(from_fn(security_headers)),
    )
}

async fn security_headers(request: Request, next: Next) -> axum::response::Response {
    let is_https = is_https(request.uri(), request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.extend(SECURITY_HEADERS);
    // The list changes at any time, so browsers must revalidate, unless the handler says otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    if is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT_SECURITY);
    }
    response
}

/// Makes reverse proxies send their next request elsewhere once this process stops.
async fn end_connection(
    State(stopping): State<CancellationToken>,
    request: Request,
    next: Next,
) -> axum::response::Response {
    let mut response = next.run(request).await;
    if stopping.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
