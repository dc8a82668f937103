//! Layer 2: rendered pieces of a page, all of them fetched in one round trip. Django's `{% cache %}`, in code.
//!
//! ```
//! use neverstale::{Cache, CacheOptions, Ttl, backend::locmem::Locmem, fragment::Fragments};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let cache = Cache::new(Locmem::new(), CacheOptions::default());
//! // The third is a digest of the template: `build.rs` makes them.
//! let rows = Fragments::new(&cache, "row", "5f1c", Ttl::Never);
//! let tasks = [(1, "milk"), (2, "bread")];
//! // All that a row shows is in its key, so a row is never old.
//! let vary_on = |(id, name): &(i64, &str)| [id.to_string(), (*name).to_owned()];
//! let render = |(_, name): &(i64, &str)| format!("<tr><td>{name}</td></tr>");
//! let first = rows.get_or_render(&tasks, vary_on, render).await;
//! let again = rows.get_or_render(&tasks, vary_on, |_| unreachable!("a hit")).await;
//! assert_eq!(first, again);
//! # }
//! ```

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base16ct::lower::encode_string;
use moka::sync::Cache as Memory;
use sha2::{Digest, Sha256};

use super::{Cache, Key, Ttl};

/// The size of a copy beside its bytes, about.
const BESIDE_COPY: usize = 200;

/// Copies that live longer than a hundred years live as long as the process. moka panics at a thousand.
const LONGEST_LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Pieces that one template renders, such as the rows of a table.
///
/// Its digest is in every key, so a build with another template never shows what an older one rendered.
#[derive(Clone, Debug)]
pub struct Fragments {
    cache: Cache,
    /// The beginning of every key.
    base: Key,
    ttl: Ttl,
    copies: Option<Memory<Id, Arc<str>>>,
}

/// All that a fragment depends on, hashed.
type Id = [u8; 16];

impl Fragments {
    /// Names the fragments. `digest` stands for the template and all that it includes, such as the [`digest`] of their
    /// text.
    #[must_use]
    pub fn new(cache: &Cache, name: &'static str, digest: impl Into<Cow<'static, str>>, ttl: Ttl) -> Self {
        let base = Key::reserved("fragment:", name).derive(":", &digest.into());
        Self { cache: cache.counted_as("fragments"), base, ttl, copies: None }
    }

    /// Keeps up to so many bytes of fragments in the process as well, and asks the cache only for others. A copy has a
    /// lifetime of its own, so one that was made late in its fragment's life is shown for up to twice as long.
    #[must_use]
    pub fn with_local_copies(mut self, max_bytes: u64) -> Self {
        let size = |_: &Id, copy: &Arc<str>| u32::try_from(copy.len() + BESIDE_COPY).unwrap_or(u32::MAX);
        let copies = Memory::builder().max_capacity(max_bytes).weigher(size);
        let copies = match self.ttl {
            Ttl::After(lifetime) if lifetime <= LONGEST_LIFETIME => copies.time_to_live(lifetime),
            Ttl::Never | Ttl::After(_) => copies,
        };
        self.copies = Some(copies.build());
        self
    }

    /// Drops the copies in this process.
    pub fn drop_copies(&self) {
        if let Some(copies) = &self.copies {
            copies.invalidate_all();
        }
    }

    /// Returns the key of a fragment. `vary_on` is all that it depends on and that may change.
    #[must_use]
    pub fn key<S: AsRef<str>>(&self, vary_on: &[S]) -> Key {
        self.key_of(&id(vary_on))
    }

    fn key_of(&self, id: &Id) -> Key {
        self.base.derive(":", &encode_string(id))
    }

    /// Returns the fragments of items in their order.
    ///
    /// Those without a copy here are fetched from the cache in one round trip. Those that are missing there are
    /// rendered, and stored in one.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the cache with or without the new ones.
    pub async fn get_or_render<T, const N: usize>(
        &self,
        items: &[T],
        vary_on: impl Fn(&T) -> [String; N],
        render: impl Fn(&T) -> String,
    ) -> Vec<Arc<str>> {
        let ids: Vec<_> = items.iter().map(|item| id(&vary_on(item))).collect();
        let mut fragments: Vec<_> = ids.iter().map(|id| self.copies.as_ref()?.get(id)).collect();
        let (missing, keys): (Vec<_>, Vec<_>) = fragments
            .iter()
            .zip(&ids)
            .enumerate()
            .filter(|(_, (copy, _))| copy.is_none())
            .map(|(index, (_, id))| (index, self.key_of(id)))
            .unzip();
        self.cache.counters().hits.add(items.len() - missing.len());
        if missing.is_empty() {
            return fragments.into_iter().flatten().collect();
        }
        let cached: Vec<Option<String>> = self.cache.get_many(&keys).await;
        let mut rendered = Vec::new();
        for ((index, key), cached) in missing.into_iter().zip(keys).zip(cached) {
            let fragment = cached.unwrap_or_else(|| {
                let fragment = render(&items[index]);
                rendered.push((key, fragment.clone()));
                fragment
            });
            fragments[index] = Some(self.copy(ids[index], fragment.into()));
        }
        if !rendered.is_empty() {
            self.cache.set_many(&rendered, self.ttl).await;
        }
        fragments.into_iter().flatten().collect()
    }

    fn copy(&self, id: Id, fragment: Arc<str>) -> Arc<str> {
        if let Some(copies) = &self.copies {
            copies.insert(id, Arc::clone(&fragment));
        }
        fragment
    }

    /// Removes a fragment, where its data is gone and the same may come again.
    pub async fn delete<S: AsRef<str>>(&self, vary_on: &[S]) {
        let id = id(vary_on);
        if let Some(copies) = &self.copies {
            copies.invalidate(&id);
        }
        self.cache.delete(&self.key_of(&id)).await;
    }
}

/// Returns a few digits that change with a text, such as a template: `digest(include_str!("row.html"))`.
#[must_use]
pub fn digest(text: &str) -> String {
    encode_string(&Sha256::digest(text)[..8])
}

fn id<S: AsRef<str>>(vary_on: &[S]) -> Id {
    let mut hash = Sha256::new();
    for part in vary_on.iter().map(AsRef::as_ref) {
        // With its length before it, so that no two lists look alike.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut id = Id::default();
    id.copy_from_slice(&hash.finalize()[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheOptions;
    use crate::backend::locmem::Locmem;

    fn fragments(digest: &'static str) -> Fragments {
        Fragments::new(&Cache::new(Locmem::new(), CacheOptions::default()), "row", digest, Ttl::Never)
    }

    #[test]
    fn keys_differ_where_anything_differs() {
        let lists: [&[&str]; 8] = [
            &[],
            &[""],
            &["", ""],
            &["a:b", "c"],
            &["a", "b:c"],
            &["ab", "c"],
            &["a", "bc"],
            &["a b\r\n", "é"],
        ];
        let mut keys: Vec<_> = lists.iter().map(|list| fragments("1").key(list)).collect();
        keys.push(fragments("2").key(lists[0]));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), lists.len() + 1);
    }

    #[test]
    fn a_digest_changes_with_its_text_and_can_be_part_of_a_key() {
        let digests = ["", "<li>{{ name }}", "<li>{{ name }} "].map(digest);
        assert_eq!(digests, digests.clone().map(|known| Key::new(known).expect("no blanks").to_string()));
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
    }

    #[tokio::test]
    async fn a_fragment_is_rendered_once_also_if_it_is_empty() {
        let (fragments, rendered) = (fragments("1"), std::cell::Cell::new(0));
        let render = |item: &&str| {
            rendered.set(rendered.get() + 1);
            item.trim().to_owned()
        };
        let rows = async |items: &[&str]| {
            let rows = fragments.get_or_render(items, |item| [String::from(*item)], render).await;
            rows.join("|")
        };
        assert_eq!(rows(&["a", " "]).await, "a|");
        assert_eq!(rows(&["b", "a", " "]).await, "b|a|");
        assert_eq!(rendered.get(), 3);
        fragments.delete(&["a"]).await;
        assert_eq!(rows(&["a", "b", " "]).await, "a|b|");
        assert_eq!(rendered.get(), 4);
    }

    #[tokio::test]
    async fn a_copy_spares_the_cache_until_it_is_deleted_or_all_are_dropped() {
        let cache = Cache::new(Locmem::new(), CacheOptions::default());
        let fragments = Fragments::new(&cache, "row", "1", Ttl::Never).with_local_copies(4 << 20);
        let render = |item: &&str| format!("<{item}>");
        let rows = async |items: &[&str]| {
            let rows = fragments.get_or_render(items, |item| [String::from(*item)], render).await;
            (rows.join(""), cache.counted_as("fragments").counters().latency.snapshot().count())
        };
        assert_eq!(rows(&["a", "b"]).await, ("<a><b>".into(), 2), "one question, one answer that is stored");
        assert_eq!(rows(&["b", "a"]).await, ("<b><a>".into(), 2), "none");
        assert_eq!(rows(&["b", "c", "a"]).await, ("<b><c><a>".into(), 4), "for the new one alone");
        fragments.delete(&["a"]).await;
        assert_eq!(rows(&["a"]).await, ("<a>".into(), 7), "deleted, missed, and stored");
        fragments.drop_copies();
        assert_eq!(rows(&["c", "a", "b"]).await, ("<c><a><b>".into(), 8), "for all of them");
        let counters = cache.counted_as("fragments").counters().snapshot("fragments");
        assert_eq!((counters.hits, counters.misses), (2 + 2 + 3, 4), "a copy is a hit");
    }
}
