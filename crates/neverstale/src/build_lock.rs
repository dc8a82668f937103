//! One builder among processes: the one that could `add` a key beside the value's.
//!
//! The lock saves work, and no correctness rests on it. It may be evicted, or its server lost: then two build. It
//! expires by itself soon after its holder has died.

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::key::random_token;
use super::{Cache, Ttl};

/// How often in a row the lock may be neither ours nor there. Once or twice other processes take and release it in
/// between; more often, the store refuses it.
const MOST_REFUSALS: u32 = 3;

/// The lock of one key. Dropped, it is released in the background.
pub(super) struct Lock(Option<Held>);

#[derive(Clone)]
struct Held {
    cache: Cache,
    name: String,
    token: Bytes,
}

/// What came of asking for a lock. With neither a value nor the lock, the caller builds as well.
pub(super) struct Taken<T> {
    /// The value that another process has built, and its envelope.
    pub(super) found: Option<(T, Bytes)>,
    /// The right to build: no other process does until it is dropped.
    pub(super) lock: Option<Lock>,
    /// Whether another process had the lock before.
    pub(super) has_waited: bool,
}

impl<T> Taken<T> {
    /// It cannot be known which other process builds.
    const UNKNOWN: Self = Self { found: None, lock: None, has_waited: false };
}

/// Waits until no other process builds the value `name`, whose lock is `lock`, or until the deadline, if there is one.
/// A value that `read` makes nothing of counts as missing.
///
/// # Cancel safety
///
/// Dropped at any point, it releases the lock that it may have got.
pub(super) async fn take<T>(
    cache: &Cache,
    name: &str,
    lock: &str,
    deadline: Option<Instant>,
    read: impl Fn(&str, &Bytes) -> Option<T>,
) -> Taken<T> {
    let (backend, options) = (cache.backend(), cache.options());
    let read =
        |envelope: Option<Bytes>| envelope.and_then(|envelope| Some((read(name, &envelope)?, envelope)));
    let both = [name.to_owned(), lock.to_owned()];
    let held = Held { cache: cache.clone(), name: lock.into(), token: random_token().into() };
    let mut pause = options.poll_interval / 20;
    let (mut has_waited, mut refusals) = (false, 0);
    while refusals <= MOST_REFUSALS {
        // Made before the lock is asked for: a caller that is dropped before the response has the lock all the same.
        let mut ours = Lock(Some(held.clone()));
        let added =
            backend.add_then_get(lock, held.token.clone(), Ttl::After(options.lock_lifetime), name).await;
        let is_ours = added.as_ref().is_ok_and(|(is_ours, _)| *is_ours);
        if !is_ours {
            ours.forget();
        }
        // The holder before may have stored the value by now. No process waits for a lock whose value is there.
        let Ok(found) = added.map(|(_, found)| read(found)) else { return Taken::UNKNOWN };
        if found.is_some() {
            return Taken { found, lock: None, has_waited };
        }
        if is_ours {
            return Taken { found: None, lock: Some(ours), has_waited };
        }
        (has_waited, refusals) = (true, refusals + 1);
        // Tries again as soon as the lock is gone or the value is there.
        loop {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Taken::UNKNOWN;
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = options.poll_interval.min(pause.saturating_mul(2));
            let mut looked = backend.get_many(&both).await.into_iter();
            let (Some(Ok(envelope)), Some(Ok(holder))) = (looked.next(), looked.next()) else {
                return Taken::UNKNOWN;
            };
            let found = read(envelope);
            if found.is_some() {
                return Taken { found, lock: None, has_waited };
            }
            if holder.is_none() {
                break;
            }
            refusals = 0;
        }
    }
    Taken::UNKNOWN
}

impl Lock {
    /// Runs a build to its end, and keeps the lock meanwhile.
    pub(super) async fn during<T>(&self, build: impl Future<Output = T>) -> T {
        let mut build = std::pin::pin!(build);
        loop {
            // Beside the build, which must not wait for it.
            tokio::select! {
                biased;
                built = &mut build => return built,
                () = self.renew() => {}
            }
        }
    }

    /// Lets the next process build.
    pub(super) async fn release(mut self) {
        if let Some(held) = self.0.take() {
            held.release().await;
        }
    }

    /// Leaves the lock to the process that has it.
    fn forget(&mut self) {
        self.0 = None;
    }

    /// Waits a third of the lock's lifetime, and begins that anew.
    async fn renew(&self) {
        let Some(Held { cache, name, .. }) = &self.0 else { return std::future::pending().await };
        let lifetime = cache.options().lock_lifetime;
        sleep(lifetime / 3).await;
        // If it fails, another process may build as well.
        let _ = cache.backend().touch(name, Ttl::After(lifetime)).await;
    }
}

impl Held {
    /// Removes the lock, unless another process has it by now. If that fails, it expires.
    async fn release(self) {
        let backend = self.cache.backend();
        if backend.get(&self.name).await.is_ok_and(|holder| holder.as_ref() == Some(&self.token)) {
            let _ = backend.delete(&self.name).await;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let (Some(held), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            let background = held.cache.background().clone();
            background.spawn_on(held.release(), &runtime);
        }
    }
}
