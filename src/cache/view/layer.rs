//! The layer: what is to be kept, for how long, and under which names.

use std::sync::Arc;

use moka::sync::Cache as Memory;
use tower::Layer;

use super::key::{self, QueryNames};
use super::service::CachePageService;
use super::store::Store;
use super::verdict::Browser;
use crate::cache::query::random_token;
use crate::cache::{Cache, Ttl};

/// How many URLs a process remembers the varying headers of. One that is forgotten costs a round trip.
const LEARNED: u64 = 10_000;

/// Keeps the answers of views in the cache: see [the module](super).
#[derive(Clone)]
pub struct CachePage {
    pub(super) ttl: Ttl,
    pub(super) browser: Browser,
    pub(super) parameters: QueryNames,
    pub(super) pages: ViewCache,
}

/// Keeps the answers of views for `ttl`: Django's `cache_page`.
#[must_use]
pub fn cache_page(cache: &Cache, ttl: Ttl) -> CachePage {
    CachePage::new(cache, ttl)
}

impl CachePage {
    /// Keeps the answers for so long; with [`Ttl::Never`] until they are purged or evicted.
    #[must_use]
    pub fn new(cache: &Cache, ttl: Ttl) -> Self {
        ViewCache::new(cache).cache_page(ttl)
    }

    /// Names the query parameters that the view depends on. All others are left out of the key; by default the whole
    /// query is in it as it stands, its order included.
    #[must_use]
    pub fn vary_on_query(mut self, parameters: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.parameters = Some(parameters.into_iter().map(Into::into).collect());
        self
    }

    /// Keeps these pages apart from those of the same URL under another prefix, also for [`ViewCache::purge`].
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.pages = self.pages.key_prefix(prefix);
        self
    }

    /// Chooses what the browser is told; by default to ask each time.
    #[must_use]
    pub fn browser(mut self, browser: Browser) -> Self {
        self.browser = browser;
        self
    }

    /// Returns the handle that purges these pages.
    #[must_use]
    pub fn handle(&self) -> ViewCache {
        self.pages.clone()
    }
}

impl<S> Layer<S> for CachePage {
    type Service = CachePageService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CachePageService { inner, layer: self.clone() }
    }
}

/// All cached pages of one prefix. Cheap to clone.
#[derive(Clone)]
pub struct ViewCache {
    pub(super) store: Store,
    pub(super) prefix: Arc<str>,
}

impl ViewCache {
    /// Returns the pages without a prefix.
    #[must_use]
    pub fn new(cache: &Cache) -> Self {
        let store = Store { cache: cache.counted_as("views"), learned: Memory::new(LEARNED) };
        Self { store, prefix: "".into() }
    }

    /// Returns the pages of a prefix.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into().into();
        self
    }

    /// Returns a layer that keeps answers among these pages for so long.
    #[must_use]
    pub fn cache_page(&self, ttl: Ttl) -> CachePage {
        CachePage { ttl, browser: Browser::default(), parameters: None, pages: self.clone() }
    }

    /// Lets nobody see any page of a path any more whose view began before: on all hosts, over http and https, with all
    /// queries, for all values of the headers it varies on. `path` is that of the URL; a query behind it is ignored.
    ///
    /// Where the cache cannot be reached, pages may be seen that this process had stored before: see
    /// [the limits](super#limits).
    pub async fn purge(&self, path: &str) {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        self.store.renew(&key::generation(&self.prefix, path), random_token()).await;
    }
}

impl std::fmt::Debug for CachePage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachePage")
            .field("ttl", &self.ttl)
            .field("browser", &self.browser)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ViewCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ViewCache").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
