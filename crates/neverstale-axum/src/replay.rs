//! Replay: a response cache for the outermost place of a site.
//!
//! A cached page still passes every layer on its way out, and each layer does the same for everybody. So
//! [`ReplayLayer`] keeps whole responses as they leave the site, and replays each while the version of the page that
//! it shows is the current one. Most requests get no further.
//!
//! ```
//! # use neverstale::{Cache, CacheOptions, Ttl, backend::locmem::Locmem};
//! # use neverstale_axum::PageCache;
//! # use axum::{Router, routing::get};
//! # use tower::Layer;
//! let cache = Cache::new(Locmem::new(), CacheOptions::default());
//! let pages = PageCache::new(&cache).with_local_copies(32 * 1024 * 1024);
//! let site: Router = Router::new().route("/", get("hello").layer(pages.cache_page(Ttl::Never)));
//! let site = pages.replay_layer().layer(site);
//! ```
//!
//! # The invariant
//!
//! **A response is replayed only where the site would give the same.** For that, the site's layers and handlers may
//! look at nothing of a request but this:
//!
//! | what | so |
//! |---|---|
//! | method, target, `Host`, `X-Forwarded-Proto`, `Accept-Encoding` | responses are kept by them; only those to `GET` |
//! | `Authorization`, a private cookie, a body | the request passes to the site, see [`ReplayLayer::bypass`] |
//! | other headers | the response says so in `Vary`, and is not kept |
//! | any other private state | it marks the request's [`Privacy`], and the response is not kept |
//! | `If-None-Match` and the other conditions | they choose between the responses of status 200 and 304 that are kept |
//! | the data that the page shows | pages are kept by version, and the version is checked for each request |
//!
//! A layer that looks at something else, such as the client's address, or that gives each response something of its
//! own, such as an id, belongs outside of this layer. So does what happens at some time for another reason than a
//! request, such as `Connection: close` during a shutdown.
//!
//! Only responses that show one of the process's own copies are kept:
//! [`PageCache::with_local_copies`](crate::PageCache::with_local_copies) and pages
//! [by version](crate::CachePageLayer::versioned).

mod responses;

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::http::{HeaderMap, Request, header};
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::Instant;
use tower::{Layer, Service};

pub(super) use self::responses::Responses;
use super::outcome::Arrival;
use super::privacy::Privacy;

/// A tower layer that replays whole responses: see [the module](self).
///
/// It wraps a whole site, outside of all routers. [`PageCache::replay_layer`](crate::PageCache::replay_layer) makes it.
#[derive(Clone)]
pub struct ReplayLayer {
    /// None where no pages are copied.
    responses: Option<Responses>,
    bypass: Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>,
    permits: Option<Arc<Semaphore>>,
}

impl ReplayLayer {
    pub(super) fn new(responses: Option<Responses>) -> Self {
        let bypass = Arc::new(|headers: &HeaderMap| headers.contains_key(header::COOKIE));
        Self { responses, bypass, permits: None }
    }

    /// Chooses by their headers which requests always pass to the site; by default those with a `Cookie`.
    ///
    /// A site that knows its private cookies lets the others, such as those of statistics, make no difference. Requests
    /// with `Authorization` or with a body pass in any case.
    #[must_use]
    pub fn bypass(mut self, is_private: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        self.bypass = Arc::new(is_private);
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
        ReplayService { inner, layer: Arc::new(self.clone()) }
    }
}

/// A site whose responses are replayed, made by [`ReplayLayer`].
#[derive(Clone, Debug)]
pub struct ReplayService<S> {
    inner: S,
    layer: Arc<ReplayLayer>,
}

impl<S, B> Service<Request<B>> for ReplayService<S>
where
    S: Service<Request<B>, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody + Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready is called, its clone stays.
        let clone = self.inner.clone();
        let inner = mem::replace(&mut self.inner, clone);
        Arc::clone(&self.layer).respond(inner, request).boxed()
    }
}

impl ReplayLayer {
    async fn respond<S, B>(
        self: Arc<Self>,
        mut site: S,
        mut request: Request<B>,
    ) -> Result<Response, S::Error>
    where
        S: Service<Request<B>, Response = Response>,
        B: HttpBody,
    {
        let responses = self.responses.as_ref().filter(|_| !(self.bypass)(request.headers()));
        let Some((responses, key)) =
            responses.and_then(|responses| Some((responses, responses.key(&request)?)))
        else {
            return site.call(request).await;
        };
        if let Some(kept) = responses.find(&key, request.headers())
            && let Ok(_permit) = self.permit()
        {
            let arrival = Arrival(Instant::now());
            match kept.replay(arrival).await {
                Ok(response) => {
                    responses.count_hit();
                    return Ok(response);
                }
                // So that the page layer does not check the version once more.
                Err(checked) => {
                    request.extensions_mut().insert(checked);
                    request.extensions_mut().insert(arrival);
                }
            }
        }
        let privacy = Privacy::of(request.extensions_mut());
        let response = site.call(request).await?;
        Ok(responses.keep(&key, &privacy, response).await)
    }

    /// Returns a permit to wait, where one is needed.
    fn permit(&self) -> Result<Option<SemaphorePermit<'_>>, TryAcquireError> {
        self.permits.as_deref().map(Semaphore::try_acquire).transpose()
    }
}

impl fmt::Debug for ReplayLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayLayer").field("permits", &self.permits).finish_non_exhaustive()
    }
}
