//! A cache in this process, for development and tests: as fast as it gets, and seen by nobody else.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use moka::Expiry;
use moka::sync::Cache;

use super::{Backend, Error, ServerCheck};
use crate::cache::Ttl;

/// How many bytes of keys and values are kept before the least useful are evicted.
const CAPACITY: u32 = 64 * 1024 * 1024;

/// The in-process backend.
pub struct Locmem {
    entries: Cache<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    ttl: Ttl,
}

impl Locmem {
    /// Makes an empty cache of at most 64 MiB.
    #[must_use]
    pub fn new() -> Self {
        let weigh = |key: &String, entry: &Entry| {
            u32::try_from(key.len() + entry.value.len() + size_of::<Entry>()).unwrap_or(u32::MAX)
        };
        let entries =
            Cache::builder().max_capacity(CAPACITY.into()).weigher(weigh).expire_after(PerEntry).build();
        Self { entries }
    }
}

impl Default for Locmem {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Backend for Locmem {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.entries.get(key).map(|entry| entry.value))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<(), Error> {
        if ttl.is_over() {
            self.entries.invalidate(key);
        } else {
            self.entries.insert(key.to_owned(), Entry { value, ttl });
        }
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        Ok(self.entries.remove(key).is_some())
    }

    async fn check(&self) -> Vec<ServerCheck> {
        vec![]
    }

    fn describe(&self) -> String {
        format!("in this process, up to {} MB", CAPACITY / 1024 / 1024)
    }
}

/// Lets every entry live for as long as it was stored for, whether new or stored over another.
struct PerEntry;

impl Expiry<String, Entry> for PerEntry {
    fn expire_after_create(&self, _: &String, entry: &Entry, _: Instant) -> Option<Duration> {
        lifetime(entry)
    }

    fn expire_after_update(
        &self,
        _: &String,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        lifetime(entry)
    }
}

fn lifetime(entry: &Entry) -> Option<Duration> {
    match entry.ttl {
        Ttl::Never => None,
        Ttl::After(lifetime) => Some(lifetime),
    }
}
