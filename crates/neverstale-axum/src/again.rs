//! What a layer further out needs to give an answer again by itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use axum::response::Response;
use futures_util::future::FutureExt;
use tokio::time::Instant;

use super::local::{Local, Ready};
use super::mistake::{self, Mistake};
use super::outcome::{Arrival, Outcome, Report};
use neverstale::version::Versions;

/// A page of this process's copies, among the extensions of the answer that it was given out in. A layer further out
/// may keep what has become of that answer, and give it again to all who would get the same, each after it has
/// [asked](Self::ask) on their behalf.
#[derive(Clone)]
pub struct Replay {
    versions: Versions<Response>,
    local: Local,
    ready: Arc<Ready>,
    cache: &'static str,
}

/// The result of a version check, among a request's extensions, so that the page cache need not ask again.
#[derive(Clone)]
pub struct KnownVersion(Arc<Mutex<Option<Known>>>);

pub(super) struct Known {
    versions: Versions<Response>,
    pub(super) version: Result<Arc<str>, Response>,
    pub(super) arrival: Arrival,
    pub(super) gate: Duration,
}

/// What an answer that is given again says of itself.
pub struct Current {
    cache: &'static str,
    outcome: Outcome,
    arrival: Arrival,
    took: Duration,
}

impl Replay {
    pub(super) fn new(
        cache: &'static str,
        versions: &Versions<Response>,
        local: &Local,
        ready: &Arc<Ready>,
    ) -> Self {
        Self { cache, versions: versions.clone(), local: local.clone(), ready: Arc::clone(ready) }
    }

    /// Passes the gate for a request that arrived at `arrival`, and returns what the answer says of itself if it is
    /// still that of the current version.
    ///
    /// # Errors
    ///
    /// What was told instead, for the request's extensions, if the answer must not be given again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point.
    pub async fn ask(&self, arrival: Instant) -> Result<Current, KnownVersion> {
        let version = current(&self.versions).await;
        let (took, arrival) = (arrival.elapsed(), Arrival(arrival));
        let is_mine = |version: &Arc<str>| {
            self.local.has_not_dropped(&self.ready) && self.ready.page.is_current(version)
        };
        if version.as_ref().is_ok_and(is_mine) {
            self.local.count_hit();
            return Ok(Current {
                cache: self.cache,
                outcome: Outcome::Local(self.ready.page.remaining()),
                arrival,
                took,
            });
        }
        let telling = Known { versions: self.versions.clone(), version, arrival, gate: took };
        Err(KnownVersion(Arc::new(Mutex::new(Some(telling)))))
    }

    /// Returns the bytes that keeping it takes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        self.ready.largest_size()
    }
}

impl KnownVersion {
    /// Returns when the request has arrived that was told.
    pub(super) fn arrival(&self) -> Option<Arrival> {
        self.telling().as_ref().map(|telling| telling.arrival)
    }

    /// Takes out what was told of the same versions as are asked for.
    pub(super) fn take(&self, versions: &Versions<Response>) -> Option<Known> {
        self.telling().take_if(|telling| telling.versions.is_same(versions))
    }

    fn telling(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    /// Returns what the cache did.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Returns how long the answer took, which is how long it waited for the gate: the rest is done in no time.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Returns the values of `Cache-Status` and `Server-Timing`.
    #[must_use]
    pub fn say(&self) -> (HeaderValue, HeaderValue) {
        let report = Report { cache: self.cache, arrival: self.arrival, gate: Some(self.took), view: None };
        (self.outcome.cache_status(self.cache), self.outcome.server_timing(report, self.took))
    }
}

/// Asks for the current version.
pub(super) async fn current(versions: &Versions<Response>) -> Result<Arc<str>, Response> {
    let version = versions.current();
    if Mistake::JoinsSentQuery.is_made() { mistake::join(version).boxed().await } else { version.await }
}
