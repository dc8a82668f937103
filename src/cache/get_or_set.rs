//! A value, or else the building of it: once, however many ask for it meanwhile, in however many processes.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::build_lock::{self, Turn};
use super::single_flight::Flight;
use super::{Cache, Key, Ttl, codec};

/// How long one waits for those before it in this process, who are known to be alive.
const LONGEST_QUEUE: Duration = Duration::from_secs(10);

impl Cache {
    /// Returns the value of a key, or else what `build` makes, which is stored.
    ///
    /// Of all who miss the key at once, in all processes, one builds; [the steps](crate::cache#the-steps-of-get_or_set)
    /// say who waits how long. Those in its own process get what it made also if it could not be stored.
    ///
    /// A key that is written to while it is built is not overwritten with what may be older: see
    /// [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    ///
    /// Those of the caller's own `build`; nothing is stored then. The cache has none.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point it leaves the next one to build.
    pub async fn get_or_set<T, E>(
        &self,
        key: &Key,
        ttl: Ttl,
        build: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
    {
        if let Some(value) = self.get(key).await {
            return Ok(value);
        }
        let build = || {
            self.counters().builds.add_one();
            build()
        };
        let name = self.name(key);
        let seat = self.flights().join(&name);
        let Ok(mut built) = timeout(LONGEST_QUEUE, seat.flight().built.lock()).await else {
            return build().await;
        };
        if let Some(value) = self.share(built.as_ref()) {
            return Ok(value);
        }
        let lock = match build_lock::take(
            self.backend(),
            &name,
            &self.name(&key.lock()),
            self.shared.options.patience,
        )
        .await
        {
            Turn::Ours(lock) => Some(lock),
            Turn::Unknown => None,
            Turn::Theirs(envelope) => {
                if let Some(value) = self.share(Some(&envelope)) {
                    *built = Some(envelope);
                    return Ok(value);
                }
                None
            }
        };
        let value = match &lock {
            Some(lock) => lock.during(build()).await?,
            None => build().await?,
        };
        *built = self.keep(key, &value, ttl, seat.flight()).await;
        if let Some(lock) = lock {
            lock.release().await;
        }
        Ok(value)
    }

    /// Reads what another has built.
    fn share<T: DeserializeOwned>(&self, envelope: Option<&Bytes>) -> Option<T> {
        let value = codec::decode(envelope?)?;
        self.counters().shared.add_one();
        Some(value)
    }

    /// Stores what was built, unless the key has been written to meanwhile or is while it is stored, and returns it in
    /// its envelope.
    async fn keep<T: Serialize>(&self, key: &Key, value: &T, ttl: Ttl, flight: &Flight) -> Option<Bytes> {
        let envelope = self.encode(key, value)?;
        if !flight.is_outdated() {
            self.store(key, envelope.clone(), ttl).await;
            if flight.is_outdated() {
                // The delete may have overtaken the value. Those who build by now have nothing to do with it.
                self.remove(key).await;
            }
        }
        Some(envelope)
    }
}
