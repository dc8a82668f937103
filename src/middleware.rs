//! Every layer of the site, from the outside in, with the reason for its place.

mod access_log;
mod admission;
mod allowed_hosts;
mod body_limit;
mod client_address;
mod error_pages;
mod front;
mod origin;
mod post_limit;
mod room;

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

use self::admission::Admission;
pub(crate) use self::front::Front;
use crate::app::AppState;
use neverstale_axum::headers::accepts_nothing;
use neverstale_axum::target::is_https;
use neverstale_axum::{Outcome, conditional, head, watch_order};

/// Of a whole request, the longest `SLOW_QUERY` included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// On every answer. Everything comes from this site and nothing from elsewhere, nothing inline, in nobody's frame.
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

/// Puts everything around the pages, and what is not for pages only around the probes as well.
pub(crate) fn around(pages: Router<AppState>, probes: Router<AppState>, state: AppState) -> Front {
    let admission = Admission::new(&state);
    let site = outer(inner(pages, &state, &admission).merge(probes), &state);
    // The outermost, since what it gives again passes none of the others. It writes the log.
    Front::new(site, admission, state)
}

fn inner(pages: Router<AppState>, state: &AppState, admission: &Arc<Admission>) -> Router<AppState> {
    let hosts = state.server.allowed_hosts.clone();
    pages.layer(
        ServiceBuilder::new()
            // Outside compression, which is not begun for what the browser has already.
            .layer(from_fn(conditional::evaluate))
            // Compression would refuse who accepts nothing with a 406, also what has been done already.
            .map_request(accept_plain)
            // Outside the error pages, which are compressed as well. Cached pages come compressed already.
            .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(is_not_cached)))
            // Outside all that can refuse a request, so that every refusal is a page in the site's look.
            .layer(from_fn_with_state(state.server.debug, error_pages::render))
            // Outside the layers below, whose panics it catches too.
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
            // Before anything that trusts the host: the CSRF check compares the origin with it.
            .layer(from_fn_with_state(hosts, allowed_hosts::check))
            // Before a POST is counted and its body read.
            .map_request(origin::align)
            .layer(CsrfLayer::new())
            // Counts, reads and makes room, in this order, in one layer: each costs every request something.
            .layer(from_fn_with_state(Arc::clone(admission), admission::check))
            // Inside all that can refuse a request, which then needs no session.
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
            // Outside all that looks at the method or the body.
            .layer(from_fn(head::as_get))
            .layer(from_fn_with_state(state.stopping.clone(), end_connection))
            // Outside all that sets a header that matters here.
            .layer(watch_order())
            .layer(from_fn(security_headers)),
    )
}

async fn security_headers(request: Request, next: Next) -> axum::response::Response {
    let is_https = is_https(request.uri(), request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.extend(SECURITY_HEADERS);
    // The list changes at any time, so a browser must ask; a handler or a file that knows better has said so.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    if is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT_SECURITY);
    }
    response
}

/// Lets a router in front take its next request elsewhere, once this process stops.
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
