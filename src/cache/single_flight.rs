//! Builds under way in this process: who misses the same key meanwhile waits for the one that has begun.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Mutex as AsyncMutex;

/// The builds, by the name of their key.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<String, Arc<Flight>>>);

/// What a build has come to: an envelope, and the name that it is sealed for, which may be that of a newer version than
/// was asked for.
pub(super) struct Built {
    pub(super) name: String,
    pub(super) envelope: Bytes,
}

/// One build, and all who wait for it.
#[derive(Default)]
pub(super) struct Flight {
    /// Whoever holds this builds, one after the other until one succeeds, and leaves here what it came to.
    pub(super) built: AsyncMutex<Option<Built>>,
    is_outdated: AtomicBool,
}

/// A place in a flight. The last to leave ends it.
pub(super) struct Seat<'a> {
    flights: &'a Flights,
    name: &'a str,
    flight: Arc<Flight>,
}

impl Flights {
    /// Joins the build of a key, or opens one.
    pub(super) fn join<'a>(&'a self, name: &'a str) -> Seat<'a> {
        let flight = Arc::clone(self.by_name().entry(name.to_owned()).or_default());
        Seat { flights: self, name, flight }
    }

    /// Ends the build of a key for all who come from now on: what it reads may be older than what they must see. It
    /// will not be stored either.
    pub(super) fn outdate(&self, name: &str) {
        if let Some(flight) = self.by_name().remove(name) {
            flight.is_outdated.store(true, Ordering::Release);
        }
    }

    /// As [`outdate`](Self::outdate), for all keys.
    pub(super) fn outdate_all(&self) {
        for (_, flight) in self.by_name().drain() {
            flight.is_outdated.store(true, Ordering::Release);
        }
    }

    fn by_name(&self) -> MutexGuard<'_, HashMap<String, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Returns whether the key was written to since the build was joined.
    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Acquire)
    }
}

impl Seat<'_> {
    pub(super) fn flight(&self) -> &Flight {
        &self.flight
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.by_name();
        let is_current = flights.get(self.name).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // The map's and this one's.
        if is_current && Arc::strong_count(&self.flight) == 2 {
            flights.remove(self.name);
        }
    }
}
