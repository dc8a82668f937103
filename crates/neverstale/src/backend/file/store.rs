//! The directory within its limits: few threads, the time of an operation, pending deletes, and how much there is.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::directory::{Directory, Locked, Size};
use super::entry::Entry;
use crate::Ttl;
use crate::backend::breaker::{Breaker, Opened};
use crate::backend::seldom::Seldom;
use crate::backend::{ErrorKind, OPERATION_TIMEOUT};

/// Threads at work at once.
const THREADS: u32 = 8;

/// How often a lock that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(1);

/// How much of an operation's time is left when a thread stops waiting for the lock, so that it is back before its
/// caller has gone.
const LOCK_MARGIN: Duration = Duration::from_millis(50);

/// How often pending deletes are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Pending deletes done under one lock.
const DELETES_AT_ONCE: usize = 100;

/// How many keys a process changes before it looks whether there are too many. Looking costs as much as some ten
/// writes.
const CULL_EVERY: usize = 100;

/// What becomes of an entry.
pub(super) enum Change {
    Keep,
    Put(Entry),
    Remove,
}

/// What a change that fails leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nothing: what was there is old.
    LeavesNothing,
    /// What was there, which may be another's lock or count.
    LeavesOld,
}

impl Change {
    /// Stores a value; one whose lifetime is over leaves nothing.
    pub(super) fn put(value: Bytes, ttl: Ttl) -> Self {
        if ttl.is_over() { Self::Remove } else { Self::Put(Entry::new(value, ttl)) }
    }
}

pub(super) struct Store {
    directory: Directory,
    pub(super) breaker: Breaker,
    permits: Arc<Semaphore>,
    /// Changes queue here before they wait for the lock of all processes, which so costs one thread and not all.
    changing: Arc<Mutex<()>>,
    changes: AtomicUsize,
    warned: Seldom,
}

/// How long a thread may go on: while its caller waits.
pub(super) struct Turn {
    ends: Instant,
    caller: Weak<()>,
}

impl Turn {
    /// Returns whether the caller has left. What it has given up must not be done later, when it could undo another
    /// change.
    pub(super) fn is_given_up(&self) -> bool {
        self.caller.strong_count() == 0
    }
}

impl Store {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory: Directory::new(directory),
            breaker: Breaker::default(),
            permits: Arc::new(Semaphore::new(THREADS as usize)),
            changing: Arc::default(),
            // From anywhere, so that many processes that change one key each cull now and then as well.
            changes: AtomicUsize::new(fastrand::usize(..CULL_EVERY)),
            warned: Seldom::default(),
        }
    }

    /// Runs work that needs no lock.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ErrorKind> {
        if self.breaker.refuses(&[]) {
            return Err(self.breaker.refusal());
        }
        self.run(&[], ends()?, move |store, _| work(store, &store.directory)).await
    }

    /// Runs work under the lock. If it fails, `written` are deleted before they are read again.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        written: &[String],
        work: impl FnOnce(&Self, &Locked<'_>, &Turn) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ErrorKind> {
        if self.breaker.refuses(written) {
            return Err(self.breaker.refusal());
        }
        self.run_locked(written, work).await
    }

    async fn run_locked<T: Send + 'static>(
        self: &Arc<Self>,
        written: &[String],
        work: impl FnOnce(&Self, &Locked<'_>, &Turn) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ErrorKind> {
        let ends = ends()?;
        let Ok(queued) = timeout_at(ends, Arc::clone(&self.changing).lock_owned()).await else {
            return Err(self.defer(written, ErrorKind::Busy));
        };
        let locked = move |store: &Self, turn: &Turn| {
            let _queued = queued;
            let lock = store.lock(turn)?;
            work(store, &lock, turn)
        };
        self.run(written, ends, locked).await
    }

    /// Runs work on a thread. While a thread hangs, so does the file system, and nothing else is run.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        written: &[String],
        ends: Instant,
        work: impl FnOnce(&Self, &Turn) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ErrorKind> {
        let caller = Arc::new(());
        let turn = Turn { ends, caller: Arc::downgrade(&caller) };
        let permit = match timeout_at(ends, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(permit) => permit.expect("the semaphore is never closed"),
            Err(_) => return Err(self.defer(written, ErrorKind::Busy)),
        };
        let store = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            store.directory.prepare().and_then(|()| work(&store, &turn))
        });
        match timeout_at(ends, work).await {
            Ok(Ok(done)) => done.map_err(|error| self.defer(written, to_kind(&error))),
            Ok(Err(panic)) => Err(self.defer(written, ErrorKind::Unreachable(panic.to_string()))),
            Err(_) => {
                let cause = ErrorKind::Timeout(OPERATION_TIMEOUT);
                if self.breaker.open(written, &cause) == Opened::Now {
                    tracing::warn!(cache.directory = %self.directory, "the cache's files are left out: {cause}");
                }
                self.recover();
                Err(cause)
            }
        }
    }

    fn lock(&self, turn: &Turn) -> io::Result<Locked<'_>> {
        loop {
            if turn.is_given_up() || Instant::now() + LOCK_MARGIN >= turn.ends {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.directory.try_lock()? {
                Some(lock) => return Ok(lock),
                None => thread::park_timeout(LOCK_RETRY),
            }
        }
    }

    /// Notes a failure that is not the whole directory's: `written` are deleted before they are read again.
    fn defer(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> ErrorKind {
        self.breaker.defer(written);
        self.recover();
        self.warn(&cause);
        cause
    }

    fn warn(&self, cause: &ErrorKind) {
        if cause.is_outage() && self.warned.is_due() {
            tracing::warn!(cache.directory = %self.directory, "the cache's files cannot be used: {cause}");
        }
    }

    /// Changes an entry as the closure says that sees the old one. If that fails and shall leave nothing, there is none
    /// afterwards, or its delete is pending.
    pub(super) fn change<T>(
        &self,
        key: &str,
        lock: &Locked<'_>,
        turn: &Turn,
        failed: Failed,
        change: impl FnOnce(Option<Entry>) -> Result<(Change, T), ErrorKind>,
    ) -> Result<T, ErrorKind> {
        let kind = |error: io::Error| to_kind(&error);
        let changed = || {
            self.delete_pending(key, lock).map_err(kind)?;
            let (change, outcome) = change(self.directory.read(key).map_err(kind)?)?;
            match change {
                Change::Keep => {}
                Change::Put(entry) => lock.write(key, &entry, || turn.is_given_up()).map_err(kind)?,
                Change::Remove => lock.remove(key).map_err(kind)?,
            }
            Ok(outcome)
        };
        let outcome = changed().inspect_err(|cause| self.warn(cause));
        let is_old = failed == Failed::LeavesNothing && outcome.as_ref().is_err_and(ErrorKind::is_outage);
        if is_old && lock.remove(key).is_err() {
            self.breaker.defer(&[key.to_owned()]);
        }
        outcome
    }

    /// Deletes a key if its delete is pending.
    fn delete_pending(&self, key: &str, lock: &Locked<'_>) -> io::Result<()> {
        if let Some(pending) = self.breaker.pending_delete(key) {
            lock.remove(key)?;
            self.breaker.confirm(&pending);
        }
        Ok(())
    }

    /// Starts a task that does the pending deletes, if there are any and there is none.
    pub(super) fn recover(self: &Arc<Self>) {
        if let Ok(runtime) = Handle::try_current()
            && self.breaker.begin_recovery()
        {
            runtime.spawn(recover(Arc::downgrade(self)));
        }
    }

    /// Does pending deletes, and returns whether none is left.
    async fn try_again(self: &Arc<Self>) -> Result<bool, ErrorKind> {
        let delete = |store: &Self, lock: &Locked<'_>, _: &Turn| {
            let pending = store.breaker.pending(DELETES_AT_ONCE);
            pending.iter().try_for_each(|pending| store.delete_pending(&pending.key, lock))
        };
        self.run_locked(&[], delete).await?;
        let closed = self.breaker.close(&[]);
        if closed.as_ref().is_some_and(|closed| closed.was_open) {
            tracing::info!(cache.directory = %self.directory, "the cache's files can be used again");
        }
        Ok(closed.is_some())
    }

    /// Counts changed keys, and makes room in the background now and then, unless all threads are at work.
    pub(super) fn note_changed(self: &Arc<Self>, changed: usize, most: Size) {
        let before = self.changes.fetch_add(changed, Ordering::Relaxed);
        let is_due = before / CULL_EVERY != before.wrapping_add(changed) / CULL_EVERY;
        if is_due && let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            let store = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                if let Err(error) = store.directory.cull(most) {
                    tracing::warn!(cache.directory = %store.directory, "failed to cull the cache: {error}");
                }
            });
        }
    }
}

/// Tries again until no delete is pending. Ends with the backend.
async fn recover(store: Weak<Store>) {
    loop {
        let Some(permits) = store.upgrade().map(|store| Arc::clone(&store.permits)) else { return };
        // Once all threads are back, none hangs.
        drop(permits.acquire_many(THREADS).await);
        let Some(store) = store.upgrade() else { return };
        while let Ok(is_done) = store.try_again().await {
            if is_done {
                return;
            }
        }
        drop(store);
        sleep(RETRY).await;
    }
}

/// Returns when an operation that begins now has to end.
fn ends() -> Result<Instant, ErrorKind> {
    Handle::try_current().map_err(|error| ErrorKind::Unreachable(error.to_string()))?;
    Ok(Instant::now() + OPERATION_TIMEOUT)
}

fn to_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::TimedOut => ErrorKind::Timeout(OPERATION_TIMEOUT),
        _ => ErrorKind::Unreachable(error.to_string()),
    }
}
