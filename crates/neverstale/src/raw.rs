//! Values as they are: no envelope, and errors are told.

use bytes::Bytes;

use super::backend::{Error, ServerStats};
use super::{Cache, Key, Ttl};

/// A view of a [`Cache`] for tools: what any other client stores is read, what is stored any other client reads, and
/// whoever asks learns what went wrong. Nothing is counted. What the app itself keeps goes through [`Cache`].
///
/// ```
/// use neverstale::{Cache, CacheOptions, Key, Ttl, backend::locmem::Locmem};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (cache, visits) = (Cache::new(Locmem::new(), CacheOptions::default()), Key::new("visits")?);
/// assert_eq!(cache.incr(&visits, 1).await, None);
/// // A counter is bare, and made where there is none.
/// cache.raw().add(&visits, "0".into(), Ttl::Never).await?;
/// assert_eq!(cache.incr(&visits, 1).await, Some(1));
/// assert_eq!(cache.raw().get(&visits).await?.as_deref(), Some(&b"1"[..]));
/// // What the app keeps is in an envelope, which a counter is not.
/// assert_eq!(cache.get::<u64>(&visits).await, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a>(&'a Cache);

impl Cache {
    /// Returns a view for tools: raw values, and errors.
    #[must_use]
    pub fn raw(&self) -> Raw<'_> {
        Raw(self)
    }
}

/// Every operation is that of the [`Backend`](super::backend::Backend), under the cache's prefix and version.
impl Raw<'_> {
    /// Returns the value of a key.
    ///
    /// # Errors
    ///
    /// The backend's: it could not be asked, or would not do it.
    pub async fn get(self, key: &Key) -> Result<Option<Bytes>, Error> {
        self.0.backend().get(&self.0.name(key)).await
    }

    /// Stores a value, whatever was there.
    ///
    /// # Errors
    ///
    /// The backend's: it could not be asked, or would not do it.
    pub async fn set(self, key: &Key, value: Bytes, ttl: Ttl) -> Result<(), Error> {
        self.0.backend().set(&self.0.name(key), value, ttl).await
    }

    /// Stores a value where there is none, and returns whether there was none.
    ///
    /// # Errors
    ///
    /// The backend's: it could not be asked, or would not do it.
    pub async fn add(self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.0.backend().add(&self.0.name(key), value, ttl).await
    }

    /// Stores a value where there is one, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// The backend's: it could not be asked, or would not do it.
    pub async fn replace(self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.0.backend().replace(&self.0.name(key), value, ttl).await
    }

    /// Removes a key, and returns whether it was there.
    ///
    /// # Errors
    ///
    /// The backend's: it could not be asked, or would not do it.
    pub async fn delete(self, key: &Key) -> Result<bool, Error> {
        self.0.backend().delete(&self.0.name(key)).await
    }

    /// Adds to a number and returns the sum; none if there is no such key.
    ///
    /// # Errors
    ///
    /// The backend's: it could not be asked, or would not do it.
    pub async fn incr(self, key: &Key, delta: u64) -> Result<Option<u64>, Error> {
        self.0.backend().incr(&self.0.name(key), delta).await
    }

    /// Subtracts from a number, down to 0, and returns the rest; none if there is no such key.
    ///
    /// # Errors
    ///
    /// The backend's: it could not be asked, or would not do it.
    pub async fn decr(self, key: &Key, delta: u64) -> Result<Option<u64>, Error> {
        self.0.backend().decr(&self.0.name(key), delta).await
    }

    /// Gives a value a new lifetime, and returns whether there is one.
    ///
    /// # Errors
    ///
    /// The backend's: it could not be asked, or would not do it.
    pub async fn touch(self, key: &Key, ttl: Ttl) -> Result<bool, Error> {
        self.0.backend().touch(&self.0.name(key), ttl).await
    }

    /// Removes everything of all servers, whoever stored it, under any prefix.
    ///
    /// # Errors
    ///
    /// The backend's: it could not be asked, or would not do it.
    pub async fn clear(self) -> Result<(), Error> {
        self.0.backend().clear().await
    }

    /// Returns what each server, or the store itself, says of itself.
    pub async fn stats(self) -> Vec<ServerStats> {
        self.0.backend().stats().await
    }

    /// Names the server that has a key, or the store itself where there are none.
    #[must_use]
    pub fn server_of(self, key: &Key) -> String {
        self.0.backend().server_of(&self.0.name(key))
    }
}
