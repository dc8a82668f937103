//! Layer 2: rendered pieces of a page, all of them fetched in one round trip.

use sha2::{Digest, Sha256};

use super::key::hex;
use super::{Cache, Key, Ttl};

/// Pieces that one template renders, such as the rows of a table.
///
/// Its digest is in every key, so a build with another template never shows what an older one rendered.
#[derive(Clone, Debug)]
pub struct Fragments {
    cache: Cache,
    name: &'static str,
    digest: &'static str,
    ttl: Ttl,
}

impl Fragments {
    /// Names the fragments. `digest` stands for the template and all that it includes.
    #[must_use]
    pub fn new(cache: &Cache, name: &'static str, digest: &'static str, ttl: Ttl) -> Self {
        Self { cache: cache.counted_as("fragments"), name, digest, ttl }
    }

    /// Returns the key of a fragment. `vary_on` is all that it depends on; what it depends on and is not named there
    /// must never change.
    ///
    /// # Panics
    ///
    /// If the name given to [`new`](Self::new) holds a blank.
    #[must_use]
    pub fn key<S: AsRef<str>>(&self, vary_on: &[S]) -> Key {
        let mut hash = Sha256::new();
        for part in vary_on.iter().map(AsRef::as_ref) {
            // With its length before it, so that no two lists look alike.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash = hex(&hash.finalize()[..16]);
        Key::new(format!("{}.{}.{hash}", self.name, self.digest)).expect("a name without blanks")
    }

    /// Returns the fragments of items in their order: those that are cached in one round trip, and the others rendered
    /// and stored in one.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the cache with or without the new ones.
    pub async fn get_or_render<T, const N: usize>(
        &self,
        items: &[T],
        vary_on: impl Fn(&T) -> [String; N],
        render: impl Fn(&T) -> String,
    ) -> Vec<String> {
        let keys: Vec<_> = items.iter().map(|item| self.key(&vary_on(item))).collect();
        let cached = self.cache.get_many(&keys).await;
        let mut rendered = Vec::new();
        let fragments = items.iter().zip(keys).zip(cached).map(|((item, key), fragment)| {
            fragment.unwrap_or_else(|| {
                let fragment = render(item);
                rendered.push((key, fragment.clone()));
                fragment
            })
        });
        let fragments = fragments.collect();
        if !rendered.is_empty() {
            self.cache.set_many(&rendered, self.ttl).await;
        }
        fragments
    }

    /// Removes a fragment, where what it shows is gone and its like may come again.
    pub async fn delete<S: AsRef<str>>(&self, vary_on: &[S]) {
        self.cache.delete(&self.key(vary_on)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheOptions;
    use crate::cache::backend::locmem::Locmem;

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

    #[tokio::test]
    async fn a_fragment_is_rendered_once_also_if_it_is_empty() {
        let (fragments, rendered) = (fragments("1"), std::cell::Cell::new(0));
        let render = |item: &&str| {
            rendered.set(rendered.get() + 1);
            item.trim().to_owned()
        };
        let rows =
            async |items: &[&str]| fragments.get_or_render(items, |item| [String::from(*item)], render).await;
        assert_eq!(rows(&["a", " "]).await, ["a", ""]);
        assert_eq!(rows(&["b", "a", " "]).await, ["b", "a", ""]);
        assert_eq!(rendered.get(), 3);
        fragments.delete(&["a"]).await;
        assert_eq!(rows(&["a", "b", " "]).await, ["a", "b", ""]);
        assert_eq!(rendered.get(), 4);
    }
}
