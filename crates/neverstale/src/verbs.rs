//! The verbs of [`Cache`], for typed values. None of them fails: an error is a miss, and is counted.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::backend::ErrorKind;
use super::codec::{Envelope, from_json};
use super::{Cache, CacheOptions, Key, Ttl, backend};

impl Cache {
    /// Returns the value of a key, if there is one, it is a `T`, and the backend answers.
    pub async fn get<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        self.try_get(key).await.flatten()
    }

    /// As [`get`](Self::get), and tells a miss, which is `Some(None)`, from a cache that fails, which is `None`.
    pub async fn try_get<T: DeserializeOwned>(&self, key: &Key) -> Option<Option<T>> {
        let name = self.name(key);
        let found = self.timed(self.backend().get(&name)).await;
        let is_answer = found.is_ok();
        let mut left = self.options().largest_read;
        let value = self.read(key, found, &mut left, |envelope| self.options().decode(&name, envelope));
        is_answer.then_some(value)
    }

    /// Returns the values of keys, in their order, in one round trip.
    pub async fn get_many<T: DeserializeOwned>(&self, keys: &[Key]) -> Vec<Option<T>> {
        self.get_many_with(keys, |value| from_json(&value)).await
    }

    /// Returns the values of keys, in their order, in one round trip. `decode` reads what was
    /// put into an [envelope](Self::envelope); a value that it cannot read is a miss.
    pub async fn get_many_with<T>(
        &self,
        keys: &[Key],
        decode: impl Fn(Bytes) -> Option<T>,
    ) -> Vec<Option<T>> {
        let names: Vec<_> = keys.iter().map(|key| self.name(key)).collect();
        let (distinct, places) = distinct(&names);
        let found = self.timed(self.backend().get_many(&distinct)).await;
        let found = keys.iter().zip(&names).zip(places.into_iter().map(|place| found[place].clone()));
        let mut left = self.options().largest_read;
        found
            .map(|((key, name), found)| {
                let decode = |envelope: &Bytes| decode(self.options().decode_bytes(name, envelope)?);
                self.read(key, found, &mut left, decode)
            })
            .collect()
    }

    /// Returns whether a key has a value, null and empty ones included.
    pub async fn has_key(&self, key: &Key) -> bool {
        let found = self.timed(self.backend().get(&self.name(key))).await;
        self.forgive(key, found).flatten().is_some()
    }

    /// Stores a value. If that fails, no older value is left behind.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &Key, value: &T, ttl: Ttl) {
        self.flights().outdate(&self.name(key));
        match self.encode(key, value) {
            Some(envelope) => self.store(&envelope, ttl).await,
            None => self.delete(key).await,
        }
    }

    /// Stores values in one round trip. Where that fails, no older value is left behind. Of a key that is there twice,
    /// the last value counts.
    pub async fn set_many<T: Serialize>(&self, values: &[(Key, T)], ttl: Ttl) {
        let encode = |(key, value): &(Key, T)| self.encode(key, value).ok_or_else(|| key.clone());
        let (encoded, failed): (Vec<_>, Vec<_>) = values.iter().map(encode).partition(Result::is_ok);
        self.set_envelopes(&encoded.into_iter().flatten().collect::<Vec<_>>(), ttl).await;
        if !failed.is_empty() {
            self.delete_many(&failed.into_iter().filter_map(Result::err).collect::<Vec<_>>()).await;
        }
    }

    /// Stores a value where there is none, and returns whether it did.
    pub async fn add<T: Serialize + ?Sized>(&self, key: &Key, value: &T, ttl: Ttl) -> bool {
        self.try_add(key, value, ttl).await.unwrap_or(false)
    }

    /// As [`add`](Self::add), and answers `None` where the cache fails or will not store the value.
    pub async fn try_add<T: Serialize + ?Sized>(&self, key: &Key, value: &T, ttl: Ttl) -> Option<bool> {
        self.try_add_envelope(&self.encode(key, value)?, ttl).await
    }

    /// Returns bytes in an envelope for a key. [`get_many_with`](Self::get_many_with) reads them.
    #[must_use]
    pub fn envelope(&self, key: &Key, value: &[u8]) -> Envelope {
        let name = self.name(key);
        let bytes = self.options().encode_bytes(&name, value);
        Envelope { key: key.clone(), name, bytes }
    }

    /// Stores an envelope where its key has no value, and returns whether it did.
    pub async fn add_envelope(&self, envelope: &Envelope, ttl: Ttl) -> bool {
        self.try_add_envelope(envelope, ttl).await.unwrap_or(false)
    }

    /// Stores envelopes in one round trip, and returns whether all of them were stored. Where that fails, no older
    /// value is left behind. Of a key that is there twice, the last value counts.
    pub async fn set_envelopes(&self, envelopes: &[Envelope], ttl: Ttl) -> bool {
        let latest: HashMap<_, _> = envelopes.iter().map(|envelope| (&envelope.name, envelope)).collect();
        let (fitting, too_long): (Vec<_>, Vec<_>) =
            latest.into_values().partition(|envelope| self.fitting(envelope).is_some());
        let mut are_all_stored = too_long.is_empty();
        if !are_all_stored {
            self.delete_many(&too_long.iter().map(|envelope| envelope.key.clone()).collect::<Vec<_>>()).await;
        }
        let named: Vec<_> =
            fitting.iter().map(|envelope| (envelope.name.clone(), envelope.bytes.clone())).collect();
        named.iter().for_each(|(name, _)| self.flights().outdate(name));
        let stored = self.timed(self.backend().set_many(&named, ttl)).await;
        for (Envelope { key, bytes, .. }, stored) in fitting.into_iter().zip(stored) {
            are_all_stored &= self.count_fill(bytes.len(), self.forgive(key, stored).is_some());
        }
        are_all_stored
    }

    async fn try_add_envelope(&self, envelope: &Envelope, ttl: Ttl) -> Option<bool> {
        let Envelope { key, name, bytes } = self.fitting(envelope)?;
        let stored = self.timed(self.backend().add(name, bytes.clone(), ttl)).await;
        self.forgive(key, stored).inspect(|is_stored| _ = self.count_fill(bytes.len(), *is_stored))
    }

    /// Stores a value where there is one, and returns whether it did.
    pub async fn replace<T: Serialize + ?Sized>(&self, key: &Key, value: &T, ttl: Ttl) -> bool {
        self.try_replace(key, value, ttl).await.unwrap_or(false)
    }

    /// As [`replace`](Self::replace), and answers `None` where the cache fails or will not store the value.
    pub async fn try_replace<T: Serialize + ?Sized>(&self, key: &Key, value: &T, ttl: Ttl) -> Option<bool> {
        self.flights().outdate(&self.name(key));
        let envelope = self.encode(key, value)?;
        let Envelope { key, name, bytes } = self.fitting(&envelope)?;
        let stored = self.timed(self.backend().replace(name, bytes.clone(), ttl)).await;
        self.forgive(key, stored).inspect(|is_stored| _ = self.count_fill(bytes.len(), *is_stored))
    }

    /// Removes a key. If that fails, the key stays unread until it could be removed.
    pub async fn delete(&self, key: &Key) {
        self.flights().outdate(&self.name(key));
        self.remove(key).await;
    }

    /// As [`delete`](Self::delete), but builds under way are stored.
    pub(super) async fn remove(&self, key: &Key) {
        let deleted = self.timed(self.backend().delete(&self.name(key))).await;
        if self.forgive(key, deleted).is_some() {
            self.counters().deletes.add_one();
        }
    }

    /// Removes keys in one round trip.
    pub async fn delete_many(&self, keys: &[Key]) {
        let names: Vec<_> = keys.iter().map(|key| self.name(key)).collect();
        let (names, _) = distinct(&names);
        names.iter().for_each(|name| self.flights().outdate(name));
        let deleted = self.timed(self.backend().delete_many(&names)).await;
        for (key, deleted) in names.iter().zip(deleted) {
            if self.forgive(key, deleted).is_some() {
                self.counters().deletes.add_one();
            }
        }
    }

    /// Removes a key whose value has become old. Later callers build anew: they do not wait for a build under way,
    /// which may have read old data, and this process does not store what that makes.
    ///
    /// A build in another process goes on: callers there get what it makes, and it is stored.
    pub async fn invalidate(&self, key: &Key) {
        // The lock first: between the two, others would wait for it.
        self.delete_many(&[key.lock(), key.clone()]).await;
    }

    /// Gives a value a new lifetime, and returns whether there is one.
    pub async fn touch(&self, key: &Key, ttl: Ttl) -> bool {
        let touched = self.timed(self.backend().touch(&self.name(key), ttl)).await;
        self.forgive(key, touched).unwrap_or(false)
    }

    /// Adds to a counter and returns the sum; none if there is no such key, or it cannot be counted with.
    ///
    /// A counter is stored bare, so that any client reads it, and is made by the [`add`](backend::Backend::add) of the
    /// [`backend`](Self::backend).
    pub async fn incr(&self, key: &Key, delta: u64) -> Option<u64> {
        let sum = self.timed(self.backend().incr(&self.name(key), delta)).await;
        self.forgive(key, sum).flatten()
    }

    /// Subtracts from a counter, down to 0, and returns the rest; otherwise as [`incr`](Self::incr).
    pub async fn decr(&self, key: &Key, delta: u64) -> Option<u64> {
        let rest = self.timed(self.backend().decr(&self.name(key), delta)).await;
        self.forgive(key, rest).flatten()
    }

    /// Removes everything from all servers, under any prefix. Returns whether all of them did so.
    pub async fn clear(&self) -> bool {
        self.flights().outdate_all();
        let cleared = self.timed(self.backend().clear()).await;
        self.forgive("everything", cleared).is_some()
    }

    /// Returns a value in its envelope; none, after saying so, if it has no encoding.
    pub(super) fn encode<T: Serialize + ?Sized>(&self, key: &Key, value: &T) -> Option<Envelope> {
        let name = self.name(key);
        let encoded = self.options().encode(&name, value).inspect_err(|error| {
            self.counters().refused.add_one();
            tracing::error!(cache.key = %key, %error, "a value that cannot be encoded is left uncached");
        });
        Some(Envelope { key: key.clone(), name, bytes: encoded.ok()? })
    }

    /// Returns an envelope that is not too long; none, after saying so, if it is.
    fn fitting<'e>(&self, envelope: &'e Envelope) -> Option<&'e Envelope> {
        let length = envelope.bytes.len();
        if length <= self.options().largest_value {
            return Some(envelope);
        }
        self.counters().refused.add_one();
        tracing::warn!(cache.key = %envelope.key, "left uncached: {}", ErrorKind::TooLarge(length));
        None
    }

    /// Stores an envelope. One that is too long leaves nothing.
    pub(super) async fn store(&self, envelope: &Envelope, ttl: Ttl) {
        let Some(Envelope { key, name, bytes }) = self.fitting(envelope) else {
            return self.remove(&envelope.key).await;
        };
        let stored = self.timed(self.backend().set(name, bytes.clone(), ttl)).await;
        self.count_fill(bytes.len(), self.forgive(key, stored).is_some());
    }

    fn count_fill(&self, length: usize, is_stored: bool) -> bool {
        if is_stored {
            self.counters().fills.add_one();
            self.counters().bytes_written.add(length);
        }
        is_stored
    }

    fn read<T>(
        &self,
        key: &Key,
        found: Result<Option<Bytes>, backend::Error>,
        left: &mut usize,
        decode: impl FnOnce(&Bytes) -> Option<T>,
    ) -> Option<T> {
        let counters = self.counters();
        let found = self.forgive(key, found).flatten();
        counters.bytes_read.add(found.as_ref().map_or(0, Bytes::len));
        let value = found.as_ref().and_then(|envelope| {
            *left = left.checked_sub(CacheOptions::claimed_length(envelope))?;
            decode(envelope)
        });
        if found.is_some() && value.is_none() {
            counters.unreadable.add_one();
            if self.options().integrity.is_signed() {
                tracing::warn!(cache.key = %key, "security: a value without a valid signature is a miss");
            } else {
                tracing::debug!(cache.key = %key, "a value that is not ours, or damaged, is a miss");
            }
        }
        let outcome = if value.is_some() { &counters.hits } else { &counters.misses };
        outcome.add_one();
        tracing::debug!(cache.key = %key, hit = value.is_some(), "cache get");
        value
    }

    pub(super) async fn timed<T>(&self, operation: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let outcome = operation.await;
        self.counters().latency.add(started.elapsed());
        outcome
    }

    /// Makes a miss of an error, and counts it.
    fn forgive<T>(&self, key: impl fmt::Display, result: Result<T, backend::Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if !error.kind.is_outage() => {
                self.counters().refused.add_one();
                tracing::warn!(cache.key = %key, "left uncached: {error}");
                None
            }
            Err(error) => {
                self.counters().errors.add_one();
                tracing::debug!(cache.key = %key, "cache operation failed: {error}");
                None
            }
        }
    }
}

/// Returns each name once, and for every name its place among them: a backend is asked for distinct keys.
fn distinct(names: &[String]) -> (Vec<String>, Vec<usize>) {
    let (mut distinct, mut known) = (Vec::with_capacity(names.len()), HashMap::with_capacity(names.len()));
    let places = names.iter().map(|name| {
        *known.entry(name).or_insert_with(|| {
            distinct.push(name.clone());
            distinct.len() - 1
        })
    });
    let places = places.collect();
    (distinct, places)
}
