//! The options of a cache.

use std::time::Duration;

use super::backend::{LARGEST_VALUE, Ttl};
use super::integrity::Integrity;
use super::key::KeyPrefix;

/// How a cache is used, whatever its backend.
///
/// ```
/// use std::time::Duration;
/// use neverstale::{Cache, CacheOptions, Ttl, backend::locmem::Locmem};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = CacheOptions::default()
///     .prefix("shop".parse()?)
///     .default_ttl(Ttl::Never)
///     .max_wait(Duration::from_secs(3));
/// let cache = Cache::new(Locmem::new(), options);
/// assert_eq!(cache.default_ttl(), Ttl::Never);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheOptions {
    pub(super) prefix: KeyPrefix,
    pub(super) default_ttl: Ttl,
    pub(super) integrity: Integrity,
    pub(super) compress_from: usize,
    pub(super) largest_value: usize,
    pub(super) largest_read: usize,
    pub(super) max_wait: Duration,
    pub(super) lock_lifetime: Duration,
    pub(super) poll_interval: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            prefix: KeyPrefix::default(),
            default_ttl: Ttl::After(Duration::from_secs(300)),
            integrity: Integrity::default(),
            compress_from: 16 * 1024,
            largest_value: LARGEST_VALUE,
            largest_read: 64 * 1024 * 1024,
            max_wait: Duration::from_secs(10),
            lock_lifetime: Duration::from_secs(3),
            poll_interval: Duration::from_millis(100),
        }
    }
}

impl CacheOptions {
    /// Puts a prefix before every key. Empty by default.
    #[must_use]
    pub fn prefix(self, prefix: KeyPrefix) -> Self {
        Self { prefix, ..self }
    }

    /// Chooses the lifetime of values that have none of their own. Five minutes by default, as in Django.
    #[must_use]
    pub fn default_ttl(self, default_ttl: Ttl) -> Self {
        Self { default_ttl, ..self }
    }

    /// Chooses how cached values are protected. By a checksum by default.
    #[must_use]
    pub fn integrity(self, integrity: Integrity) -> Self {
        Self { integrity, ..self }
    }

    /// Compresses values of so many bytes and more, with the feature `compression`. 16 KiB by default.
    #[must_use]
    pub fn compress_from(self, bytes: usize) -> Self {
        Self { compress_from: bytes, ..self }
    }

    /// Limits the bytes of a value in its envelope. A longer one is left uncached, with a warning.
    ///
    /// 1,000,000 by default, which fits into a memcached item of 1 MiB with key and header. Raise it where the servers
    /// take more.
    #[must_use]
    pub fn largest_value(self, bytes: usize) -> Self {
        Self { largest_value: bytes, ..self }
    }

    /// Limits the bytes that one call reads, counted decompressed. 64 MiB by default.
    ///
    /// A value beyond the limit is a miss: a server could have made much of a few compressed bytes.
    #[must_use]
    pub fn largest_read(self, bytes: usize) -> Self {
        Self { largest_read: bytes, ..self }
    }

    /// Limits the wait for another process that builds a value, before it is built here as well. Ten seconds by
    /// default. Where callers have a time limit, choose one that is shorter by what a build takes.
    #[must_use]
    pub fn max_wait(self, max_wait: Duration) -> Self {
        Self { max_wait, ..self }
    }

    /// Chooses how long the lock of a builder lives that has died. Three seconds by default, at least one.
    ///
    /// A builder renews its lock every third of that time.
    #[must_use]
    pub fn lock_lifetime(self, lifetime: Duration) -> Self {
        Self { lock_lifetime: lifetime.max(Duration::from_secs(1)), ..self }
    }

    /// Chooses the longest pause between two looks for a value that another process builds. 100 ms by default, at
    /// least 1 ms and at most a minute; the first pauses are shorter.
    #[must_use]
    pub fn poll_interval(self, interval: Duration) -> Self {
        let poll_interval = interval.clamp(Duration::from_millis(1), Duration::from_secs(60));
        Self { poll_interval, ..self }
    }
}
