//! The application's own counters, each with its name and help in one place.
//!
//! All series exist from the start: one that begins above 0 has no rate.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use neverstale_axum::Outcome;

/// The first upper bounds of durations: 1 µs and its doubles, up to about 4 s.
const BUCKETS: u32 = 23;

/// The classes of status codes, by their first digit.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters of requests.
#[derive(Debug)]
pub(super) struct Requests {
    by_class: [Counter; CLASSES.len()],
    by_outcome: [Counter; Outcome::WORDS.len()],
    pub(super) replayed: Counter,
    durations: Histogram,
    refused: [Counter; 3],
    pub(super) uncounted_posts: Counter,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are too many requests in work.
    Crowd,
    /// There are too many bodies in memory.
    Bodies,
    /// Its address has sent too many POSTs.
    Posts,
}

impl Requests {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let durations = Histogram::new((0..BUCKETS).map(|bits| f64::from(1_u32 << bits) / 1e6));
        let help = "How long the responses took";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, durations.clone());
        let help = "Requests answered";
        let by_class = labelled(registry, "http_requests", help, "status", CLASSES);
        let help = "Requests for cached pages, by what the cache did";
        let by_outcome = labelled(registry, "page_outcomes", help, "outcome", Outcome::WORDS);
        let help = "Responses replayed as they had left before";
        let replayed = counter(registry, "http_answers_given_again", help);
        let help =
            "Requests refused: too many in work, too many bodies in memory, too many POSTs of one address";
        let refused =
            labelled(registry, "http_requests_refused", help, "cause", ["crowd", "bodies", "posts"]);
        let help = "POSTs let in that the cache could not count";
        let uncounted_posts = counter(registry, "posts_uncounted", help);
        Self { by_class, by_outcome, replayed, durations, refused, uncounted_posts }
    }

    pub(super) fn count(&self, status: u16, outcome: Option<&str>, took: Duration) {
        if let Some(counter) = self.by_class.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.inc();
        }
        if let Some(index) = Outcome::WORDS.iter().position(|word| outcome == Some(word)) {
            self.by_outcome[index].inc();
        }
        self.durations.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, refusal: Refusal) -> &Counter {
        &self.refused[refusal as usize]
    }
}

/// Counters of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections {
    accepted: Counter,
    open: Gauge,
    cut: [Counter; 3],
}

/// Why the server cut a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The client sent no valid request.
    Malformed,
    /// No whole head of a request came in time. An idle connection ends so too.
    Late,
    /// A response was not read.
    Unread,
}

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
pub struct Open(Connections);

impl Connections {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let accepted = counter(registry, "http_connections", "Connections accepted");
        let open = Gauge::default();
        registry.register("http_connections_open", "Connections that are open", open.clone());
        let help = "Connections cut: no request, none in time, response not read";
        let causes = ["malformed", "late", "unread"];
        let cut = labelled(registry, "http_connections_cut", help, "cause", causes);
        Self { accepted, open, cut }
    }

    /// Counts a connection.
    #[must_use]
    pub fn open(&self) -> Open {
        self.accepted.inc();
        self.open.inc();
        Open(self.clone())
    }
}

/// Counters that are not shown.
impl Default for Connections {
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}

impl Open {
    /// Counts the reason if the server cut the connection.
    pub fn end(self, cut: Option<Cut>) {
        if let Some(cut) = cut {
            self.0.cut[cut as usize].inc();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// Registers a counter for each value of a label.
fn labelled<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: [&'static str; N],
) -> [Counter; N] {
    let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
    registry.register(name, help, family.clone());
    values.map(|value| family.get_or_create_owned(&[(label, value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_once_by_status_and_once_by_outcome() {
        let requests = Requests::register(&mut Registry::default());
        for (status, outcome) in
            [(200, Some("local")), (200, None), (304, Some("hit")), (503, None), (999, None), (42, None)]
        {
            requests.count(status, outcome, Duration::from_millis(3));
        }
        assert_eq!(requests.by_class.map(|counter| counter.get()), [0, 2, 1, 0, 1]);
        assert_eq!(requests.by_outcome.map(|counter| counter.get()), [1, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_connection_is_open_until_it_ends_and_has_one_reason_to() {
        let connections = Connections::default();
        let kept = connections.open();
        connections.open().end(Some(Cut::Late));
        connections.open().end(None);
        assert_eq!((connections.accepted.get(), connections.open.get()), (3, 1));
        assert_eq!(connections.cut.each_ref().map(Counter::get), [0, 1, 0]);
        drop(kept);
        assert_eq!(connections.open.get(), 0);
    }
}
