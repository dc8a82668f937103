//! The blocking threads on which files are read and written: few, and given up on when they take too long.

use std::array;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::backend::{ErrorKind, OPERATION_TIMEOUT};

/// How much of an operation's time is left when a thread stops waiting for a lock, so that it is back before its caller
/// has gone.
const LOCK_MARGIN: Duration = Duration::from_millis(50);

/// How many locks there are: keys that share one wait for each other.
pub(super) const LOCKS: usize = 16;

/// Threads at work at once.
const THREADS: usize = 8;

pub(super) struct Threads {
    permits: Arc<Semaphore>,
    /// Before a thread waits for a lock that other processes hold as well, its caller waits here for those of this
    /// process, in order. So a lock that somebody keeps costs one thread and not all of them.
    queues: [Arc<tokio::sync::Mutex<()>>; LOCKS],
    /// What threads hold whose callers have given up on them.
    overdue: Mutex<Vec<Weak<()>>>,
}

/// How long a thread may go on: until the time is up, or nobody waits for it any more.
pub(super) struct Turn {
    ends: Instant,
    caller: Weak<()>,
}

impl Turn {
    /// Returns the error that says that the turn is over, if it is.
    pub(super) fn check(&self) -> io::Result<()> {
        self.check_before(self.ends)
    }

    /// As [`check`](Self::check), a little earlier.
    pub(super) fn check_wait(&self) -> io::Result<()> {
        self.check_before(self.ends - LOCK_MARGIN)
    }

    /// Returns whether nobody waits for the outcome any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.caller.strong_count() == 0
    }

    fn check_before(&self, end: Instant) -> io::Result<()> {
        let is_over = Instant::now() >= end || self.is_abandoned();
        if is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl Threads {
    pub(super) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(THREADS)),
            queues: array::from_fn(|_| Arc::default()),
            overdue: Mutex::default(),
        }
    }

    /// Runs work that blocks, for no longer than an operation may take. `locks` are those that it will take.
    ///
    /// While a thread is overdue, the file system hangs, and nothing is run.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        locks: &BTreeSet<usize>,
        work: impl FnOnce(&Turn) -> T + Send + 'static,
    ) -> Result<T, ErrorKind> {
        if self.is_any_overdue() {
            return Err(ErrorKind::LeftOut);
        }
        let (caller, thread) = (Arc::new(()), Arc::new(()));
        let overdue = Arc::downgrade(&thread);
        let turn = Turn { ends: Instant::now() + OPERATION_TIMEOUT, caller: Arc::downgrade(&caller) };
        let ends = turn.ends;
        let running = async {
            let held = (self.queue(locks).await, self.permit().await, thread);
            spawn_blocking(move || {
                let outcome = work(&turn);
                drop(held);
                outcome
            })
            .await
        };
        match timeout_at(ends, running).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(panic)) => Err(ErrorKind::Unreachable(panic.to_string())),
            Err(_) => {
                self.overdue().push(overdue);
                Err(ErrorKind::Timeout(OPERATION_TIMEOUT))
            }
        }
    }

    /// Runs work for which nobody waits, unless all threads are at work.
    pub(super) fn run_aside(&self, work: impl FnOnce() + Send + 'static) {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            spawn_blocking(move || {
                work();
                drop(permit);
            });
        }
    }

    /// In ascending order, so that no two wait for each other.
    async fn queue(&self, locks: &BTreeSet<usize>) -> Vec<tokio::sync::OwnedMutexGuard<()>> {
        let mut places = vec![];
        for lock in locks {
            places.push(Arc::clone(&self.queues[*lock]).lock_owned().await);
        }
        places
    }

    async fn permit(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed")
    }

    fn is_any_overdue(&self) -> bool {
        let mut overdue = self.overdue();
        overdue.retain(|thread| thread.strong_count() > 0);
        !overdue.is_empty()
    }

    fn overdue(&self) -> MutexGuard<'_, Vec<Weak<()>>> {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
