//! Whether a server is marked down, and which of its deletes are pending.
//!
//! A server that failed is marked down, so that an outage costs one timeout and not one per request. A key whose write
//! failed may still hold its old value on the server. Its delete is pending, and the server stays down until it has
//! received all pending deletes.
//!
//! A write may also fail because this process is busy. The server then stays up, and only that key is not read before
//! its delete.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{ErrorKind, MAX_PENDING_DELETES};

/// Closed: requests are sent to the server. Open: the server is marked down.
pub struct Breaker {
    state: Mutex<State>,
    /// Told when a recovery has ended.
    ended: Notify,
}

#[derive(Default)]
struct State {
    max_pending: usize,
    open: bool,
    /// The failure because of which the server is marked down, the latest one.
    cause: Option<ErrorKind>,
    /// Whether a task sends pending deletes and tries the server.
    recovering: bool,
    /// Each key with the number of its latest failed write.
    pending: BTreeMap<String, u64>,
    failed_writes: u64,
    forgotten: u64,
}

/// A pending delete: a key, and the number of the failed write that the delete is for.
///
/// A delete that is under way when the key's next write fails may reach the server before that write. It confirms the
/// pending delete of the earlier write only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDelete {
    /// The key.
    pub key: String,
    failed_write: u64,
}

/// What came of closing.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed {
    /// Whether the server was marked down.
    pub was_open: bool,
    /// How many keys were too many to remember.
    pub forgotten: u64,
}

/// Whether this failure is the one that opened the breaker: its owner reports it and starts the recovery.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is.
    Now,
    /// An earlier one did.
    Before,
}

impl Default for Breaker {
    /// Creates a closed breaker that remembers [`MAX_PENDING_DELETES`].
    fn default() -> Self {
        let state = State { max_pending: MAX_PENDING_DELETES, ..State::default() };
        Self { state: Mutex::new(state), ended: Notify::new() }
    }
}

impl Breaker {
    /// Limits the pending deletes. Beyond the limit an old value may live until it expires.
    pub fn limit_pending(&self, most: usize) {
        self.state().max_pending = most;
    }

    /// Returns whether the server is marked down. `written` are the keys of the write that does not happen then.
    pub fn refuses(&self, written: &[String]) -> bool {
        let mut state = self.state();
        if state.open {
            state.add_pending(written);
        }
        state.open
    }

    /// Returns whether the server is up and a delete of this key is pending, so that no operation may look at its
    /// value. While the server is down, [`refuses`](Self::refuses) says so.
    pub fn is_pending(&self, key: &str) -> bool {
        let state = self.state();
        !state.open && state.pending.contains_key(key)
    }

    /// Notes that a write was not done, through no fault of the server's: the server stays as it is.
    pub fn defer(&self, written: &[String]) {
        self.state().add_pending(written);
    }

    /// Returns whether the caller is to start the task that recovers: it ends when [`close`](Self::close) succeeds.
    pub fn begin_recovery(&self) -> bool {
        let mut state = self.state();
        let is_needed = state.open || !state.pending.is_empty();
        is_needed && !mem::replace(&mut state.recovering, true)
    }

    /// Returns the error of an operation that the server does not receive since it is marked down, with its last error.
    pub fn refusal(&self) -> ErrorKind {
        ErrorKind::Down(self.state().cause.clone().map(Box::new))
    }

    /// Marks the server down. `written` are the keys of the write that failed, if it was one.
    pub fn open(&self, written: &[String], cause: &ErrorKind) -> Opened {
        let mut state = self.state();
        state.add_pending(written);
        state.cause = Some(cause.clone());
        if mem::replace(&mut state.open, true) { Opened::Before } else { Opened::Now }
    }

    /// Returns at most so many pending deletes, in the order of their keys, of those behind `after`.
    pub fn pending(&self, after: Option<&str>, most: usize) -> Vec<PendingDelete> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        let pending = state.pending.range::<str, _>((start, Bound::Unbounded)).take(most);
        pending
            .map(|(key, failed_write)| PendingDelete { key: key.clone(), failed_write: *failed_write })
            .collect()
    }

    /// Returns the pending delete of a key, if it has one.
    pub fn pending_delete(&self, key: &str) -> Option<PendingDelete> {
        let failed_write = *self.state().pending.get(key)?;
        Some(PendingDelete { key: key.to_owned(), failed_write })
    }

    /// Notes that the server has received a delete, or a later write of the key. Another write of it may have failed
    /// since, whose delete stays pending.
    pub fn confirm(&self, received: &PendingDelete) {
        let PendingDelete { key, failed_write } = received;
        let mut state = self.state();
        if state.pending.get(key) == Some(failed_write) {
            state.pending.remove(key);
        }
    }

    /// Marks the server up and ends the recovery. Returns `None` if deletes are still pending.
    pub fn close(&self) -> Option<Closed> {
        let mut state = self.state();
        if !state.pending.is_empty() {
            return None;
        }
        state.recovering = false;
        self.ended.notify_waiters();
        Some(Closed { was_open: mem::take(&mut state.open), forgotten: mem::take(&mut state.forgotten) })
    }

    /// Waits until no recovery is under way.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point; the recovery goes on.
    pub async fn recovered(&self) {
        loop {
            let mut ended = pin!(self.ended.notified());
            // Before the look, or an end between the two would be missed.
            ended.as_mut().enable();
            if !self.state().recovering {
                return;
            }
            ended.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add_pending(&mut self, keys: &[String]) {
        for key in keys {
            self.failed_writes += 1;
            if self.pending.len() < self.max_pending || self.pending.contains_key(key) {
                self.pending.insert(key.clone(), self.failed_writes);
            } else {
                self.forgotten += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSE: ErrorKind = ErrorKind::Unauthenticated;

    fn closed(was_open: bool, forgotten: u64) -> Option<Closed> {
        Some(Closed { was_open, forgotten })
    }

    /// Confirms deletes, and then closes the breaker.
    fn close(breaker: &Breaker, received: &[PendingDelete]) -> Option<Closed> {
        received.iter().for_each(|received| breaker.confirm(received));
        breaker.close()
    }

    #[test]
    fn it_stays_open_until_all_pending_deletes_are_received() {
        let breaker = Breaker::default();
        assert_eq!(breaker.open(&["a".into()], &CAUSE), Opened::Now);
        let received = breaker.pending(None, 9);
        assert_eq!(breaker.open(&["b".into()], &CAUSE), Opened::Before);
        assert_eq!(close(&breaker, &received), None);
        assert!(breaker.refuses(&[]));
        breaker.open(&[], &ErrorKind::Busy);
        assert_eq!(breaker.refusal(), ErrorKind::Down(Some(ErrorKind::Busy.into())), "the last one is said");
        assert_eq!(close(&breaker, &breaker.pending(None, 9)), closed(true, 0));
        assert!(!breaker.refuses(&[]));
    }

    #[test]
    fn a_write_that_fails_while_its_key_is_deleted_is_deleted_once_more() {
        let breaker = Breaker::default();
        breaker.open(&["a".into(), "b".into()], &CAUSE);
        let under_way = breaker.pending(None, 9);
        assert!(breaker.refuses(&["a".into()]));
        assert_eq!(close(&breaker, &under_way), None, "another write of `a` has failed since");
        let again = breaker.pending(None, 9);
        assert_eq!(again.iter().map(|delete| delete.key.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(close(&breaker, &again), closed(true, 0));
    }

    #[test]
    fn a_write_that_was_not_sent_leaves_the_server_up_and_its_key_unread() {
        let breaker = Breaker::default();
        assert!(!breaker.begin_recovery(), "there is nothing to recover from");
        breaker.defer(&["a".into()]);
        assert!(!breaker.refuses(&[]) && breaker.is_pending("a") && !breaker.is_pending("b"));
        assert!(breaker.begin_recovery() && !breaker.begin_recovery(), "one task recovers");
        assert_eq!(close(&breaker, &breaker.pending(None, 9)), closed(false, 0));
        assert!(!breaker.is_pending("a"));
        breaker.defer(&["a".into()]);
        assert!(breaker.begin_recovery(), "the task before has ended");
    }

    #[test]
    fn what_it_remembers_is_bounded_and_the_rest_is_counted() {
        let breaker = Breaker::default();
        breaker.limit_pending(100);
        for number in 0..107 {
            breaker.open(&[number.to_string()], &CAUSE);
        }
        breaker.open(&["0".into()], &CAUSE);
        let (mut last, mut pending) = (None, vec![]);
        while let next @ [.., end] = &breaker.pending(last.as_deref(), 30)[..] {
            last = Some(end.key.clone());
            pending.extend(next.to_vec());
        }
        assert_eq!(pending.len(), 100);
        assert_eq!(close(&breaker, &pending), closed(true, 7));
    }

    #[tokio::test]
    async fn the_end_of_a_recovery_can_be_waited_for() {
        let breaker = Breaker::default();
        breaker.recovered().await;
        breaker.defer(&["a".into()]);
        assert!(breaker.begin_recovery());
        let mut recovered = pin!(breaker.recovered());
        assert!(futures_util::poll!(&mut recovered).is_pending());
        close(&breaker, &breaker.pending(None, 1));
        recovered.await;
    }
}
