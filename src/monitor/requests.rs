//! The requests answered, by number. What counts them is on every request's way: it neither waits nor allocates.

use std::time::Duration;

use neverstale::Latency;
use neverstale::stats::{Counter, Histogram};
use neverstale_axum::Outcome;

/// The classes of status codes, by their first digit.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters, all of them since the start of the process.
#[derive(Default)]
pub(super) struct Requests {
    by_class: [Counter; CLASSES.len()],
    by_outcome: [Counter; Outcome::WORDS.len()],
    pub(super) given_again: Counter,
    latency: Histogram,
}

/// The same, as they were when asked for.
#[derive(Debug)]
pub(super) struct RequestStats {
    /// By the class of their status.
    pub(super) by_class: [(&'static str, u64); CLASSES.len()],
    /// Those to cached handlers, by what the cache did.
    pub(super) by_outcome: [(&'static str, u64); Outcome::WORDS.len()],
    /// Those that were given out again as they had left the site before.
    pub(super) given_again: u64,
    /// How long they took.
    pub(super) latency: Latency,
}

impl Requests {
    pub(super) fn count(&self, status: u16, outcome: Option<&str>, took: Duration) {
        if let Some(counter) = self.by_class.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.add_one();
        }
        let of_outcome = Outcome::WORDS.iter().position(|word| outcome == Some(word));
        if let Some(index) = of_outcome {
            self.by_outcome[index].add_one();
        }
        self.latency.add(took);
    }

    pub(super) fn snapshot(&self) -> RequestStats {
        RequestStats {
            by_class: std::array::from_fn(|index| (CLASSES[index], self.by_class[index].get())),
            by_outcome: std::array::from_fn(|index| (Outcome::WORDS[index], self.by_outcome[index].get())),
            given_again: self.given_again.get(),
            latency: self.latency.snapshot(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_once_by_status_and_once_by_outcome() {
        let requests = Requests::default();
        for (status, outcome) in
            [(200, Some("local")), (200, None), (304, Some("hit")), (503, None), (999, None), (42, None)]
        {
            requests.count(status, outcome, Duration::from_millis(3));
        }
        let stats = requests.snapshot();
        assert_eq!(stats.by_class.map(|(_, count)| count), [0, 2, 1, 0, 1]);
        assert_eq!(stats.by_outcome.map(|(_, count)| count), [1, 1, 0, 0, 0, 0]);
        assert_eq!((stats.latency.count(), stats.latency.micros), (6, 18_000));
    }
}
