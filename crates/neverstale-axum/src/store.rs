//! Looking pages up and storing them: which keys, in which round trip, and when an entry counts.

use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use moka::sync::Cache as Memory;

use super::entry::{Entry, Page};
use super::key::{PageKey, learn_cache_key};
use super::outcome::Fwd;
use neverstale::version::{Lost, VersionSource, Versions};
use neverstale::{Cache, Envelope, Key, Ttl};

/// How long no request waits for a page that could not be stored.
const PASS: Ttl = Ttl::After(Duration::from_secs(2));

/// How many URLs a process remembers the varying headers of, and how many paths the source of generations. One that is
/// forgotten costs a round trip, or shares none with others.
const REMEMBERED: u64 = 10_000;

/// The cache of pages. Cheap to clone.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) cache: Cache,
    /// The headers that each page of this process varies on: a guess which keys to get, and nothing else.
    pub(super) learned: Memory<Key, Vec<String>>,
    /// The sources of the generations of paths.
    sources: Memory<Key, Versions<Lost>>,
}

/// The result of a look-up.
pub(super) enum Found {
    Page(Page),
    /// Build it.
    Nothing(Slot),
    /// Build it alone: what was built a moment ago could not be shared.
    Pass(Slot),
    /// The cache fails.
    Unavailable,
}

/// The place of a missing page.
pub(super) struct Slot {
    pub(super) key: Key,
    /// The generation or the version.
    pub(super) generation: String,
    pub(super) fwd: Fwd,
}

impl Store {
    pub(super) fn new(cache: Cache) -> Self {
        Self { cache, learned: Memory::new(REMEMBERED), sources: Memory::new(REMEMBERED) }
    }

    /// Looks for a page: in one round trip, if this process knows what it varies on.
    pub(super) async fn find(&self, wanted: &PageKey, headers: &HeaderMap) -> Found {
        let page = &wanted.page;
        let mut keys = if wanted.version.is_none() { vec![wanted.generation.clone()] } else { vec![] };
        let known = self.learned.get(page);
        keys.push(page.clone());
        keys.extend(known.as_ref().map(|vary_on| learn_cache_key(page, vary_on, headers)));
        let mut entries = self.read(&keys).await.into_iter();
        let generation = match &wanted.version {
            Some(version) => version.to_string(),
            None => match entries.next().flatten() {
                Some(Entry::Generation(generation)) => generation,
                _ => match self.begin(&wanted.generation).await {
                    Some(generation) => generation,
                    None => return Found::Unavailable,
                },
            },
        };
        let first = entries.next().flatten();
        let guess = known.map(|vary_on| (vary_on, entries.next().flatten()));
        self.follow(page, &generation, headers, first, guess).await
    }

    /// Follows the entry at a page's key to the page. `guess` is the entry at the key that the page had the last time.
    async fn follow(
        &self,
        page: &Key,
        generation: &str,
        headers: &HeaderMap,
        first: Option<Entry>,
        guess: Option<(Vec<String>, Option<Entry>)>,
    ) -> Found {
        let current = |entry: Option<Entry>| entry.filter(|entry| entry.is_current(generation));
        let slot = |key, fwd| Slot { key, generation: generation.to_owned(), fwd };
        let here = slot(page.clone(), Fwd::UriMiss);
        let vary_on = match current(first) {
            Some(Entry::Varies { vary_on, .. }) => vary_on,
            other => return found(other, here),
        };
        let key = learn_cache_key(page, &vary_on, headers);
        let entry = match guess {
            Some((known, entry)) if known == vary_on => entry,
            _ => {
                self.learned.insert(page.clone(), vary_on);
                self.read(std::slice::from_ref(&key)).await.pop().flatten()
            }
        };
        found(current(entry), slot(key, Fwd::VaryMiss))
    }

    /// Draws the generation of a path that has none, unless another request is first. None if the cache fails: then
    /// there is none afterwards.
    async fn begin(&self, key: &Key) -> Option<String> {
        let token = random_token();
        if self.cache.add_envelope(&self.envelope(key, &Entry::Generation(token.clone())), Ttl::Never).await {
            return Some(token);
        }
        if let Some(token) = generation(&self.cache, key).await {
            return Some(token);
        }
        // What is there may be unreadable, left by a build with another format, and would be so for ever.
        self.renew(key, token).await;
        generation(&self.cache, key).await
    }

    /// Returns the source of a path's generation: one read for all requests that ask at the same time, each of which
    /// gets what was there after it had asked.
    pub(super) fn generations(&self, key: &Key) -> Versions<Lost> {
        self.sources.get_with_by_ref(key, || {
            let (cache, key) = (self.cache.clone(), key.clone());
            let source = VersionSource::new(move || {
                let (cache, key) = (cache.clone(), key.clone());
                async move { generation(&cache, &key).await.ok_or(Lost) }
            });
            Versions::of(&source, |lost| *lost)
        })
    }

    /// Gives a path another generation.
    pub(super) async fn renew(&self, key: &Key, token: String) {
        self.cache.set_envelopes(&[self.envelope(key, &Entry::Generation(token))], Ttl::Never).await;
    }

    /// Stores a page at `page`, or at the key of its variant; returns its envelope, and whether it was stored.
    pub(super) async fn keep(
        &self,
        page: &Key,
        content: Page,
        headers: &HeaderMap,
        ttl: Ttl,
    ) -> (Envelope, bool) {
        let (generation, vary_on) = (content.validity.generation.clone(), content.vary_on.clone());
        let key = learn_cache_key(page, &vary_on, headers);
        let built = self.envelope(&key, &Entry::Page(content));
        let mut envelopes = vec![built.clone()];
        if !vary_on.is_empty() {
            self.learned.insert(page.clone(), vary_on.clone());
            envelopes.push(self.envelope(page, &Entry::Varies { generation, vary_on }));
        }
        (built, self.cache.set_envelopes(&envelopes, ttl).await)
    }

    /// Returns what requests get that wait for a page which cannot be stored. Stores that for a moment, where nothing
    /// else is, if it will last.
    pub(super) async fn pass(&self, slot: &Slot, is_lasting: bool) -> Envelope {
        let envelope = self.envelope(&slot.key, &Entry::Pass { generation: slot.generation.clone() });
        if is_lasting {
            self.cache.add_envelope(&envelope, PASS).await;
        }
        envelope
    }

    async fn read(&self, keys: &[Key]) -> Vec<Option<Entry>> {
        self.cache.get_many_with(keys, Entry::decode).await
    }

    fn envelope(&self, key: &Key, entry: &Entry) -> Envelope {
        self.cache.envelope(key, &entry.encode())
    }
}

impl Slot {
    /// Returns the key that all builds of this page share, and none of another generation.
    pub(super) fn build(&self) -> Key {
        self.key.derive("build:", &self.generation)
    }

    /// Decodes the entry that a build has made. A page by version may be of a newer one: its handler ran after all
    /// requests that wait for it had checked theirs.
    pub(super) fn decode(&self, is_versioned: bool, value: Bytes) -> Option<Entry> {
        Entry::decode(value).filter(|entry| is_versioned || entry.is_current(&self.generation))
    }
}

/// Returns a token that was never used and never will be.
pub(super) fn random_token() -> String {
    format!("{:016x}", fastrand::u64(..))
}

async fn generation(cache: &Cache, key: &Key) -> Option<String> {
    match cache.get_many_with(std::slice::from_ref(key), Entry::decode).await.pop().flatten() {
        Some(Entry::Generation(token)) => Some(token),
        _ => None,
    }
}

fn found(entry: Option<Entry>, slot: Slot) -> Found {
    match entry {
        Some(Entry::Page(page)) => Found::Page(page),
        Some(Entry::Pass { .. }) => Found::Pass(slot),
        _ => Found::Nothing(slot),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Response;

    use super::*;
    use crate::entry::Validity;

    #[test]
    fn a_build_may_come_to_a_newer_version_but_to_no_other_generation() {
        let (parts, ()) = Response::new(()).into_parts();
        let page = Page::new(&parts, Bytes::new(), Validity::new("2".into(), Ttl::Never));
        let value = Bytes::from(Entry::Page(page).encode());
        let slot = Slot { key: Key::new("page").unwrap(), generation: "1".into(), fwd: Fwd::UriMiss };
        assert!(slot.decode(true, value.clone()).is_some());
        assert!(slot.decode(false, value).is_none());
    }
}
