//! A cache in this process alone, for development and tests.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use moka::Expiry;
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::{Backend, Error, ErrorKind, ServerCheck, ServerStats, parse_number, size_stats};
use crate::Ttl;

/// The bytes of keys and values, by default.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

const NAME: &str = "this process";

/// The in-process backend.
pub struct Locmem {
    entries: Cache<String, Entry>,
    max_bytes: u64,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    /// None if it does not expire. A counter keeps it.
    expires_at: Option<Instant>,
}

impl Locmem {
    /// Creates an empty cache of at most 64 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self::of(MAX_BYTES)
    }

    /// Limits the bytes of keys and values. Beyond the limit the least useful values are evicted.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Self {
        Self::of(bytes)
    }

    fn of(max_bytes: u64) -> Self {
        let weigh = |key: &String, entry: &Entry| {
            u32::try_from(key.len() + entry.value.len() + size_of::<Entry>()).unwrap_or(u32::MAX)
        };
        let entries = Cache::builder().max_capacity(max_bytes).weigher(weigh).expire_after(PerEntry).build();
        Self { entries, max_bytes }
    }

    /// Runs every write of a key, so that no two of the same key come between each other: the cache's own `insert` and
    /// `remove` would, and `remove` would find what has expired.
    fn write(&self, key: &str, change: impl FnOnce(Option<Entry>) -> Op<Entry>) {
        let entry = self.entries.entry_by_ref(key);
        entry.and_compute_with(|entry| change(entry.map(moka::Entry::into_value)));
    }

    /// Stores an entry if there is one, or if there is none, and returns whether that was so.
    fn store_if(&self, key: &str, value: Bytes, ttl: Ttl, present: bool) -> bool {
        let mut is_met = false;
        self.write(key, |entry| {
            is_met = entry.is_some() == present;
            match is_met {
                true if ttl.is_over() => Op::Remove,
                true => Op::Put(Entry::new(value, ttl)),
                false => Op::Nop,
            }
        });
        is_met
    }

    fn remove(&self, key: &str) -> bool {
        let mut was_there = false;
        self.write(key, |entry| {
            was_there = entry.is_some();
            Op::Remove
        });
        was_there
    }

    fn count(&self, key: &str, change: impl FnOnce(u64) -> u64) -> Result<Option<u64>, Error> {
        let mut counted = Ok(None);
        self.write(key, |entry| {
            let Some(entry) = entry else { return Op::Nop };
            let Some(number) = parse_number(&entry.value).map(change) else {
                counted = Err(Error { server: NAME.into(), kind: ErrorKind::NotANumber });
                return Op::Nop;
            };
            counted = Ok(Some(number));
            Op::Put(Entry { value: number.to_string().into(), ..entry })
        });
        counted
    }
}

impl Default for Locmem {
    fn default() -> Self {
        Self::new()
    }
}

impl Entry {
    #[expect(clippy::disallowed_methods, reason = "moka compares with this clock")]
    fn new(value: Bytes, ttl: Ttl) -> Self {
        let expires_at = match ttl {
            Ttl::Never => None,
            Ttl::After(lifetime) => Instant::now().checked_add(lifetime),
        };
        Self { value, expires_at }
    }
}

#[async_trait]
impl Backend for Locmem {
    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        keys.iter().map(|key| Ok(self.entries.get(key).map(|entry| entry.value))).collect()
    }

    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>> {
        let store = |(key, value): &(String, Bytes)| {
            let put = if ttl.is_over() { Op::Remove } else { Op::Put(Entry::new(value.clone(), ttl)) };
            self.write(key, |_| put);
            Ok(())
        };
        values.iter().map(store).collect()
    }

    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        Ok(self.store_if(key, value, ttl, false))
    }

    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        Ok(self.store_if(key, value, ttl, true))
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        keys.iter().map(|key| Ok(self.remove(key))).collect()
    }

    async fn touch(&self, key: &str, ttl: Ttl) -> Result<bool, Error> {
        let mut was_there = false;
        self.write(key, |entry| {
            was_there = entry.is_some();
            match entry {
                None => Op::Nop,
                Some(_) if ttl.is_over() => Op::Remove,
                Some(Entry { value, .. }) => Op::Put(Entry::new(value, ttl)),
            }
        });
        Ok(was_there)
    }

    async fn incr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, |number| number.wrapping_add(delta))
    }

    async fn decr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, |number| number.saturating_sub(delta))
    }

    async fn clear(&self) -> Result<(), Error> {
        self.entries.invalidate_all();
        Ok(())
    }

    async fn stats(&self) -> Vec<ServerStats> {
        self.entries.run_pending_tasks();
        let stats = size_stats(self.entries.entry_count(), self.entries.weighted_size());
        vec![ServerStats { server: NAME.into(), stats: Ok(stats), link: None }]
    }

    async fn check(&self) -> Vec<ServerCheck> {
        vec![]
    }

    fn server_of(&self, _: &str) -> String {
        NAME.into()
    }

    fn describe(&self) -> String {
        format!("in {NAME}, up to {} MB", self.max_bytes / 1024 / 1024)
    }
}

/// Lets every entry live until its own time.
///
/// The time that moka says is left would not do: it is none both for an entry that does not expire and for one that has
/// expired since the update began, which would then never do so.
struct PerEntry;

impl Expiry<String, Entry> for PerEntry {
    fn expire_after_create(&self, _: &String, entry: &Entry, now: Instant) -> Option<Duration> {
        entry.expires_at.map(|at| at.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        key: &String,
        entry: &Entry,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_expires_while_it_is_counted_is_not_kept_for_ever() {
        let entry = Entry::new("1".into(), Ttl::After(Duration::from_secs(1)));
        let later = entry.expires_at.unwrap() + Duration::from_secs(1);
        let left = PerEntry.expire_after_update(&"key".into(), &entry, later, None);
        assert_eq!(left, Some(Duration::ZERO));
        let entry = Entry::new("1".into(), Ttl::Never);
        assert_eq!(PerEntry.expire_after_update(&"key".into(), &entry, later, None), None);
    }
}
