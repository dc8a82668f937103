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
    /// Of all copies, when this one was made.
    epoch: usize,
}

impl Local {
    pub(super) fn new(cache: &Cache) -> Self {
        let size = |_: &Key, ready: &Arc<Ready>| u32::try_from(ready.page.size()).unwrap_or(u32::MAX);
        let pages = Memory::builder().max_capacity(CAPACITY).weigher(size).build();
        Self { pages, cache: cache.counted_as("local"), epoch: Arc::default() }
    }

    /// Returns the page of a URL, if it is of this version and has not expired.
    pub(super) fn get(&self, url: &Key, version: &str) -> Option<Arc<Ready>> {
        // One that was made before all were dropped may have been put here after.
        let found = self.pages.get(url).filter(|ready| self.has_not_dropped(ready));
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

    /// Returns whether all copies have not been dropped since this one was made.
    pub(super) fn has_not_dropped(&self, ready: &Ready) -> bool {
        ready.epoch == self.epoch.load(Ordering::Relaxed)
    }

    pub(super) fn drop_all(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.pages.invalidate_all();
    }

    pub(super) fn keep(&self, url: &Key, page: &Page) {
        if page.vary_on.is_empty() {
            self.cache.counters().fills.add_one();
            let epoch = self.epoch.load(Ordering::Relaxed);
            let ready = Ready { headers: page.headers(), page: page.clone(), epoch };
            self.pages.insert(url.clone(), Arc::new(ready));
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Response;
    use bytes::Bytes;

    use super::*;
    use crate::cache::backend::locmem::Locmem;
    use crate::cache::{CacheOptions, Ttl};

    #[test]
    fn a_copy_that_was_found_before_all_were_dropped_is_known_to_be_dropped() {
        let local = Local::new(&Cache::new(Locmem::new(), CacheOptions::default()));
        let (parts, ()) = Response::new(()).into_parts();
        let mut page = Page::new(&parts, Bytes::new(), Ttl::Never);
        page.generation = "1".into();
        let url = Key::new("page").unwrap();
        local.keep(&url, &page);
        let found = local.get(&url, "1").unwrap();
        assert!(local.has_not_dropped(&found));
        local.drop_all();
        assert!(!local.has_not_dropped(&found), "whoever has it still must not give it out again");
        local.keep(&url, &page);
        assert!(local.has_not_dropped(&local.get(&url, "1").unwrap()));
    }
}
