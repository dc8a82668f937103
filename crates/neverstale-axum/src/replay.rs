//! Replay: a response cache for the outermost place of a site.
//!
//! A cached page still passes every layer on its way out, and each layer does the same for everybody. So
//! [`ReplayLayer`] keeps responses as they leave the site, and replays each while the page that it shows is the current
//! one. This is the one copy of a page in the process, and most requests get no further.
//!
//! ```
//! use axum::{Router, routing::get};
//! use neverstale::{Cache, CacheOptions, Ttl, backend::locmem::Locmem};
//! use neverstale_axum::PageCache;
//! use tower::Layer;
//!
//! let cache = Cache::new(Locmem::new(), CacheOptions::default());
//! let pages = PageCache::new(&cache).with_local_copies(32 * 1024 * 1024);
//! let hello = get("hello").layer(pages.cache_page(Ttl::Never));
//! let site: Router = Router::new().route("/", hello);
//! let site = pages.replay_layer(|uri| uri.path() == "/").layer(site);
//! ```
//!
//! # The invariant
//!
//! **A response is replayed only where the site would give the same.** The layer sees to that itself: a request for a
//! page reaches the site with nothing but what is in the key of its response.
//!
//! | of a request | the site sees | in the key |
//! |---|---|---|
//! | target, `Host`, `X-Forwarded-Proto` | it | yes |
//! | `Accept-Encoding` | the encoding that is chosen, br or gzip, or no such header | yes |
//! | headers named by [`vary_on`](ReplayLayer::vary_on) | them | yes |
//! | headers named by [`pass`](ReplayLayer::pass) | them, and must give no response another content | no |
//! | `If-None-Match`, `If-Modified-Since` | nothing: this layer responds with 304 by itself | no |
//! | all other headers, HTTP's version, extensions | nothing | no |
//!
//! The data that a page shows changes without a request. So for each replay the version is checked, or the generation
//! of the path is read from the cache, after the request has come; requests that come meanwhile share the next check.
//! If the generation cannot be read, the request goes to the site. A response is not kept if its request's [`Privacy`]
//! was marked, or if it names a header in `Vary` that the site did not see.
//!
//! Some requests reach the site untouched, and their responses are not kept: those for which
//! [`bypass`](ReplayLayer::bypass) is true, and those with another method, a body, `Authorization`, `If-Match`,
//! `If-Unmodified-Since`, or two values of a header that is in the key. So do requests for anything but a page, where a
//! handler may need any header: `Range` for a file, `Upgrade` for a WebSocket, a client's address. Hence
//! [`replay_layer`](crate::PageCache::replay_layer) is told the pages.
//!
//! What gives each response something of its own, such as an id, belongs outside of this layer. So does what happens
//! for another reason than a request, such as `Connection: close` during a shutdown.
//!
//! Responses are kept only with [`PageCache::with_local_copies`](crate::PageCache::with_local_copies).

mod responses;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::http::{HeaderMap, HeaderName, Method, Request, Uri, Version, header};
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

pub(super) use self::responses::Responses;
use super::conditional::{apply, conditions};
use super::encoding::Encoding;
use super::headers::select;
use super::privacy::Privacy;
use super::target::X_FORWARDED_PROTO;
use super::version::Keyed;

/// The longest key: a client chooses its length.
const LONGEST_KEY: usize = 1024;

/// Headers with which a request reaches the site untouched. A 412 is no page but an error, which the site may render.
static UNTOUCHED: [HeaderName; 3] = [header::AUTHORIZATION, header::IF_MATCH, header::IF_UNMODIFIED_SINCE];

/// A tower layer that replays whole responses: see [the module](self).
///
/// It wraps a whole site, outside of all routers. [`PageCache::replay_layer`](crate::PageCache::replay_layer) makes it.
#[derive(Clone)]
pub struct ReplayLayer {
    /// None where no responses are kept.
    responses: Option<Responses>,
    is_page: Arc<dyn Fn(&Uri) -> bool + Send + Sync>,
    bypass: Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>,
    /// The key holds the values of these headers, at most one of each.
    in_key: Vec<HeaderName>,
    /// Headers that the site sees as well.
    passed: Vec<HeaderName>,
    permits: Option<Arc<Semaphore>>,
}

impl ReplayLayer {
    pub(super) fn new(
        responses: Option<Responses>,
        is_page: impl Fn(&Uri) -> bool + Send + Sync + 'static,
    ) -> Self {
        let bypass = Arc::new(|headers: &HeaderMap| headers.contains_key(header::COOKIE));
        let in_key = vec![header::HOST, X_FORWARDED_PROTO];
        Self { responses, is_page: Arc::new(is_page), bypass, in_key, passed: vec![], permits: None }
    }

    /// Chooses by their headers which requests always reach the site untouched; by default those with a `Cookie`.
    ///
    /// A site that knows its private cookies lets the others, such as those of statistics, make no difference.
    #[must_use]
    pub fn bypass(mut self, is_private: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        self.bypass = Arc::new(is_private);
        self
    }

    /// Names request headers that pages depend on, such as `Accept-Language`. Each of their values has responses of its
    /// own.
    #[must_use]
    pub fn vary_on(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.in_key.extend(names);
        self
    }

    /// Names request headers that the site sees although no page depends on them, such as the id of a request for the
    /// log. A page that shows such a header is replayed to requests with other values.
    #[must_use]
    pub fn pass(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.passed.extend(names);
        self
    }

    /// Takes a permit for each request that waits here for a version check. A request that finds none passes to the
    /// site, which may shed it.
    #[must_use]
    pub fn permits(mut self, permits: Arc<Semaphore>) -> Self {
        self.permits = Some(permits);
        self
    }
}

impl<S> Layer<S> for ReplayLayer {
    type Service = ReplayService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ReplayService(Arc::new(Replay { layer: self.clone(), site: inner }))
    }
}

/// A site whose responses are replayed, made by [`ReplayLayer`].
#[derive(Clone, Debug)]
pub struct ReplayService<S>(Arc<Replay<S>>);

#[derive(Debug)]
struct Replay<S> {
    layer: ReplayLayer,
    site: S,
}

impl<S, B> Service<Request<B>> for ReplayService<S>
where
    S: Service<Request<B>, Response = Response> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: HttpBody + Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    /// Is always ready: a request waits for the site once it is to reach the site.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        respond(Arc::clone(&self.0), request).boxed()
    }
}

async fn respond<S, B>(replay: Arc<Replay<S>>, mut request: Request<B>) -> Result<Response, S::Error>
where
    S: Service<Request<B>, Response = Response> + Clone,
    B: HttpBody,
{
    let layer = &replay.layer;
    let responses = layer.responses.as_ref();
    let keyed = responses.and_then(|responses| Some((responses, layer.key(responses, &request)?)));
    let Some((responses, (key, encoding))) = keyed else {
        return replay.site.clone().oneshot(request).await;
    };
    let arrival = Instant::now();
    let mut check = None;
    if let Some(kept) = responses.get(&key)
        && let Ok(_permit) = layer.permit()
    {
        match kept.replay(arrival).await {
            Ok(response) => {
                responses.count_hit();
                return Ok(apply(request.headers(), response));
            }
            // So that the page layer does not check the version once more.
            Err(checked) => check = checked,
        }
    }
    responses.count_miss();
    let conditions = conditions(request.headers());
    layer.withhold(&mut request, encoding);
    request.extensions_mut().insert(Keyed::new(arrival, check));
    let privacy = Privacy::of(request.extensions_mut());
    let mut response = replay.site.clone().oneshot(request).await?;
    if !privacy.is_marked() {
        response = responses.keep(key, &layer.in_key, response).await;
    }
    Ok(apply(&conditions, response))
}

impl ReplayLayer {
    /// Returns the key of a request's response, and the encoding to send it in; none if such responses are not kept.
    fn key<B: HttpBody>(
        &self,
        responses: &Responses,
        request: &Request<B>,
    ) -> Option<(Vec<u8>, Option<Encoding>)> {
        let (uri, headers) = (request.uri(), request.headers());
        let is_read = request.method() == Method::GET && request.body().is_end_stream();
        if !is_read
            || uri.authority().is_some()
            || !(self.is_page)(uri)
            || UNTOUCHED.iter().any(|name| headers.contains_key(name))
            || (self.bypass)(headers)
        {
            return None;
        }
        let target = uri.path_and_query()?.as_str();
        let encoding = Encoding::choose(headers, Encoding::ALL);
        let mut key = Vec::with_capacity(128);
        key.extend_from_slice(&responses.clears().to_le_bytes());
        key.extend_from_slice(encoding.map_or("", Encoding::name).as_bytes());
        for name in &self.in_key {
            // No value has a line's end in it, and an empty value is another than none.
            key.push(b'\n');
            let mut values = headers.get_all(name).iter();
            if let Some(value) = values.next() {
                key.push(b'=');
                key.extend_from_slice(value.as_bytes());
            }
            if values.next().is_some() {
                return None;
            }
        }
        key.push(b'\n');
        key.extend_from_slice(target.as_bytes());
        (key.len() <= LONGEST_KEY).then_some((key, encoding))
    }

    /// Takes off a request all that the site must not see, since it is not in the key.
    fn withhold<B>(&self, request: &mut Request<B>, encoding: Option<Encoding>) {
        let mut seen =
            select(request.headers(), |name| self.in_key.contains(name) || self.passed.contains(name));
        seen.remove(header::ACCEPT_ENCODING);
        seen.extend(encoding.map(|encoding| (header::ACCEPT_ENCODING, encoding.header())));
        *request.headers_mut() = seen;
        *request.version_mut() = Version::default();
        request.extensions_mut().clear();
    }

    /// Returns a permit to wait, where one is needed.
    fn permit(&self) -> Result<Option<SemaphorePermit<'_>>, TryAcquireError> {
        self.permits.as_deref().map(Semaphore::try_acquire).transpose()
    }
}

impl fmt::Debug for ReplayLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_key, passed, .. } = self;
        f.debug_struct("ReplayLayer").field("in_key", in_key).field("passed", passed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use neverstale::backend::dummy::Dummy;
    use neverstale::{Cache, CacheOptions};

    use super::*;

    fn key_of(headers: &[(&str, &str)], body: &'static str) -> Option<Vec<u8>> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let responses = Responses::new(&Cache::new(Dummy, CacheOptions::default()), 1);
        let layer = ReplayLayer::new(None, |_| true).vary_on([header::ACCEPT_LANGUAGE]);
        let layer = layer.bypass(|headers| headers.contains_key("x-private"));
        Some(layer.key(&responses, &request.body(Body::from(body)).unwrap())?.0)
    }

    #[test]
    fn a_request_that_may_be_private_or_has_a_header_twice_has_no_key() {
        assert!(key_of(&[("cookie", "theme=dark"), ("accept", "a"), ("accept", "b")], "").is_some());
        for name in ["host", "x-forwarded-proto", "accept-language"] {
            assert!(key_of(&[(name, "a")], "").is_some());
            assert_eq!(key_of(&[(name, "a"), (name, "a")], ""), None);
            assert_eq!(key_of(&[(name, ""), (name, "a")], ""), None);
        }
        for name in ["authorization", "if-match", "if-unmodified-since", "x-private"] {
            assert_eq!(key_of(&[(name, "")], ""), None);
        }
        assert_eq!(key_of(&[("host", &"a".repeat(LONGEST_KEY))], ""), None);
        assert_eq!(key_of(&[], "something"), None);
    }

    #[test]
    fn requests_that_differ_in_what_counts_have_different_keys() {
        let keys = [
            key_of(&[("host", "a"), ("x-forwarded-proto", "b")], ""),
            key_of(&[("host", "b"), ("x-forwarded-proto", "a")], ""),
            key_of(&[("host", "a"), ("accept-language", "b")], ""),
            key_of(&[("host", "a"), ("accept-encoding", "br")], ""),
            key_of(&[("host", "a"), ("accept-encoding", "gzip")], ""),
            key_of(&[("host", "ab")], ""),
            key_of(&[("host", "ab"), ("x-forwarded-proto", "")], ""),
        ];
        assert!(keys.iter().enumerate().all(|(index, one)| !keys[index + 1..].contains(one)), "{keys:?}");
    }

    #[test]
    fn ways_to_ask_for_an_encoding_have_one_key() {
        for (one, other) in [
            ("br", "gzip, deflate, br, zstd"),
            ("gzip", "x-gzip;q=0.5, identity;q=0.1"),
            ("", "deflate"),
            ("", "identity"),
            ("", "*;q=0"),
        ] {
            let [one, other] = [one, other].map(|value| key_of(&[("accept-encoding", value)], ""));
            assert_eq!(one, other);
        }
        assert_eq!(key_of(&[("accept-encoding", "")], ""), key_of(&[], ""));
    }
}
