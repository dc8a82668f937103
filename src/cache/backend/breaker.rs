//! Whether a server is asked at all, and which deletes it is owed.
//!
//! A server that failed is left out, so that an outage costs one timeout and not one per request. A key whose write
//! failed may still hold its old value on the server; it is owed a delete, and the server stays left out until it has
//! got all of them. So an old list cannot come back with the server.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::MOST_OWED;

/// Closed: the server is asked. Open: it is not.
#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    open: bool,
    owed: BTreeSet<String>,
    forgotten: u64,
}

/// Whether this failure is the one that opened the breaker: its owner reports it and starts the recovery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    Now,
    Before,
}

impl Breaker {
    /// Returns whether the server is left out. `owed` are the keys of the write that does not happen then.
    pub(super) fn refuses(&self, owed: &[String]) -> bool {
        let mut state = self.state();
        if state.open {
            state.owe(owed);
        }
        state.open
    }

    /// Leaves the server out. `owed` are the keys of the write that failed, if it was one.
    pub(super) fn open(&self, owed: &[String]) -> Opened {
        let mut state = self.state();
        state.owe(owed);
        if mem::replace(&mut state.open, true) { Opened::Before } else { Opened::Now }
    }

    /// Returns the keys that must be deleted before the server is asked again.
    pub(super) fn owed(&self) -> Vec<String> {
        self.state().owed.iter().cloned().collect()
    }

    /// Notes that `delivered` were deleted and asks the server again, unless more has come to be owed meanwhile.
    /// Returns how many keys were too many to remember, or `None` if the server stays left out.
    pub(super) fn close(&self, delivered: &[String]) -> Option<u64> {
        let mut state = self.state();
        for key in delivered {
            state.owed.remove(key);
        }
        if !state.owed.is_empty() {
            return None;
        }
        state.open = false;
        Some(mem::take(&mut state.forgotten))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn owe(&mut self, keys: &[String]) {
        for key in keys {
            if self.owed.len() < MOST_OWED {
                self.owed.insert(key.clone());
            } else if !self.owed.contains(key) {
                self.forgotten += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_open_until_all_owed_deletes_are_delivered() {
        let breaker = Breaker::default();
        assert_eq!(breaker.open(&["a".into()]), Opened::Now);
        let delivered = breaker.owed();
        assert_eq!(breaker.open(&["b".into()]), Opened::Before);
        assert_eq!(breaker.close(&delivered), None);
        assert!(breaker.refuses(&[]));
        assert_eq!(breaker.close(&breaker.owed()), Some(0));
        assert!(!breaker.refuses(&[]));
    }

    #[test]
    fn what_it_remembers_is_bounded_and_the_rest_is_counted() {
        let breaker = Breaker::default();
        for number in 0..MOST_OWED + 7 {
            breaker.open(&[number.to_string()]);
        }
        assert_eq!(breaker.close(&breaker.owed()), Some(7));
    }
}
