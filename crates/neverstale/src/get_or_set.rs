//! A value, or else its build: one for all callers that miss it at once, in all processes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::{Flight, Joined, Look};
use super::codec::{Envelope, from_json};
use super::{Cache, Key, Ttl};

impl Cache {
    /// Returns the value of a key, or else builds and stores it.
    ///
    /// Of all callers that miss the key at once, in all processes, one builds; [the
    /// steps](crate#steps-of-get_or_set) say how long the others wait. Those in the same process get the value also
    /// if it could not be stored. If the key is written to meanwhile, the value is not stored, since it may be older:
    /// see [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    ///
    /// The error of `build`, and nothing is stored. All callers that waited for that build in this process return the
    /// same error, so that an outage costs one timeout. Put an error that is not `Clone` into an `Arc`:
    /// `query().await.map_err(Arc::new)`. The cache itself causes no error.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, or when its `build` panics, it lets the next caller build.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use neverstale::{Cache, CacheOptions, Key, Ttl, backend::locmem::Locmem};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = Cache::new(Locmem::new(), CacheOptions::default());
    /// let key = Key::new("tasks.all")?;
    /// let queries = AtomicU32::new(0);
    /// let query = async || {
    ///     tokio::task::yield_now().await;
    ///     match queries.fetch_add(1, Ordering::Relaxed) {
    ///         // The first time the database fails.
    ///         0 => Err("no database"),
    ///         _ => Ok(vec!["milk".to_owned()]),
    ///     }
    /// };
    /// let get = || cache.get_or_set(&key, Ttl::Never, query);
    /// // Two callers miss at once: one queries, and both return its error.
    /// assert_eq!(tokio::join!(get(), get()), (Err("no database"), Err("no database")));
    /// // The next callers query again: once.
    /// let (one, other) = tokio::join!(get(), get());
    /// assert_eq!(one?, other?);
    /// assert_eq!(queries.into_inner(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_set<T, E>(
        &self,
        key: &Key,
        ttl: Ttl,
        build: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: Clone + Send + Sync + 'static,
    {
        if let Some(value) = self.get(key).await {
            return Ok(value);
        }
        let build = || {
            self.counters().builds.add_one();
            build()
        };
        let flight = self.join(key);
        match flight.wait(key, Look::Again, self.max_wait(), |value| from_json(&value)).await {
            Joined::Value { value, .. } => Ok(value),
            Joined::Failed(failure) => match failure.error() {
                Some(error) => Err(error),
                None => build().await,
            },
            Joined::BuildAlone => build().await,
            Joined::Build(permit) => {
                let (permit, value) = permit.build(build()).await?;
                let built = self.keep(key, &value, ttl, &flight).await;
                permit.end(built).await;
                Ok(value)
            }
        }
    }

    /// Stores a value, unless its key is written to meanwhile, and returns it in its envelope.
    async fn keep<T: Serialize>(
        &self,
        key: &Key,
        value: &T,
        ttl: Ttl,
        flight: &Flight<'_>,
    ) -> Option<Envelope> {
        let built = self.encode(key, value)?;
        if !flight.is_closed() {
            self.store(&built, ttl).await;
            if flight.is_closed() {
                // The delete may have overtaken the value. Later builds go on.
                self.remove(key).await;
            }
        }
        Some(built)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;
    use std::panic::resume_unwind;

    use futures_util::future::{FutureExt, join_all};
    use tokio::task::yield_now;

    use super::*;
    use crate::CacheOptions;
    use crate::backend::dummy::Dummy;

    async fn fails() -> Result<u8, &'static str> {
        yield_now().await;
        Err("failed")
    }

    fn cache() -> Cache {
        Cache::new(Dummy, CacheOptions::default())
    }

    #[tokio::test]
    async fn no_flight_is_left_when_its_callers_are_gone() {
        let (cache, key) = (cache(), Key::new("k").unwrap());
        let hangs = async || pending::<Result<u8, ()>>().await;
        assert!(cache.get_or_set(&key, Ttl::Never, hangs).now_or_never().is_none());
        let failed =
            join_all((0..9).map(|_| cache.get_or_set(&key, Ttl::Never, async || fails().await))).await;
        assert_eq!(failed, vec![Err("failed"); 9]);
        let panicking = cache.clone();
        let panics = async || -> Result<u8, Infallible> { resume_unwind(Box::new("as it should")) };
        let task =
            tokio::spawn(
                async move { panicking.get_or_set(&Key::new("k").unwrap(), Ttl::Never, panics).await },
            );
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(cache.get_or_set(&key, Ttl::Never, async || Ok::<_, Infallible>(1)).await, Ok(1));
        assert_eq!(cache.flights().count(), 0);
    }

    #[tokio::test]
    async fn a_failure_of_another_type_is_not_given_to_a_caller() {
        let (cache, key) = (cache(), Key::new("k").unwrap());
        let other = async || Err::<u8, _>(String::from("another"));
        let (one, other) = tokio::join!(
            cache.get_or_set(&key, Ttl::Never, async || fails().await),
            cache.get_or_set(&key, Ttl::Never, other)
        );
        assert_eq!((one, other), (Err("failed"), Err("another".into())));
    }
}
