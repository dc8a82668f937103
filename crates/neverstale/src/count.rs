//! Counting what happens within a while, for all processes together.

use std::time::Duration;

use bytes::Bytes;

use super::{Cache, Key, Ttl, backend};

/// How often a count that was there and is gone again is begun anew.
const ROUNDS: usize = 2;

impl Cache {
    /// Counts one more under a key, and returns how many there are now. The first begins the count, which is forgotten
    /// when `within` has passed since then, however many come meanwhile. `None` if the cache fails: nobody knows then.
    ///
    /// The counter is bare, as [`Raw`](super::Raw) would store it, and its end is the backend's business: no clock is
    /// read here. What may happen between its two operations, `incr` and, where there is no counter, `add`:
    ///
    /// - *Two begin at once.* Both miss, one adds; the other is told that there is a counter now, and counts after it.
    /// - *The counter ends in between,* or a server lets go of it: after `incr`, and it is begun anew; after an `add`
    ///   that found it, and both are tried once more. If that happens again, nobody knows.
    /// - *An answer is lost.* It may have been counted, and counts as unknown. The next one is one more, or two.
    /// - *A server forgets everything.* All counts begin anew.
    ///
    /// So no count is ever too high but by such a lost answer. Each failure ends it, so it costs one timeout at most.
    ///
    /// # Cancel safety
    ///
    /// One that is dropped may have been counted.
    pub async fn count(&self, key: &Key, within: Duration) -> Option<u64> {
        let name = self.name(key);
        for _ in 0..ROUNDS {
            let counted = self.timed(self.backend().incr(&name, 1)).await;
            if let Some(count) = self.known(counted)? {
                return Some(count);
            }
            let one = Bytes::from_static(b"1");
            let begun = self.timed(self.backend().add(&name, one, Ttl::After(within))).await;
            if self.known(begun)? {
                return Some(1);
            }
        }
        None
    }

    /// Counts an error. What is counted may be named after a visitor, so the key is not logged.
    fn known<T>(&self, result: Result<T, backend::Error>) -> Option<T> {
        result
            .inspect_err(|error| {
                self.counters().errors.add_one();
                tracing::debug!("not counted: {error}");
            })
            .ok()
    }
}
