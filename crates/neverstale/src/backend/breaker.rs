//! Whether a server is marked down, and which of its deletes are pending.
//!
//! A server that failed is marked down, so that an outage costs one timeout and not one per request. A key whose write
//! failed may still hold its old value on the server. Its delete is pending, and the server stays down until it has
//! received all pending deletes. So an old list cannot come back with the server.
//!
//! A write may also fail because this process is busy: it never got a permit. The server is well and stays up. The
//! delete of that one key is pending all the same, and until the server has received it the key is not read.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{ErrorKind, MAX_PENDING_DELETES};

/// Closed: requests are sent to the server. Open: the server is marked down.
#[derive(Default)]
pub struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
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

/// A pending delete: a key, and the failed write that the delete is for.
///
/// A delete that is under way when the key's next write fails may reach the server before that write. It settles the
/// earlier write only.
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

impl Breaker {
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
        self.state().cause.clone().map_or(ErrorKind::LeftOut, |cause| ErrorKind::Down(Box::new(cause)))
    }

    /// Marks the server down. `written` are the keys of the write that failed, if it was one.
    pub fn open(&self, written: &[String], cause: &ErrorKind) -> Opened {
        let mut state = self.state();
        state.add_pending(written);
        state.cause = Some(cause.clone());
        if mem::replace(&mut state.open, true) { Opened::Before } else { Opened::Now }
    }

    /// Returns at most so many of the deletes that the server must receive before it is up again.
    pub fn pending(&self, most: usize) -> Vec<PendingDelete> {
        let state = self.state();
        let pending = state.pending.iter().take(most);
        pending
            .map(|(key, failed_write)| PendingDelete { key: key.clone(), failed_write: *failed_write })
            .collect()
    }

    /// Notes the deletes that the server has received, and marks it up and ends the recovery if none is pending any
    /// more. Returns `None` if some are.
    pub fn close(&self, received: &[PendingDelete]) -> Option<Closed> {
        let mut state = self.state();
        for PendingDelete { key, failed_write } in received {
            if state.pending.get(key) == Some(failed_write) {
                state.pending.remove(key);
            }
        }
        if !state.pending.is_empty() {
            return None;
        }
        state.recovering = false;
        Some(Closed { was_open: mem::take(&mut state.open), forgotten: mem::take(&mut state.forgotten) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add_pending(&mut self, keys: &[String]) {
        for key in keys {
            self.failed_writes += 1;
            if self.pending.len() < MAX_PENDING_DELETES || self.pending.contains_key(key) {
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

    #[test]
    fn it_stays_open_until_all_pending_deletes_are_received() {
        let breaker = Breaker::default();
        assert_eq!(breaker.open(&["a".into()], &CAUSE), Opened::Now);
        let received = breaker.pending(9);
        assert_eq!(breaker.open(&["b".into()], &CAUSE), Opened::Before);
        assert_eq!(breaker.close(&received), None);
        assert!(breaker.refuses(&[]));
        breaker.open(&[], &ErrorKind::Busy);
        assert_eq!(breaker.refusal(), ErrorKind::Down(Box::new(ErrorKind::Busy)), "the last one is said");
        assert_eq!(breaker.close(&breaker.pending(9)), closed(true, 0));
        assert!(!breaker.refuses(&[]));
    }

    #[test]
    fn a_write_that_fails_while_its_key_is_deleted_is_deleted_once_more() {
        let breaker = Breaker::default();
        breaker.open(&["a".into(), "b".into()], &CAUSE);
        let under_way = breaker.pending(9);
        assert!(breaker.refuses(&["a".into()]));
        assert_eq!(breaker.close(&under_way), None, "another write of `a` has failed since");
        let again = breaker.pending(9);
        assert_eq!(again.iter().map(|delete| delete.key.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(breaker.close(&again), closed(true, 0));
    }

    #[test]
    fn a_write_that_was_not_sent_leaves_the_server_up_and_its_key_unread() {
        let breaker = Breaker::default();
        assert!(!breaker.begin_recovery(), "there is nothing to recover from");
        breaker.defer(&["a".into()]);
        assert!(!breaker.refuses(&[]) && breaker.is_pending("a") && !breaker.is_pending("b"));
        assert!(breaker.begin_recovery() && !breaker.begin_recovery(), "one task recovers");
        assert_eq!(breaker.close(&breaker.pending(9)), closed(false, 0));
        assert!(!breaker.is_pending("a"));
        breaker.defer(&["a".into()]);
        assert!(breaker.begin_recovery(), "the task before has ended");
    }

    #[test]
    fn what_it_remembers_is_bounded_and_the_rest_is_counted() {
        let breaker = Breaker::default();
        for number in 0..MAX_PENDING_DELETES + 7 {
            breaker.open(&[number.to_string()], &CAUSE);
        }
        assert_eq!(breaker.pending(9).len(), 9);
        assert_eq!(breaker.close(&breaker.pending(usize::MAX)), closed(true, 7));
    }
}
