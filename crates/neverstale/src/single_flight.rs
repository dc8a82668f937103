//! Single flight: of the callers in this process that miss the same key at once, one builds and the others wait.
//!
//! # Invariant
//!
//! The map holds a flight exactly as long as the flight has members, its build has not ended, and its key was not
//! written to. Joining, leaving, ending and outdating a flight change the map and the number of members under the
//! map's lock. It follows, in every order of these steps:
//!
//! - No flight is left behind: without callers the map is empty.
//! - No caller is given the outcome of a build that had ended before the caller joined.
//! - No caller that joins after [`Flights::outdate`] is given the outcome of a build that began before it.
//!
//! `crates/neverstale/tests/it/single_flight.rs` explores the orders.

use std::any::Any;
use std::collections::HashMap;
use std::sync::PoisonError;

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

use super::codec::Envelope;
use super::sync::{Arc, AtomicBool, Mutex, MutexGuard, Ordering};

/// The flights that can be joined, by the name of their key.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<String, Joinable>>);

#[derive(Default)]
struct Joinable {
    flight: Arc<Flight>,
    members: usize,
}

/// One build of one key.
#[derive(Default)]
pub(super) struct Flight {
    /// The member that holds this lock builds. A member that leaves without an outcome passes the lock to the next.
    outcome: AsyncMutex<Option<Outcome>>,
    is_closed: AtomicBool,
}

/// The end of a build, for all members of its flight.
pub(super) enum Outcome {
    /// The value may be of a newer version than the caller asked for; its envelope says of which.
    Built(Envelope),
    Failed(Failure),
}

/// The error of a build that other callers waited for, which know its type.
#[derive(Clone)]
pub struct Failure(std::sync::Arc<dyn Any + Send + Sync>);

impl Failure {
    pub(super) fn new(error: impl Any + Send + Sync) -> Self {
        Self(std::sync::Arc::new(error))
    }

    /// Returns the error, if it is an `E`.
    #[must_use]
    pub fn error<E: Clone + 'static>(&self) -> Option<E> {
        self.0.downcast_ref::<E>().cloned()
    }
}

/// A caller in a flight. Dropping it leaves the flight.
pub(super) struct Member<'a> {
    flights: &'a Flights,
    name: String,
    flight: Arc<Flight>,
}

/// The right to build, which one member has at a time. Dropped, it passes to the next member.
pub(super) struct Builder<'a> {
    member: &'a Member<'a>,
    outcome: AsyncMutexGuard<'a, Option<Outcome>>,
}

impl Flights {
    /// Joins the flight of a key, or opens one.
    pub(super) fn join(&self, name: String) -> Member<'_> {
        let mut flights = self.lock();
        let joinable = flights.entry(name.clone()).or_default();
        joinable.members += 1;
        let flight = Arc::clone(&joinable.flight);
        drop(flights);
        Member { flights: self, name, flight }
    }

    /// Closes the flight of a key, because the key is written to: what the flight builds may be older than the write.
    /// Later callers join another flight, and the value of this one is not stored.
    pub(super) fn outdate(&self, name: &str) {
        if let Some(joinable) = self.lock().remove(name) {
            joinable.flight.close();
        }
    }

    /// Closes the flights of all keys, as [`outdate`](Self::outdate) does.
    pub(super) fn outdate_all(&self) {
        self.lock().drain().for_each(|(_, joinable)| joinable.flight.close());
    }

    /// Returns the number of flights that can be joined.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Joinable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Returns whether the flight has ended or its key was written to. What is built now must not be stored.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }
}

impl Member<'_> {
    pub(super) fn flight(&self) -> &Flight {
        &self.flight
    }

    /// Waits for the members that build before this one. The flight may have an outcome by then.
    pub(super) async fn wait(&self) -> Builder<'_> {
        Builder { member: self, outcome: self.flight.outcome.lock().await }
    }

    /// Returns the flight's entry in the map, if the flight can still be joined.
    fn joinable<'m>(&self, flights: &'m mut HashMap<String, Joinable>) -> Option<&'m mut Joinable> {
        flights.get_mut(&self.name).filter(|joinable| Arc::ptr_eq(&joinable.flight, &self.flight))
    }
}

impl Builder<'_> {
    /// Returns the outcome of the flight, if another member has ended it.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Ends the flight, and gives the outcome to its members.
    pub(super) fn end(mut self, outcome: Outcome) {
        let mut flights = self.member.flights.lock();
        if self.member.joinable(&mut flights).is_some() {
            flights.remove(&self.member.name);
            self.member.flight.close();
        }
        drop(flights);
        *self.outcome = Some(outcome);
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        let Some(joinable) = self.joinable(&mut flights) else { return };
        joinable.members -= 1;
        if joinable.members == 0 {
            flights.remove(&self.name);
        }
    }
}
