//! Every layer of the site, from the outside in, with the reason for its place.
//!
//! Where tower or tower-http has a layer for the same, ours keeps what that would lose:
//!
//! | ours | theirs | what would be lost |
//! |---|---|---|
//! | `access_log` | `SetRequestId`, `TraceLayer` | a tenth of the time of a replay |
//! | `body` | `RequestBodyLimitLayer` | the limit on the memory of all bodies; a page for those who sent too much |
//! | `load_shedding` | `ConcurrencyLimitLayer`, `LoadShedLayer` | reads never wait for changes, nor for `/apicalls` |
//! | `security_headers` | `SetResponseHeaderLayer` | brevity: it takes eight, and one depends on the request |

mod access_log;
mod body;
mod client_address;
mod error_pages;
mod host;
mod load_shedding;
mod log_limit;
mod post_limit;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Extensions, StatusCode, Version};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::{BoxError, Router};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};
use tower_http::csrf::CsrfLayer;
use tower_http::timeout::TimeoutLayer;

use self::access_log::AccessLog;
use self::load_shedding::LoadShedding;
use crate::app::AppState;
use crate::visitor::may_show_messages;
use neverstale_axum::target::{is_https, without_needless_escapes};
use neverstale_axum::{Outcome, accepts_nothing, conditional, head, watch_order};

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
pub(crate) fn around<B>(
    pages: Router<AppState>,
    probes: Router<AppState>,
    state: AppState,
) -> impl Service<Request<B>, Response = Response, Error = Infallible, Future: Send> + Clone + Send
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let limits = LoadShedding::new(&state);
    let replay = state
        .pages
        // Other pages are not cached, and their handlers need other headers.
        .replay_layer(|uri| matches!(uri.path(), "/" | "/apicalls"))
        .bypass(may_show_messages)
        // For the lines that the log has of the request.
        .pass([access_log::REQUEST_ID])
        .permits(limits.reads());
    let (log, stopping) = (AccessLog::new(&state.monitor), state.stopping.clone());
    let router = outer(inner(pages, &state, &limits).merge(probes)).with_state(state);
    let inside = ServiceBuilder::new()
        // Outside the layers that do the same for every request.
        .layer(replay)
        // Outside the router, which sets it to 0.
        .map_response(without_length)
        // Before the router compares paths.
        .map_request(with_plain_path::<B>)
        .service(router);
    let site = Arc::new(Site { log, stopping, inside });
    service_fn(move |request| Arc::clone(&site).respond(request))
}

/// The site with what is outside of the replay. Two layers of axum's would take a tenth of the time of a replay.
struct Site<S> {
    log: AccessLog,
    stopping: CancellationToken,
    inside: S,
}

impl<S> Site<S> {
    async fn respond<B>(self: Arc<Self>, mut request: Request<B>) -> Result<Response, Infallible>
    where
        S: Service<Request<B>, Response = Response, Error = Infallible> + Clone,
    {
        // Outside all that responds, so that each response has its line and its id.
        let line = self.log.begin(&mut request);
        let mut response = self.inside.clone().call(request).await?;
        if self.stopping.is_cancelled() {
            // Reverse proxies then send their next request elsewhere.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        line.end(&mut response);
        Ok(response)
    }
}

/// Removes the length of a 304, where only that of the page would be right (RFC 9110, section 8.6).
fn without_length(mut response: Response) -> Response {
    if response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}

fn with_plain_path<B>(mut request: Request<B>) -> Request<B> {
    if let Some(uri) = without_needless_escapes(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
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
            .layer(from_fn_with_state(state.server.debug(), error_pages::render))
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
            .layer(state.sessions.layer())
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

fn outer(all: Router<AppState>) -> Router<AppState> {
    all.layer(
        ServiceBuilder::new()
            // Outside the other layers, so that their lines have the request's id.
            .layer(from_fn(access_log::in_span))
            // Outside the layers that look at the method or the body.
            .layer(from_fn(head::as_get))
            // Outside the layers that set a header that matters here.
            .layer(watch_order())
            .layer(from_fn(security_headers)),
    )
}

async fn security_headers(request: Request, next: Next) -> Response {
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
