//! Single flights that look right.

use std::collections::HashMap;
use std::sync::PoisonError;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex as AsyncMutex;

use super::sync::{Arc, Mutex, MutexGuard};
use super::{Call, KEY, SingleFlight, Value};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// The last to leave is found by the number of references, which go down after the lock is released.
    CountsReferences,
    /// Callers may join until the last member has left.
    StaysOpenWhenItEnds,
    /// A write does not close the flight.
    StaysOpenWhenItIsOutdated,
    /// The next member builds after a failure.
    KeepsFailuresToItself,
    /// Each leaver counts as one of the flight that is in the map by then.
    ClosesAFlightOfOthers,
}

pub(super) fn counts_references() -> Arc<dyn SingleFlight> {
    with(Mistake::CountsReferences)
}

pub(super) fn stays_open_when_it_ends() -> Arc<dyn SingleFlight> {
    with(Mistake::StaysOpenWhenItEnds)
}

pub(super) fn stays_open_when_it_is_outdated() -> Arc<dyn SingleFlight> {
    with(Mistake::StaysOpenWhenItIsOutdated)
}

pub(super) fn keeps_failures_to_itself() -> Arc<dyn SingleFlight> {
    with(Mistake::KeepsFailuresToItself)
}

pub(super) fn closes_a_flight_of_others() -> Arc<dyn SingleFlight> {
    with(Mistake::ClosesAFlightOfOthers)
}

fn with(mistake: Mistake) -> Arc<dyn SingleFlight> {
    Arc::new(Wrong { mistake, flights: Mutex::default() })
}

type Flight = AsyncMutex<Option<Value>>;

type Flights = HashMap<&'static str, (Arc<Flight>, usize)>;

struct Wrong {
    mistake: Mistake,
    flights: Mutex<Flights>,
}

struct Member<'a> {
    all: &'a Wrong,
    flight: Arc<Flight>,
}

impl Wrong {
    fn join(&self) -> Member<'_> {
        let mut flights = self.flights();
        let (flight, members) = flights.entry(KEY).or_insert_with(|| (Arc::default(), 0));
        *members += 1;
        Member { all: self, flight: Arc::clone(flight) }
    }

    /// A build that panics leaves while it unwinds, which must not be what the check finds.
    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let mut flights = self.all.flights();
        let Some((flight, members)) = flights.get_mut(KEY) else { return };
        let is_current = Arc::ptr_eq(flight, &self.flight);
        let is_last = match self.all.mistake {
            // The map's reference and this member's.
            Mistake::CountsReferences => is_current && Arc::strong_count(&self.flight) == 2,
            Mistake::ClosesAFlightOfOthers => {
                *members -= 1;
                *members == 0
            }
            _ if !is_current => false,
            _ => {
                *members -= 1;
                *members == 0
            }
        };
        if is_last {
            flights.remove(KEY);
        }
        drop(flights);
        if self.all.mistake == Mistake::CountsReferences && !std::thread::panicking() {
            // The reference goes after the lock, and here another takes its turn.
            shuttle::thread::yield_now();
        }
    }
}

impl SingleFlight for Wrong {
    fn get<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Value> {
        Box::pin(async move {
            let member = self.join();
            call.note_joined();
            let mut outcome = member.flight.lock().await;
            if let Some(value) = *outcome {
                return value;
            }
            let value = call.build().await;
            let stays_open = matches!(self.mistake, Mistake::StaysOpenWhenItEnds | Mistake::CountsReferences);
            let is_kept = self.mistake == Mistake::KeepsFailuresToItself && value.is_err();
            if !stays_open && !is_kept {
                let mut flights = self.flights();
                if flights.get(KEY).is_some_and(|(flight, _)| Arc::ptr_eq(flight, &member.flight)) {
                    flights.remove(KEY);
                }
            }
            if !is_kept {
                *outcome = Some(value);
            }
            value
        })
    }

    fn outdate(&self) {
        if self.mistake != Mistake::StaysOpenWhenItIsOutdated {
            self.flights().remove(KEY);
        }
    }

    fn outdate_all(&self) {
        self.outdate();
    }

    fn count(&self) -> usize {
        self.flights().len()
    }
}
