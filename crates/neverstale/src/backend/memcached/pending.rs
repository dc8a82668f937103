//! Which keys of a server must be deleted before they are read again.
//!
//! The outcome of a write is uncertain if it was not answered, was refused, or was not sent at all: in each case the
//! server may hold an older value. Its key then has a *pending delete*. It is not read in this process until the
//! server has confirmed a delete, or a later write of the same key.
//!
//! # Which confirmation counts
//!
//! - A write of the key may become uncertain while a delete for it is on its way. Each time a key is added it gets a
//!   new number, and a delete confirms only the number that the key had when the delete was called.
//! - A read may begin before the write has failed, and end after it. The two then ran at the same time, and either
//!   order is right.
//! - The server may execute the uncertain write late, on the old connection.
//!
//! For the last of these, this is what bounds it.
//!
//! The client executes commands for a server in the order of their calls, on one connection at a time. A delete that is
//! called after the write has failed is therefore either behind it on the same connection, or on a later connection.
//! The old one has then been closed such that the client's system sends nothing more of it. What the server's system
//! had received by then memcached still executes, as soon as the worker thread of that connection runs. A delete
//! on a new connection comes after a handshake and a round trip there, and after an unanswered write also
//! after the client's retry interval; so only a worker that stands still for longer than that, while another one works,
//! or a proxy that keeps what it has received, can bring the old write behind its delete. What it stores then stays
//! until the next write or its end of life, as with any delayed write of any client.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::MAX_PENDING_DELETES;

/// The pending deletes of one server.
#[derive(Default)]
pub(super) struct Pending(Mutex<State>);

#[derive(Default)]
struct State {
    keys: BTreeMap<String, Number>,
    last: u64,
    forgotten: u64,
    is_delivered: bool,
    last_warning: Option<Instant>,
}

/// Which addition of a key this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(u64);

impl Pending {
    /// Adds a key, or gives it a new number. Beyond [`MAX_PENDING_DELETES`] keys it is only counted, and an older
    /// value may live until it expires.
    pub(super) fn add(&self, key: &str) {
        let mut state = self.state();
        state.last += 1;
        let number = Number(state.last);
        if let Some(known) = state.keys.get_mut(key) {
            *known = number;
        } else if state.keys.len() < MAX_PENDING_DELETES {
            state.keys.insert(key.into(), number);
        } else {
            state.forgotten += 1;
        }
    }

    /// Returns the number of a key with a pending delete.
    pub(super) fn number_of(&self, key: &str) -> Option<Number> {
        self.state().keys.get(key).copied()
    }

    /// Notes that what was called when the key had this number has been done. The key may have been added again since.
    pub(super) fn confirm(&self, key: &str, number: Option<Number>) {
        let mut state = self.state();
        if number.is_some() && state.keys.get(key).copied() == number {
            state.keys.remove(key);
        }
    }

    /// Returns so many keys behind another one, in their order, with their numbers.
    pub(super) fn behind(&self, key: Option<&str>, count: usize) -> Vec<(String, Number)> {
        let state = self.state();
        let start = key.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = state.keys.range::<str, _>((start, Bound::Unbounded));
        keys.take(count).map(|(key, number)| (key.clone(), *number)).collect()
    }

    /// Returns whether there are keys that nobody is about to delete; from then on the caller is.
    pub(super) fn begin_delivery(&self) -> bool {
        let mut state = self.state();
        !state.keys.is_empty() && !std::mem::replace(&mut state.is_delivered, true)
    }

    /// Ends the delivery if nothing is left, and returns how many keys were too many to remember since the last time.
    pub(super) fn end_delivery(&self) -> Option<u64> {
        let mut state = self.state();
        if !state.keys.is_empty() {
            return None;
        }
        state.is_delivered = false;
        Some(std::mem::take(&mut state.forgotten))
    }

    /// Returns whether a warning is due: it is not repeated all the time.
    pub(super) fn is_warning_due(&self, interval: Duration) -> bool {
        let mut state = self.state();
        let is_due = state.last_warning.is_none_or(|last| last.elapsed() >= interval);
        if is_due {
            state.last_warning = Some(Instant::now());
        }
        is_due
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_added_again_while_it_is_deleted_stays_pending() {
        let pending = Pending::default();
        pending.add("k");
        let delivered = pending.behind(None, 10);
        pending.add("k");
        for (key, number) in delivered {
            pending.confirm(&key, Some(number));
        }
        assert!(pending.number_of("k").is_some());
        assert_eq!(pending.end_delivery(), None);
        pending.confirm("k", pending.number_of("k"));
        assert_eq!(pending.number_of("k"), None);
        assert_eq!(pending.end_delivery(), Some(0));
    }

    #[test]
    fn what_was_called_before_a_key_was_added_confirms_nothing() {
        let pending = Pending::default();
        let before = pending.number_of("k");
        pending.add("k");
        pending.confirm("k", before);
        assert!(pending.number_of("k").is_some());
    }

    #[test]
    fn what_it_remembers_is_bounded_and_the_rest_is_counted() {
        let pending = Pending::default();
        for number in 0..MAX_PENDING_DELETES + 7 {
            pending.add(&number.to_string());
        }
        pending.add("0");
        let mut last: Option<String> = None;
        let mut count = 0;
        loop {
            let keys = pending.behind(last.as_deref(), 300);
            let Some((key, _)) = keys.last() else { break };
            last = Some(key.clone());
            count += keys.len();
            keys.into_iter().for_each(|(key, number)| pending.confirm(&key, Some(number)));
        }
        assert_eq!((count, pending.end_delivery()), (MAX_PENDING_DELETES, Some(7)));
    }

    #[test]
    fn one_at_a_time_delivers() {
        let pending = Pending::default();
        assert!(!pending.begin_delivery(), "there is nothing to deliver");
        pending.add("k");
        assert!(pending.begin_delivery());
        assert!(!pending.begin_delivery());
        pending.confirm("k", pending.number_of("k"));
        assert_eq!(pending.end_delivery(), Some(0));
        pending.add("k");
        assert!(pending.begin_delivery());
    }
}
