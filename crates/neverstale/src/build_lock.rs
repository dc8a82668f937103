//! Who builds, among processes: whoever could `add` a key beside the value's.
//!
//! The lock is a courtesy and no promise: it may be evicted, its server may be lost, and then two build. It expires by
//! itself a few seconds after its holder has died.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::Ttl;
use super::backend::Backend;
use super::key::random_token;

/// How long a holder that says nothing keeps the lock.
const LIFETIME: Duration = Duration::from_secs(3);

/// How often a holder says that it still builds.
const RENEWAL: Duration = Duration::from_secs(1);

/// Pauses between looking again, growing from the first to the second, each with jitter.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// How often in a row the lock may be neither ours nor there before the store is taken to refuse it. Once or twice that
/// happens where others take it and let it go in between.
const MOST_REFUSALS: u32 = 3;

/// What to do after a miss.
pub(super) enum Turn<T> {
    /// Build: nobody else does, until the lock is dropped.
    Ours {
        lock: Lock,
        /// Whether others had it before.
        has_waited: bool,
    },
    /// Build: it cannot be known who else does.
    Unknown,
    /// Nothing: another has built this, which is in this envelope.
    Theirs {
        value: T,
        envelope: Bytes,
        /// Whether it was waited for, and not there at once.
        has_waited: bool,
    },
}

/// The lock of one key. Dropped, it is released in the background.
pub(super) struct Lock(Option<Held>);

struct Held {
    backend: Arc<dyn Backend>,
    name: String,
    token: Bytes,
}

/// Waits until nobody else builds the value `name`, whose lock is `lock`, or until the deadline, if there is one. A
/// value that `read` makes nothing of is as good as none.
///
/// # Cancel safety
///
/// Dropped at any point it lets go of the lock that it may have got.
pub(super) async fn take<T>(
    backend: &Arc<dyn Backend>,
    name: &str,
    lock: &str,
    deadline: Option<Instant>,
    read: impl Fn(&str, &Bytes) -> Option<T>,
) -> Turn<T> {
    let both = [name.to_owned(), lock.to_owned()];
    let token = Bytes::from(random_token());
    let [mut pause, longest] = PAUSES;
    let (mut has_waited, mut refusals) = (false, 0);
    loop {
        // Before it is asked for: whoever is dropped before the answer has it all the same.
        let held = Held { backend: Arc::clone(backend), name: lock.into(), token: token.clone() };
        let mut ours = Lock(Some(held));
        match backend.add_then_get(lock, token.clone(), Ttl::After(LIFETIME), name).await {
            Err(_) => {
                ours.forget();
                return Turn::Unknown;
            }
            // Whoever held it before may have stored the value by now. Nobody waits for a lock whose value is there.
            Ok((is_ours, found)) => {
                if !is_ours {
                    ours.forget();
                }
                if let Some((value, envelope)) = both_of(found, |envelope| read(name, envelope)) {
                    return Turn::Theirs { value, envelope, has_waited };
                }
                if is_ours {
                    return Turn::Ours { lock: ours, has_waited };
                }
                has_waited = true;
            }
        }
        refusals += 1;
        if refusals > MOST_REFUSALS {
            return Turn::Unknown;
        }
        // Others look again as soon as the lock is gone or the value is there.
        loop {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Turn::Unknown;
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = longest.min(pause * 2);
            let mut found = backend.get_many(&both).await.into_iter();
            let (Some(Ok(envelope)), Some(Ok(holder))) = (found.next(), found.next()) else {
                return Turn::Unknown;
            };
            if let Some((value, envelope)) = both_of(envelope, |envelope| read(name, envelope)) {
                return Turn::Theirs { value, envelope, has_waited };
            }
            if holder.is_none() {
                break;
            }
            refusals = 0;
        }
    }
}

/// Returns a value and the envelope that it was in.
fn both_of<T>(found: Option<Bytes>, read: impl Fn(&Bytes) -> Option<T>) -> Option<(T, Bytes)> {
    found.and_then(|envelope| Some((read(&envelope)?, envelope)))
}

impl Lock {
    /// Runs a build to its end, and keeps the lock meanwhile.
    pub(super) async fn during<T>(&self, build: impl Future<Output = T>) -> T {
        let mut build = std::pin::pin!(build);
        loop {
            tokio::select! {
                biased;
                built = &mut build => return built,
                () = sleep(RENEWAL) => {}
            }
            // Sent beside the build, which must not wait for it.
            tokio::select! {
                biased;
                built = &mut build => return built,
                () = self.renew() => {}
            }
        }
    }

    /// Lets the next one build.
    pub(super) async fn release(mut self) {
        if let Some(held) = self.0.take() {
            held.release().await;
        }
    }

    /// Says that it is another's.
    fn forget(&mut self) {
        self.0 = None;
    }

    async fn renew(&self) {
        if let Some(Held { backend, name, .. }) = &self.0 {
            // If it fails, another may build as well.
            let _ = backend.touch(name, Ttl::After(LIFETIME)).await;
        }
    }
}

impl Held {
    /// Removes the lock, unless it is another's by now. If that fails, it expires.
    async fn release(self) {
        if self.backend.get(&self.name).await.is_ok_and(|holder| holder.as_ref() == Some(&self.token)) {
            let _ = self.backend.delete(&self.name).await;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let (Some(held), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(held.release());
        }
    }
}
