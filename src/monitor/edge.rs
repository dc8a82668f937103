//! What becomes of clients before any view sees them, by number.

use std::sync::Arc;

use neverstale::stats::Counter;

/// Connections, since the start of the process.
#[derive(Debug, Default)]
pub struct Connections {
    accepted: Counter,
    ended: Counter,
    cut: [Counter; Cut::WORDS.len()],
}

/// Why a connection was cut by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// What came is no request.
    Malformed,
    /// No whole head of a request came in time. An idle connection ends so too.
    Late,
    /// An answer was not read.
    Unread,
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub struct Open(Arc<Connections>);

impl Cut {
    pub(super) const WORDS: [&str; 3] = ["malformed", "late", "unread"];
}

impl Connections {
    /// Counts a connection.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> Open {
        self.accepted.add_one();
        Open(Arc::clone(self))
    }

    pub(super) fn snapshot(&self) -> ConnectionStats {
        // In this order: one that comes and goes meanwhile must not make fewer than none.
        let ended = self.ended.get();
        let accepted = self.accepted.get();
        ConnectionStats {
            accepted,
            open: accepted.saturating_sub(ended),
            cut: std::array::from_fn(|index| (Cut::WORDS[index], self.cut[index].get())),
        }
    }
}

impl Open {
    /// Counts its end, if we had a reason to cut it.
    pub fn cut(self, reason: Option<Cut>) {
        if let Some(reason) = reason {
            self.0.cut[reason as usize].add_one();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ended.add_one();
    }
}

/// Connections, as they were when asked for.
#[derive(Debug)]
pub(super) struct ConnectionStats {
    pub(super) accepted: u64,
    pub(super) open: u64,
    pub(super) cut: [(&'static str, u64); Cut::WORDS.len()],
}

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are too many requests in work.
    Crowd,
    /// There are too many bodies in memory.
    Bodies,
    /// Its address has sent too many POSTs.
    Posts,
}

/// Requests that were not let in, since the start of the process; and POSTs that were although nobody knows how many
/// there were before.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) uncounted: Counter,
    pub(super) refused: [Counter; Refusal::WORDS.len()],
}

impl Refusal {
    const WORDS: [&str; 3] = ["crowd", "bodies", "posts"];
}

impl Refusals {
    pub(super) fn snapshot(&self) -> RefusalStats {
        RefusalStats {
            refused: std::array::from_fn(|index| (Refusal::WORDS[index], self.refused[index].get())),
            uncounted: self.uncounted.get(),
        }
    }
}

/// The same, as they were when asked for.
#[derive(Debug)]
pub(super) struct RefusalStats {
    pub(super) refused: [(&'static str, u64); Refusal::WORDS.len()],
    pub(super) uncounted: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_open_until_it_ends_and_has_one_reason_to() {
        let connections = Arc::<Connections>::default();
        let kept = connections.open();
        connections.open().cut(Some(Cut::Late));
        connections.open().cut(None);
        let stats = connections.snapshot();
        assert_eq!((stats.accepted, stats.open), (3, 1));
        assert_eq!(stats.cut, [("malformed", 0), ("late", 1), ("unread", 0)]);
        drop(kept);
        assert_eq!(connections.snapshot().open, 0);
    }
}
