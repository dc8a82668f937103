//! The copies in this process of current pages, ready to be sent.

use std::sync::Arc;

use axum::http::HeaderMap;
use bytes::Bytes;
use moka::sync::Cache as Memory;
use tokio::sync::OnceCell;

use super::encoding::{Encoding, is_encodable};
use super::entry::Page;
#[cfg(fault_injection)]
use super::mistake::Mistake;
use neverstale::{Cache, Event, Key};

/// The memory that a header takes in a map, about.
pub(super) const PER_HEADER: usize = 128;

/// One page for each URL: that of the version last seen. Only pages that vary on no header. Cheap to clone.
#[derive(Clone)]
pub(super) struct Copies {
    pages: Memory<Key, Arc<PageCopy>>,
    /// Only counts.
    pub(super) cache: Cache,
}

/// A page, and its encodings as clients prefer them.
pub(super) struct PageCopy {
    pub(super) page: Page,
    is_encodable: bool,
    /// Encodings that the page was not stored in, made for the first client that prefers one; none where the body
    /// became no shorter.
    encoded: [OnceCell<Option<Bytes>>; Encoding::ALL.len()],
}

impl Copies {
    /// Makes room for copies of `capacity` bytes together.
    pub(super) fn new(cache: &Cache, capacity: u64) -> Self {
        let size = |url: &Key, copy: &Arc<PageCopy>| {
            u32::try_from(url.to_string().len() + copy.largest_size()).unwrap_or(u32::MAX)
        };
        let pages = Memory::builder().max_capacity(capacity).weigher(size).build();
        Self { pages, cache: cache.counted_as("local") }
    }

    /// Returns the page of a URL, if it is of this version and has not expired.
    pub(super) fn get(&self, url: &Key, version: &str) -> Option<Arc<PageCopy>> {
        let is_shown = |copy: &Arc<PageCopy>| copy.page.is_current(version);
        #[cfg(fault_injection)]
        let is_shown = |copy: &Arc<PageCopy>| is_shown(copy) || Mistake::CopyOfAnyVersion.is_made();
        let found = self.pages.get(url).filter(is_shown);
        self.cache.record(if found.is_some() { Event::Hit } else { Event::Miss });
        found
    }

    /// Returns the copy of a page, made now if there is none; none if pages like it are not copied.
    pub(super) fn copy(&self, url: &Key, page: &Page) -> Option<Arc<PageCopy>> {
        let is_same = |copy: &Arc<PageCopy>| copy.page.generation == page.generation;
        self.pages.get(url).filter(is_same).or_else(|| self.keep(url, page))
    }

    /// Copies a page in place of any older one, and returns the copy; none if pages like it are not copied.
    pub(super) fn keep(&self, url: &Key, page: &Page) -> Option<Arc<PageCopy>> {
        if !page.vary_on.is_empty() {
            return None;
        }
        self.cache.record(Event::Fill);
        let is_encodable = is_encodable(&page.headers, &page.plain());
        // The page may be a slice of a far larger buffer, which a copy that is kept for long must not hold.
        let page = page.compact();
        let copy = Arc::new(PageCopy { page, is_encodable, encoded: Default::default() });
        self.pages.insert(url.clone(), Arc::clone(&copy));
        Some(copy)
    }

    pub(super) fn clear(&self) {
        self.pages.invalidate_all();
    }
}

impl PageCopy {
    /// Returns the body that a client prefers, and its encoding if it has one. Makes an encoding at its first use.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the encoding to the next caller.
    pub(super) async fn body(&self, request: &HeaderMap) -> (Option<Encoding>, Bytes) {
        let chosen = Encoding::choose(request, Encoding::ALL).filter(|_| self.is_encodable);
        let Some(encoding) = chosen else { return self.page.body(request) };
        if let Some(body) = self.page.encoded(encoding) {
            return (chosen, body);
        }
        let made = self.encoded[encoding as usize].get_or_init(|| encoding.encode(self.page.plain())).await;
        made.clone().map_or_else(|| (None, self.page.plain()), |body| (chosen, body))
    }

    /// Returns the bytes that it takes at most, with all its encodings, each of which is shorter than the page.
    pub(super) fn largest_size(&self) -> usize {
        let encoded = if self.is_encodable { Encoding::ALL.len() * self.page.plain().len() } else { 0 };
        size_of::<Self>() + self.page.size() + encoded + PER_HEADER * self.page.headers.len()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Response, header};
    use bytes::Bytes;

    use super::*;
    use neverstale::backend::locmem::Locmem;
    use neverstale::{CacheOptions, Ttl};

    fn copies() -> Copies {
        Copies::new(&Cache::new(Locmem::new(), CacheOptions::default()), 1 << 20)
    }

    #[test]
    fn a_copy_holds_nothing_but_its_page() {
        let (parts, ()) = Response::new(()).into_parts();
        // A shared buffer, of which the page is a small part.
        let buffer = Bytes::from(vec![b'x'; 64 * 1024]);
        let read = buffer.slice(1000..1100);
        let page = Page::new(&parts, read, Ttl::Never);
        let copy = copies().keep(&Key::new("page").unwrap(), &page).unwrap();
        drop(page);
        assert_eq!(copy.page.plain(), buffer[1000..1100]);
        assert!(buffer.is_unique(), "the copy does not hold the buffer");
    }

    #[test]
    fn a_copy_weighs_what_it_takes() {
        let copies = copies();
        let weight = |header: &'static str, url: &str| {
            let response = Response::builder().header(header::LINK, header).body(()).unwrap();
            let page = Page::new(&response.into_parts().0, Bytes::from_static(b"page"), Ttl::Never);
            copies.clear();
            copies.keep(&Key::new(url).unwrap(), &page);
            copies.pages.run_pending_tasks();
            copies.pages.weighted_size()
        };
        let least = weight("a", "u");
        assert_eq!(weight("aaaaaaaaaaa", "u"), least + 10);
        assert_eq!(weight("a", "uuuuuuuuuuu"), least + 10);
    }
}
