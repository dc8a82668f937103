//! One caller builds, the others wait: in this process by a single flight, in the others by a lock in the backend.
//!
//! [`Cache::get_or_set`] is made of it. Layers that keep values in a form of their own [`join`](Cache::join) a flight
//! themselves.

use std::any::Any;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::build_lock::{self, Lock, Taken};
use super::codec::Envelope;
use super::single_flight::{Builder, Member, Outcome};
use super::{Cache, Key};

pub use super::single_flight::Failure;

/// The shortest limit of the wait for callers in this process, which are known to be alive.
const QUEUE: Duration = Duration::from_secs(10);

/// One caller's membership in the group of callers that miss the same value at once. Dropping it leaves the group.
pub struct Flight<'a> {
    cache: &'a Cache,
    key: Key,
    member: Member<'a>,
}

impl Cache {
    /// Joins all callers, in this and other processes, that build the value of a key at present. Keep the flight until
    /// the caller has its value: callers that join meanwhile are given the outcome of the build.
    #[must_use]
    pub fn join(&self, key: &Key) -> Flight<'_> {
        Flight { cache: self, key: key.clone(), member: self.flights().join(self.name(key)) }
    }
}

impl Flight<'_> {
    /// Returns whether the value has been built or its key was written to. What is built now must not be stored.
    pub(super) fn is_closed(&self) -> bool {
        self.member.flight().is_closed()
    }

    /// Waits until the value of `key` is built, or until this caller is to build it.
    ///
    /// Another process is waited for until `max_wait` has passed since the call, this one for ten seconds at least.
    /// Outside a tokio runtime there is no wait. `decode` reads what was put into an [envelope](Cache::envelope); a
    /// value that it cannot read counts as missing.
    ///
    /// [`Look::First`] saves a round trip if the value is missing, and costs three operations in the background if not.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it lets the next caller build.
    pub async fn wait<T>(
        &self,
        key: &Key,
        look: Look,
        max_wait: Duration,
        decode: impl Fn(Bytes) -> Option<T>,
    ) -> Joined<'_, T> {
        let (cache, counters) = (self.cache, self.cache.counters());
        let read = |name: &str, envelope: &Bytes| {
            let value = cache.options().decode_bytes(name, envelope).and_then(&decode);
            if value.is_none() && look == Look::First {
                counters.unreadable.add_one();
            }
            value
        };
        let joined = self.wait_for_all(key, max_wait, read).await;
        let hit = matches!(joined, Joined::Value { was_there: true, .. });
        if look == Look::First {
            if hit { &counters.hits } else { &counters.misses }.add_one();
            tracing::debug!(cache.key = %key, hit, "cache get");
            return joined;
        }
        match joined {
            Joined::Value { value, was_there: true } => {
                counters.shared.add_one();
                Joined::Value { value, was_there: false }
            }
            joined => joined,
        }
    }

    async fn wait_for_all<T>(
        &self,
        key: &Key,
        max_wait: Duration,
        read: impl Fn(&str, &Bytes) -> Option<T>,
    ) -> Joined<'_, T> {
        let cache = self.cache;
        if Handle::try_current().is_err() {
            return Joined::BuildAlone;
        }
        // None if it is too far away to be a time.
        let deadline = Instant::now().checked_add(max_wait);
        let Ok(builder) = timeout(QUEUE.max(max_wait), self.member.wait()).await else {
            return Joined::BuildAlone;
        };
        match builder.outcome() {
            Some(Outcome::Built(built)) => {
                if let Some(value) = read(&built.name, &built.bytes) {
                    cache.counters().shared.add_one();
                    return Joined::Value { value, was_there: false };
                }
            }
            Some(Outcome::Failed(failure)) => return Joined::Failed(failure.clone()),
            None => {}
        }
        let (name, lock) = (cache.name(key), cache.name(&self.key.lock()));
        let Taken { found, lock, has_waited } = build_lock::take(cache, &name, &lock, deadline, read).await;
        let Some((value, bytes)) = found else { return Joined::Build(Permit { builder, lock, has_waited }) };
        builder.end(Outcome::Built(Envelope { key: key.clone(), name, bytes }));
        if has_waited {
            cache.counters().shared.add_one();
        }
        Joined::Value { value, was_there: !has_waited }
    }
}

/// Whether a caller has already looked for the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The caller has not looked yet: value and lock are asked for at once.
    First,
    /// The caller has looked, and the value was missing.
    Again,
}

/// The next step of a caller of [`Flight::wait`].
pub enum Joined<'a, T> {
    /// The caller has the value.
    Value {
        /// The value.
        value: T,
        /// Whether it was there at the first look, so that no other caller was waited for.
        was_there: bool,
    },
    /// The caller has the error of the build that it waited for.
    Failed(Failure),
    /// The caller builds. Other callers wait, in this process at least.
    Build(Permit<'a>),
    /// The caller builds for itself, since another caller takes too long or cannot be waited for.
    BuildAlone,
}

/// The right to build a value. Dropped before its [`end`](Self::end), it passes to the next caller.
pub struct Permit<'a> {
    builder: Builder<'a>,
    lock: Option<Lock>,
    /// Whether the caller waited for another process's build, which left no value under the key.
    pub has_waited: bool,
}

impl Permit<'_> {
    /// Runs a build to its end, while others wait. Its error is given to them as well.
    pub(super) async fn build<T, E>(self, build: impl Future<Output = Result<T, E>>) -> Result<(Self, T), E>
    where
        E: Any + Clone + Send + Sync,
    {
        match self.during(build).await {
            Ok(value) => Ok((self, value)),
            Err(error) => {
                self.builder.end(Outcome::Failed(Failure::new(error.clone())));
                Err(error)
            }
        }
    }

    /// Runs a build to its end, while other callers wait.
    pub async fn during<T>(&self, build: impl Future<Output = T>) -> T {
        match &self.lock {
            Some(lock) => lock.during(build).await,
            None => build.await,
        }
    }

    /// Hands what was built to the callers that wait, and stores it in the background. The lock is kept until then, for
    /// which callers in other processes wait.
    pub(super) fn end_after(
        self,
        cache: &Cache,
        built: Envelope,
        stored: impl Future<Output = ()> + Send + 'static,
    ) {
        self.builder.end(Outcome::Built(built));
        let lock = self.lock;
        cache.background().spawn(async move {
            stored.await;
            drop(lock);
        });
    }

    /// Hands the built value to the callers that wait. Without a value, the next of them builds.
    pub async fn end(self, built: Option<Envelope>) {
        match (built, self.lock) {
            // The lock is released in the background: the value is there, so no caller waits for the lock.
            (Some(built), _) => self.builder.end(Outcome::Built(built)),
            (None, Some(lock)) => lock.release().await,
            (None, None) => {}
        }
    }
}
