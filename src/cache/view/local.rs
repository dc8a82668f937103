//! The current pages of this process, ready to be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::HeaderMap;
use moka::sync::Cache as Memory;

use super::entry::Page;
use crate::cache::{Cache, Key};
use crate::mistake::Mistake;

/// The bytes of all pages together.
const CAPACITY: u64 = 32 * 1024 * 1024;

/// A page for each URL: that of the version that was last seen. Only pages that vary on no header.
#[derive(Clone)]
pub(super) struct Local {
    pages: Memory<Key, Arc<Ready>>,
    /// Only counts.
    cache: Cache,
    /// How often all were dropped.
    epoch: Arc<AtomicUsize>,
}

/// A page with its headers as they are sent.
pub(super) struct Ready {
    pub(super) page: Page,
    pub(super) headers: HeaderMap,
}

impl Local {
    pub(super) fn new(cache: &Cache) -> Self {
        let size = |_: &Key, ready: &Arc<Ready>| u32::try_from(ready.page.size()).unwrap_or(u32::MAX);
        let pages = Memory::builder().max_capacity(CAPACITY).weigher(size).build();
        Self { pages, cache: cache.counted_as("local"), epoch: Arc::default() }
    }

    /// Returns the page of a URL, if it is of this version and has not expired.
    pub(super) fn get(&self, url: &Key, version: &str) -> Option<Arc<Ready>> {
        let found = self.pages.get(url);
        let found =
            found.filter(|ready| ready.page.is_current(version) || Mistake::CopyOfAnyVersion.is_made());
        let counters = self.cache.counters();
        let counter = if found.is_some() { &counters.hits } else { &counters.misses };
        counter.add_one();
        found
    }

    /// Counts a copy that was given out again without being looked for here.
    pub(super) fn count_hit(&self) {
        self.cache.counters().hits.add_one();
    }

    /// Returns a number that is another one once all copies were dropped.
    pub(super) fn epoch(&self) -> usize {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(super) fn drop_all(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.pages.invalidate_all();
    }

    pub(super) fn keep(&self, url: &Key, page: &Page) {
        if page.vary_on.is_empty() {
            self.cache.counters().fills.add_one();
            self.pages.insert(url.clone(), Arc::new(Ready { headers: page.headers(), page: page.clone() }));
        }
    }
}
