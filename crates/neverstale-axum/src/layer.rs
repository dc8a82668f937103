//! The layer: what is to be kept, for how long, and under which names.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request;
use axum::response::IntoResponse;
use moka::sync::Cache as Memory;
use tower::Layer;

use super::key;
use super::local::Local;
use super::personal::Personal;
use super::policy::Policy;
use super::service::CachePageService;
use super::store::{Store, random_token};
use super::verdict::Browser;
use super::visit::Pages;
use neverstale::version::{Lost, VersionSource, Versions};
use neverstale::{Cache, Strategy, Ttl};

/// How many URLs a process remembers the varying headers of. One that is forgotten costs a round trip.
const LEARNED: u64 = 10_000;

/// A tower layer that caches whole pages: see [the crate](crate).
#[derive(Clone)]
pub struct CachePageLayer {
    pub(super) policy: Policy,
    store: Arc<Store>,
    strategy: Strategy,
}

/// Caches the pages of a handler for `ttl`: Django's `cache_page`.
///
/// ```
/// use axum::{Router, body::Body, http::Request, routing::get};
/// use neverstale_axum::{CACHE_STATUS, cache_page};
/// use neverstale::{Cache, CacheOptions, Ttl, backend::locmem::Locmem};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Cache::new(Locmem::new(), CacheOptions::default());
/// let layer = cache_page(&cache, Ttl::Never);
/// let pages = layer.handle();
/// let site: Router = Router::new().route("/news", get(|| async { "news" }).layer(layer));
/// let ask = async || {
///     let request = Request::get("/news").header("host", "example.com").body(Body::empty())?;
///     let response = site.clone().oneshot(request).await?;
///     Ok::<_, Box<dyn std::error::Error>>(response.headers()[CACHE_STATUS].to_str()?.to_owned())
/// };
/// assert_eq!(ask().await?, "neverstale-axum; fwd=uri-miss; stored");
/// assert_eq!(ask().await?, "neverstale-axum; hit");
/// pages.purge("/news").await;
/// assert_eq!(ask().await?, "neverstale-axum; fwd=uri-miss; stored");
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn cache_page(cache: &Cache, ttl: Ttl) -> CachePageLayer {
    CachePageLayer::new(cache, ttl)
}

impl CachePageLayer {
    /// Keeps the answers for so long; with [`Ttl::Never`] until they are purged or evicted.
    #[must_use]
    pub fn new(cache: &Cache, ttl: Ttl) -> Self {
        PageCache::new(cache).cache_page(ttl)
    }

    /// Names the query parameters that the view depends on. All others are left out of the key; by default the whole
    /// query is in it as it stands, its order included.
    #[must_use]
    pub fn vary_on_query(mut self, parameters: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.policy.parameters = Some(parameters.into_iter().map(Into::into).collect());
        self
    }

    /// Lets the query make no difference: the view looks at none of it.
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

    /// Keeps pages by the version of what they show. A page is given to those only who ask while its version is the
    /// current one, so nothing has to be purged; a [`purge`](PageCache::purge) does nothing to such pages. Without a
    /// version there is no page, but the error's answer.
    ///
    /// The view must add a [`PageVersion`](super::PageVersion) to its answer, with the version that it has read
    /// together with what the page shows. An answer without one is not stored.
    #[must_use]
    pub fn versioned<S, E>(mut self, gate: &VersionSource<S, E>) -> Self
    where
        S: Display + Clone + PartialEq + Send + Sync + 'static,
        E: From<Lost> + IntoResponse + Clone + Send + Sync + 'static,
    {
        self.policy.versions = Some(Versions::of(gate, E::into_response));
        self
    }

    /// Lets visitors have answers of their own. `ask` looks at a GET: it returns nothing at once if its visitor can
    /// have no answer of their own, such as for want of a cookie, or else finds out, while the page is looked for. If
    /// it finds something, the view runs with that among the request's extensions, and its answer is kept nowhere.
    ///
    /// `header` is what `ask` goes by, which all answers say in `Vary`. The pages are everybody's nevertheless.
    #[must_use]
    pub fn personal<T, F>(
        mut self,
        header: &'static str,
        ask: impl Fn(&request::Parts) -> Option<F> + Send + Sync + 'static,
    ) -> Self
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        self.policy.personal = Some(Personal::new(header, ask));
        self
    }

    /// Chooses how long another process's run of the view is waited for; by default as long as
    /// [`CacheOptions::max_wait`](neverstale::CacheOptions::max_wait).
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.policy.max_wait = max_wait;
        self
    }

    /// Keeps these pages apart from those of the same URL under another prefix, also for [`PageCache::purge`].
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.policy.prefix = prefix.into().into();
        self
    }

    /// Chooses what the browser is told; by default to ask each time.
    #[must_use]
    pub fn browser(mut self, browser: Browser) -> Self {
        self.policy.browser = browser;
        self
    }

    /// Returns the handle that purges these pages.
    #[must_use]
    pub fn handle(&self) -> PageCache {
        let (prefix, name) = (Arc::clone(&self.policy.prefix), self.policy.name);
        PageCache { store: Arc::clone(&self.store), prefix, name, strategy: self.strategy }
    }
}

impl<S> Layer<S> for CachePageLayer {
    type Service = CachePageService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let pages = Pages { policy: self.policy.clone(), store: Arc::clone(&self.store) };
        CachePageService { inner, pages: Arc::new(pages) }
    }
}

/// The cached pages of one key prefix: makes layers for handlers, and purges pages. Cheap to clone.
#[derive(Clone)]
pub struct PageCache {
    store: Arc<Store>,
    prefix: Arc<str>,
    /// In `Cache-Status`.
    name: &'static str,
    strategy: Strategy,
}

impl PageCache {
    /// Returns the pages without a prefix.
    #[must_use]
    pub fn new(cache: &Cache) -> Self {
        let cache = cache.counted_as("views");
        let store = Store { cache, learned: Memory::new(LEARNED), local: None };
        Self {
            store: Arc::new(store),
            prefix: "".into(),
            name: env!("CARGO_PKG_NAME"),
            strategy: Strategy::Delete,
        }
    }

    /// Names this cache in `Cache-Status`, among all caches on the way to a browser; `neverstale-axum` by default.
    /// `name` is a token, such as the name of your application (RFC 9211, section 2).
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Chooses how a change becomes visible where writers tell of it; by default pages are deleted.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Keeps the current page of each URL in the process as well, ready to be sent, where pages are kept by version. Up
    /// to 32 MiB of them.
    #[must_use]
    pub fn with_local_copies(mut self) -> Self {
        Arc::make_mut(&mut self.store).local = Some(Local::new(&self.store.cache));
        self
    }

    /// Returns whether pages are kept in the process as well.
    #[must_use]
    pub fn has_local_copies(&self) -> bool {
        self.store.local.is_some()
    }

    /// Drops the copies in this process.
    pub fn drop_copies(&self) {
        if let Some(local) = &self.store.local {
            local.drop_all();
        }
    }

    /// Returns the pages of a prefix.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into().into();
        self
    }

    /// Returns a layer that keeps answers among these pages for so long; also those of which nobody is told that they
    /// have changed.
    #[must_use]
    pub fn cache_page(&self, ttl: Ttl) -> CachePageLayer {
        let max_wait = self.store.cache.max_wait();
        let (browser, parameters, digest, versions, personal) = Default::default();
        let (prefix, name) = (Arc::clone(&self.prefix), self.name);
        let policy = Policy { ttl, browser, parameters, digest, max_wait, versions, personal, prefix, name };
        CachePageLayer { policy, store: Arc::clone(&self.store), strategy: self.strategy }
    }

    /// Returns a layer that keeps answers as long as the strategy allows: five minutes, if [`changed`](Self::changed)
    /// is called after each change of what they show.
    #[must_use]
    pub fn cache_changing_page(&self) -> CachePageLayer {
        self.cache_page(self.strategy.ttl(self.store.cache.default_ttl()))
    }

    /// Returns a layer that keeps answers by the version of what they show, as [`CachePageLayer::versioned`] says. No
    /// change need be told.
    #[must_use]
    pub fn cache_versioned_page<S, E>(&self, gate: &VersionSource<S, E>) -> CachePageLayer
    where
        S: Display + Clone + PartialEq + Send + Sync + 'static,
        E: From<Lost> + IntoResponse + Clone + Send + Sync + 'static,
    {
        self.cache_page(neverstale::VERSIONED).versioned(gate)
    }

    /// Makes a change of what the pages of a path show visible. To be called after the commit, and after the change has
    /// become visible to the views.
    pub async fn changed(&self, path: &str) {
        match self.strategy {
            Strategy::Expire => {}
            Strategy::Delete | Strategy::Rotate | Strategy::Update => self.purge(path).await,
        }
    }

    /// Purges the pages of a path: on all hosts, over http and https, with all queries, for all values of the headers
    /// that they vary on. A page is no longer shown if its handler began before the purge. `path` is that of the URL; a
    /// query behind it is ignored.
    ///
    /// Where the cache cannot be reached, pages may be seen that this process had stored before: see
    /// [the limits](super#limits).
    pub async fn purge(&self, path: &str) {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        self.store.renew(&key::generation(&self.prefix, path), random_token()).await;
    }
}

impl std::fmt::Debug for CachePageLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachePageLayer").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PageCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageCache").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
