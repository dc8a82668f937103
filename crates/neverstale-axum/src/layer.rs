//! The cached pages of a site, and the layer that caches those of a handler.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Uri, request};
use axum::response::IntoResponse;
use tower::Layer;

use super::key;
use super::personal::PersonalRule;
use super::policy::{Browser, Policy};
use super::replay::{ReplayLayer, Responses};
use super::service::CachePageService;
use super::store::{Store, random_token};
use neverstale::version::{Lost, VersionSource, Versions};
use neverstale::{Cache, Ttl};

/// The cached pages of a site: makes layers for handlers, and purges pages. Cheap to clone.
#[derive(Clone)]
pub struct PageCache {
    store: Store,
    responses: Option<Responses>,
    prefix: Arc<str>,
    /// In `Cache-Status`.
    name: &'static str,
}

impl PageCache {
    /// Creates a cache of pages in `cache`.
    #[must_use]
    pub fn new(cache: &Cache) -> Self {
        let store = Store::new(cache.counted_as("views"));
        Self { store, responses: None, prefix: "".into(), name: env!("CARGO_PKG_NAME") }
    }

    /// Names this cache in `Cache-Status`, among all caches on the way to a browser; `neverstale-axum` by default.
    /// `name` is a token, such as the name of your application (RFC 9211, section 2).
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Keeps these pages apart from those of the same URLs under another prefix.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into().into();
        self
    }

    /// Keeps current pages in the process as well, ready to be sent: up to `capacity` bytes of responses, which a
    /// [`ReplayLayer`] keeps and replays.
    #[must_use]
    pub fn with_local_copies(mut self, capacity: u64) -> Self {
        self.responses = Some(Responses::new(&self.store.cache, capacity));
        self
    }

    /// Returns whether pages are kept in the process as well.
    #[must_use]
    pub fn has_local_copies(&self) -> bool {
        self.responses.is_some()
    }

    /// Drops the copies in this process.
    pub fn drop_copies(&self) {
        if let Some(responses) = &self.responses {
            responses.clear();
        }
    }

    /// Returns a layer that caches the pages of a handler, or of a whole router, for `ttl`: Django's `cache_page`. With
    /// [`Ttl::Never`] they stay until they are purged or evicted.
    #[must_use]
    pub fn cache_page(&self, ttl: Ttl) -> CachePageLayer {
        CachePageLayer {
            policy: Policy {
                store: self.store.clone(),
                name: self.name,
                prefix: Arc::clone(&self.prefix),
                ttl,
                browser: Browser::default(),
                parameters: None,
                digest: Cow::default(),
                max_wait: self.store.cache.max_wait(),
                max_size: self.store.cache.largest_value(),
                versions: None,
                personal: None,
            },
        }
    }

    /// Returns a layer for the outermost place of the site, which keeps whole responses
    /// [in this process](Self::with_local_copies) and replays them: see [`replay`](crate::replay).
    ///
    /// `is_page` chooses by its target which request is for a page. The site sees little more of such a request than
    /// its target and host, so choose no handler that needs other headers.
    #[must_use]
    pub fn replay_layer(&self, is_page: impl Fn(&Uri) -> bool + Send + Sync + 'static) -> ReplayLayer {
        ReplayLayer::new(self.responses.clone(), is_page)
    }

    /// Purges the pages of a path: on all hosts, over http and https, with all queries, for all values of the headers
    /// that they vary on. A page is no longer shown if its handler began before the purge. `path` is that of the URL; a
    /// query behind it is ignored.
    ///
    /// Call it after the commit of a change. While the cache cannot be reached, other processes may show pages that
    /// were stored before: see [the limits](crate#limits).
    pub async fn purge(&self, path: &str) {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        self.store.renew(&key::generation(&self.prefix, path), random_token()).await;
    }
}

/// A tower layer that caches whole pages, made by [`PageCache::cache_page`]: see [the crate](crate).
#[derive(Clone)]
pub struct CachePageLayer {
    pub(super) policy: Policy,
}

impl CachePageLayer {
    /// Names the query parameters that the handler depends on. All others are left out of the key; by default the whole
    /// query is in it as it stands, its order included.
    #[must_use]
    pub fn vary_on_query(mut self, parameters: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.policy.parameters = Some(parameters.into_iter().map(Into::into).collect());
        self
    }

    /// Leaves the whole query out of the key: the handler looks at none of it.
    #[must_use]
    pub fn without_query(self) -> Self {
        self.vary_on_query([""; 0])
    }

    /// Names what makes the pages, such as a [digest](neverstale::fragment::digest) of their templates: pages that
    /// another build made differently are not found. A purge is of both.
    #[must_use]
    pub fn digest(mut self, digest: impl Into<Cow<'static, str>>) -> Self {
        self.policy.digest = digest.into();
        self
    }

    /// Keeps pages by the version of what they show. A page is shown only while its version is the current one, so
    /// nothing has to be purged; a [`purge`](PageCache::purge) does nothing to such pages. Without a version there is
    /// no page: the response is what `error_response` makes of the error.
    ///
    /// The handler must add a [`PageVersion`](super::PageVersion) to its response, with the version that it has read
    /// together with what the page shows. A response without one is not stored.
    #[must_use]
    pub fn versioned<S, E, R>(
        mut self,
        source: &VersionSource<S, E>,
        error_response: impl Fn(&E) -> R + Send + Sync + 'static,
    ) -> Self
    where
        S: Display + Clone + PartialEq + Send + Sync + 'static,
        E: From<Lost> + Send + Sync + 'static,
        R: IntoResponse,
    {
        let error_response = Arc::new(error_response);
        let fail = move |error: Arc<E>| error_response(&error).into_response();
        self.policy.versions = Some(Versions::of(source, fail));
        self
    }

    /// Chooses which GET requests have a response of their own, in the place of the page that everybody gets.
    ///
    /// Such a request bypasses the cache, and its response is kept nowhere. Its handler learns of it by
    /// [`PageContext::is_personal`](super::PageContext::is_personal). All other requests share the page.
    ///
    /// `is_personal` decides by the request alone, such as by a cookie that was set when there was something to show.
    /// `header` is the request header that it looks at, which all responses name in `Vary`.
    #[must_use]
    pub fn personal(
        mut self,
        header: &'static str,
        is_personal: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.policy.personal = Some(PersonalRule { header, applies: Arc::new(is_personal) });
        self
    }

    /// Limits how long another process's run of the handler is waited for; by default
    /// [`CacheOptions::max_wait`](neverstale::CacheOptions::max_wait).
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.policy.max_wait = max_wait;
        self
    }

    /// Limits the size of a stored page with its headers and encodings, in bytes; by default
    /// [`CacheOptions::largest_value`](neverstale::CacheOptions::largest_value).
    #[must_use]
    pub fn max_size(mut self, max_size: usize) -> Self {
        self.policy.max_size = max_size;
        self
    }

    /// Chooses what the browser is told; by default to ask each time.
    #[must_use]
    pub fn browser(mut self, browser: Browser) -> Self {
        self.policy.browser = browser;
        self
    }
}

impl<S> Layer<S> for CachePageLayer {
    type Service = CachePageService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CachePageService { inner, policy: Arc::new(self.policy.clone()) }
    }
}

impl fmt::Debug for CachePageLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Policy { ttl, browser, .. } = &self.policy;
        f.debug_struct("CachePageLayer").field("ttl", ttl).field("browser", browser).finish_non_exhaustive()
    }
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
