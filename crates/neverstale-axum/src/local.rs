//! The current pages of this process, ready to be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::HeaderMap;
use bytes::Bytes;
use moka::sync::Cache as Memory;
use tokio::sync::OnceCell;

use super::encodable::is_encodable;
use super::encoding::Encoding;
use super::entry::Page;
use super::mistake::Mistake;
use neverstale::{Cache, Event, Key};

/// The bytes of all pages together.
const CAPACITY: u64 = 32 * 1024 * 1024;

/// What the place of a header in a map takes, about.
const PER_HEADER: usize = 128;

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
    is_encodable: bool,
    /// What the page did not come with, made for the first who asked for it; none where it became no shorter.
    encoded: [OnceCell<Option<Bytes>>; Encoding::ALL.len()],
}

impl Local {
    pub(super) fn new(cache: &Cache) -> Self {
        let size = |url: &Key, ready: &Arc<Ready>| {
            u32::try_from(url.to_string().len() + ready.largest_size()).unwrap_or(u32::MAX)
        };
        let pages = Memory::builder().max_capacity(CAPACITY).weigher(size).build();
        Self { pages, cache: cache.counted_as("local"), epoch: Arc::default() }
    }

    /// Returns the page of a URL, if it is of this version and has not expired.
    pub(super) fn get(&self, url: &Key, version: &str) -> Option<Arc<Ready>> {
        // One that was made before all were dropped may have been put here after.
        let found = self.pages.get(url).filter(|ready| self.has_not_dropped(ready));
        let found =
            found.filter(|ready| ready.page.is_current(version) || Mistake::CopyOfAnyVersion.is_made());
        self.cache.record(if found.is_some() { Event::Hit } else { Event::Miss });
        found
    }

    /// Counts a copy that was given out again without being looked for here.
    pub(super) fn count_hit(&self) {
        self.cache.record(Event::Hit);
    }

    /// Returns whether all copies have not been dropped since this one was made.
    pub(super) fn has_not_dropped(&self, ready: &Ready) -> bool {
        ready.epoch == self.epoch.load(Ordering::Relaxed)
    }

    pub(super) fn drop_all(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.pages.invalidate_all();
    }

    /// Returns the copy of a page, made now if there is none; none if its like is not kept.
    pub(super) fn copy(&self, url: &Key, page: &Page) -> Option<Arc<Ready>> {
        let is_same =
            |ready: &Arc<Ready>| self.has_not_dropped(ready) && ready.page.generation == page.generation;
        self.pages.get(url).filter(is_same).or_else(|| self.keep(url, page))
    }

    /// Keeps a copy of a page in place of any older one, and returns it; none if its like is not kept.
    pub(super) fn keep(&self, url: &Key, page: &Page) -> Option<Arc<Ready>> {
        if !page.vary_on.is_empty() {
            return None;
        }
        self.cache.record(Event::Fill);
        let (headers, epoch) = (page.headers(), self.epoch.load(Ordering::Relaxed));
        let is_encodable = is_encodable(&headers, &page.plain());
        // The page may be a slice of a far larger buffer, which a copy that is kept for long must not hold.
        let page = page.compact();
        let ready = Ready { headers, page, epoch, is_encodable, encoded: Default::default() };
        let ready = Arc::new(ready);
        self.pages.insert(url.clone(), Arc::clone(&ready));
        Some(ready)
    }
}

impl Ready {
    /// Returns the body that a client likes best, and its encoding if it has one: made now, if this is the first who
    /// likes it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the next one to make it.
    pub(super) async fn body(&self, asked: &HeaderMap) -> (Option<Encoding>, Bytes) {
        let chosen = Encoding::choose(asked, Encoding::ALL).filter(|_| self.is_encodable);
        let Some(encoding) = chosen else { return self.page.body(asked) };
        if let Some(body) = self.page.encoded(encoding) {
            return (chosen, body);
        }
        let made = self.encoded[encoding as usize].get_or_init(|| encoding.encode(self.page.plain())).await;
        made.clone().map_or_else(|| (None, self.page.plain()), |body| (chosen, body))
    }

    /// Returns the bytes that it takes at most: with all its encodings, each of which is shorter than the page, and
    /// with the headers in both of their forms.
    pub(super) fn largest_size(&self) -> usize {
        let encoded = if self.is_encodable { Encoding::ALL.len() * self.page.plain().len() } else { 0 };
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + PER_HEADER);
        size_of::<Self>() + self.page.size() + encoded + headers.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Response, header};
    use bytes::Bytes;

    use super::*;
    use neverstale::backend::locmem::Locmem;
    use neverstale::{CacheOptions, Ttl};

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

    #[test]
    fn a_copy_holds_nothing_but_its_page() {
        let local = Local::new(&Cache::new(Locmem::new(), CacheOptions::default()));
        let (parts, ()) = Response::new(()).into_parts();
        // A shared buffer, of which the page is a small part.
        let buffer = Bytes::from(vec![b'x'; 64 * 1024]);
        let read = buffer.slice(1000..1100);
        let ready = local.keep(&Key::new("page").unwrap(), &Page::new(&parts, read, Ttl::Never)).unwrap();
        assert_eq!(ready.page.plain(), buffer[1000..1100]);
        assert!(buffer.is_unique(), "the copy does not hold the buffer");
    }

    #[test]
    fn a_copy_weighs_what_it_takes() {
        let local = Local::new(&Cache::new(Locmem::new(), CacheOptions::default()));
        let weight = |header: &'static str, url: &str| {
            let response = Response::builder().header(header::LINK, header).body(()).unwrap();
            let page = Page::new(&response.into_parts().0, Bytes::from_static(b"page"), Ttl::Never);
            local.drop_all();
            local.keep(&Key::new(url).unwrap(), &page);
            local.pages.run_pending_tasks();
            local.pages.weighted_size()
        };
        let least = weight("a", "u");
        assert_eq!(weight("aaaaaaaaaaa", "u"), least + 20, "a header is kept in two forms");
        assert_eq!(weight("a", "uuuuuuuuuuu"), least + 10);
    }
}
