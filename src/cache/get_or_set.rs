//! A value, or else the building of it: once, however many ask for it meanwhile, in however many processes.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::build_lock::{self, Lock};
use super::mistake::Mistake;
use super::single_flight::{Builder, Built, Failure, Flight, Member, Outcome};
use super::version::Versions;
use super::{Cache, Key, Ttl};

/// How long one waits at least for those before it in this process, who are known to be alive.
const QUEUE: Duration = Duration::from_secs(10);

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
    /// The error of `build`, and nothing is stored. All callers that waited for that build in this process return the
    /// same error, so that an outage costs one timeout however many callers there are. An error that is not `Clone`,
    /// such as that of a database driver, is put into an `Arc`: `query().await.map_err(Arc::new)`. The cache itself
    /// causes no error.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, or when its `build` panics, it lets the next caller build.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use tasklist::cache::{Cache, CacheOptions, Key, Ttl, backend::locmem::Locmem};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (cache, key) = (Cache::new(Locmem::new(), CacheOptions::default()), Key::new("tasks.all")?);
    /// let queries = AtomicU32::new(0);
    /// let query = async || {
    ///     tokio::task::yield_now().await;
    ///     // The first time the database fails.
    ///     if queries.fetch_add(1, Ordering::Relaxed) == 0 { Err("no database") } else { Ok(vec!["milk".to_owned()]) }
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
        let name = self.name(key);
        let member = self.flights().join(&name);
        let read = |name: &str, envelope: &Bytes| self.options().decode(name, envelope);
        match self.turn(&member, key, key, Look::Again, self.patience(), read).await {
            Turn::Theirs { value, .. } => Ok(value),
            Turn::Failed(failure) => match failure.downcast_ref::<E>() {
                Some(error) => Err(error.clone()),
                None => build().await,
            },
            Turn::Alone => build().await,
            Turn::Ours(permit) => {
                let (permit, value) = permit.build(build()).await?;
                let built = self.keep(key, &value, ttl, member.flight()).await;
                permit.end(built).await;
                Ok(value)
            }
        }
    }

    /// As [`get_or_set`](Self::get_or_set), of one version of the value, whose key is never written twice. `build` may
    /// read a version that is newer than the one asked for: `label` says which, and under that its value is stored.
    ///
    /// `versions` is asked first, unless the caller has been `told`, and once more after another process has been
    /// waited for.
    ///
    /// # Errors
    ///
    /// Those of `versions`, and those of `build`, which are shared as in [`get_or_set`](Self::get_or_set).
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, or when its `build` panics, it lets the next caller build.
    pub async fn get_or_set_version<T, E>(
        &self,
        key: &Key,
        ttl: Ttl,
        versions: &Versions<E>,
        mut told: Option<Arc<str>>,
        label: impl Fn(&T) -> String,
        build: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: Clone + Send + Sync + 'static,
    {
        let build = || {
            self.counters().builds.add_one();
            build()
        };
        let mut has_waited = false;
        loop {
            // Who has been told comes for something that is missing in this version, and then this most likely is, too.
            let look = if told.is_some() { Look::First } else { Look::Again };
            let version = match told.take() {
                Some(version) => version,
                None => versions.current().await?,
            };
            let versioned = key.at(&version);
            if look == Look::Again
                && let Some(value) = self.get(&versioned).await
            {
                return Ok(value);
            }
            let is_mistaken = Mistake::ListFlightWithoutVersion.is_made();
            let name = self.name(if is_mistaken { key } else { &versioned });
            let member = self.flights().join(&name);
            let read = |name: &str, envelope: &Bytes| self.options().decode(name, envelope);
            match self.turn(&member, &versioned, &versioned, look, self.patience(), read).await {
                Turn::Theirs { value, .. } => return Ok(value),
                Turn::Failed(failure) => match failure.downcast_ref::<E>() {
                    Some(error) => return Err(error.clone()),
                    None => return build().await,
                },
                // Whoever was waited for may have stored a newer version than the one asked for.
                Turn::Ours(permit) if permit.has_waited && !has_waited => {
                    has_waited = true;
                    permit.end(None).await;
                }
                Turn::Ours(permit) => {
                    let (permit, value) = permit.build(build()).await?;
                    let is_mistaken = Mistake::ListUnderAskedVersion.is_made();
                    let key = if is_mistaken { versioned } else { key.at(&label(&value)) };
                    match self.encode(&key, &value) {
                        Some(envelope) => {
                            let (cache, stored) = (self.clone(), envelope.clone());
                            let built = Built { name: self.name(&key), envelope };
                            permit.end_after(built, async move { cache.store(&key, stored, ttl).await });
                        }
                        None => permit.end(None).await,
                    }
                    return Ok(value);
                }
                Turn::Alone => return build().await,
            }
        }
    }

    /// Waits until the value of `key` is built, or it is the caller's turn to build it. All callers that build the same
    /// are members of one flight in this process, and `flight` names their lock in all processes. Another process is
    /// waited for until `patience` has passed since the call, this one for as long at least. A value that `read` cannot
    /// read counts as missing.
    ///
    /// [`Look::First`] saves a round trip if the value is missing, and costs three operations in the background if not.
    pub(super) async fn turn<'a, T>(
        &self,
        member: &'a Member<'_>,
        flight: &Key,
        key: &Key,
        look: Look,
        patience: Duration,
        read: impl Fn(&str, &Bytes) -> Option<T>,
    ) -> Turn<'a, T> {
        let counters = self.counters();
        let read = |name: &str, envelope: &Bytes| {
            let value = read(name, envelope);
            if value.is_none() && look == Look::First {
                counters.unreadable.add_one();
            }
            value
        };
        let turn = self.take_turn(member, flight, key, patience, read).await;
        let hit = matches!(turn, Turn::Theirs { was_there: true, .. });
        if look == Look::First {
            if hit { &counters.hits } else { &counters.misses }.add_one();
            tracing::debug!(cache.key = %key, hit, "cache get");
            return turn;
        }
        match turn {
            Turn::Theirs { value, was_there: true } => {
                counters.shared.add_one();
                Turn::Theirs { value, was_there: false }
            }
            turn => turn,
        }
    }

    async fn take_turn<'a, T>(
        &self,
        member: &'a Member<'_>,
        flight: &Key,
        key: &Key,
        patience: Duration,
        read: impl Fn(&str, &Bytes) -> Option<T>,
    ) -> Turn<'a, T> {
        // None if it is too far away to be a time.
        let deadline = Instant::now().checked_add(patience);
        let Ok(builder) = timeout(QUEUE.max(patience), member.wait()).await else {
            return Turn::Alone;
        };
        match builder.outcome() {
            Some(Outcome::Built(built)) => {
                if let Some(value) = read(&built.name, &built.envelope) {
                    self.counters().shared.add_one();
                    return Turn::Theirs { value, was_there: false };
                }
            }
            Some(Outcome::Failed(failure)) => return Turn::Failed(Arc::clone(failure)),
            None => {}
        }
        let (name, lock) = (self.name(key), self.name(&flight.lock()));
        match build_lock::take(self.backend(), &name, &lock, deadline, read).await {
            build_lock::Turn::Theirs { value, envelope, has_waited } => {
                builder.end(Outcome::Built(Built { name, envelope }));
                if has_waited {
                    self.counters().shared.add_one();
                }
                Turn::Theirs { value, was_there: !has_waited }
            }
            build_lock::Turn::Ours { lock, has_waited } => {
                Turn::Ours(Permit { builder, lock: Some(lock), has_waited })
            }
            build_lock::Turn::Unknown => Turn::Ours(Permit { builder, lock: None, has_waited: false }),
        }
    }

    /// Stores what was built, unless the key has been written to meanwhile or is while it is stored, and returns it in
    /// its envelope.
    async fn keep<T: Serialize>(&self, key: &Key, value: &T, ttl: Ttl, flight: &Flight) -> Option<Built> {
        let envelope = self.encode(key, value)?;
        if !flight.is_closed() {
            self.store(key, envelope.clone(), ttl).await;
            if flight.is_closed() {
                // The delete may have overtaken the value. Those who build by now have nothing to do with it.
                self.remove(key).await;
            }
        }
        Some(Built { name: self.name(key), envelope })
    }
}

/// Whether whoever waits for a value has looked for it before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    First,
    Again,
}

/// What to do after a miss, or at the first look.
pub(super) enum Turn<'a, T> {
    /// Nothing: another has built this.
    Theirs {
        value: T,
        /// And nobody was waited for: it was found at the first look.
        was_there: bool,
    },
    /// Nothing: the build that this caller waited for has failed.
    Failed(Failure),
    /// Build. Others wait for it, in this process at least.
    Ours(Permit<'a>),
    /// Build for oneself: another takes too long.
    Alone,
}

/// The right to build. Dropped before its [`end`](Self::end), it passes to the next caller.
pub(super) struct Permit<'a> {
    builder: Builder<'a>,
    lock: Option<Lock>,
    /// Whether another process had it before, which has left nothing where it was looked for.
    pub(super) has_waited: bool,
}

impl Permit<'_> {
    /// Runs a build to its end, while others wait. Its error is given to them as well.
    async fn build<T, E>(self, build: impl Future<Output = Result<T, E>>) -> Result<(Self, T), E>
    where
        E: Any + Clone + Send + Sync,
    {
        match self.during(build).await {
            Ok(value) => Ok((self, value)),
            Err(error) => {
                self.builder.end(Outcome::Failed(Arc::new(error.clone())));
                Err(error)
            }
        }
    }

    /// Runs a build to its end, while others wait.
    pub(super) async fn during<T>(&self, build: impl Future<Output = T>) -> T {
        match &self.lock {
            Some(lock) => lock.during(build).await,
            None => build.await,
        }
    }

    /// Hands what was built to those who wait, and keeps the lock until it is stored, which nobody waits for: who looks
    /// for it in another process waits for the lock.
    fn end_after(mut self, built: Built, stored: impl Future<Output = ()> + Send + 'static) {
        let lock = self.lock.take();
        self.builder.end(Outcome::Built(built));
        tokio::spawn(async move {
            stored.await;
            drop(lock);
        });
    }

    /// Hands what was built to those who wait; without it, the next of them builds.
    pub(super) async fn end(self, built: Option<Built>) {
        match (built, self.lock) {
            // The lock is released in the background: the value is there, so no caller waits for the lock.
            (Some(built), _) => self.builder.end(Outcome::Built(built)),
            (None, Some(lock)) => lock.release().await,
            (None, None) => {}
        }
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
    use crate::cache::CacheOptions;
    use crate::cache::backend::dummy::Dummy;

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
