//! Versions on a request's way: checked once, known to the handler, named by the response.

use std::sync::{Arc, Mutex, PoisonError};

use axum::response::Response;
use tokio::time::Instant;

use super::entry::Validity;
#[cfg(fault_injection)]
use super::mistake::{self, Mistake};
use neverstale::version::{Lost, Versions};

/// The version that a response shows. A handler reads it together with the data, and adds it to the response's
/// extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageVersion(pub String);

/// An extension of a request: the replay layer may keep its response.
///
/// It holds the result of the version check, if the layer has checked for a response of another version.
#[derive(Clone)]
pub(super) struct Keyed {
    pub(super) arrival: Instant,
    check: Arc<Mutex<Option<Check>>>,
}

pub(super) struct Check {
    pub(super) versions: Versions<Response>,
    pub(super) version: Result<Arc<str>, Response>,
}

/// The state of the site that a response shows: it may be replayed while that is current.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) source: Source,
    pub(super) validity: Validity,
    /// The name in `Cache-Status`.
    pub(super) cache: &'static str,
}

/// Where the current state of the site is read.
#[derive(Clone)]
pub(super) enum Source {
    /// The versions of the origin.
    Versions(Versions<Response>),
    /// The generations of a path, in the cache.
    Generations(Versions<Lost>),
}

impl Keyed {
    pub(super) fn new(arrival: Instant, check: Option<Check>) -> Self {
        Self { arrival, check: Arc::new(Mutex::new(check)) }
    }

    /// Returns whether the version was checked.
    pub(super) fn is_checked(&self) -> bool {
        self.check.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Takes the check out, if it was one of these versions.
    pub(super) fn take(&self, versions: &Versions<Response>) -> Option<Check> {
        let mut check = self.check.lock().unwrap_or_else(PoisonError::into_inner);
        check.take_if(|check| check.versions.is_same(versions))
    }
}

impl Shown {
    /// Returns whether the response shows this version or generation, and has not expired.
    pub(super) fn is_current(&self, version: &str) -> bool {
        #[cfg(fault_injection)]
        if Mistake::CopyOfAnyVersion.is_made() {
            return true;
        }
        self.validity.is_current(version)
    }
}

/// Returns the current version, as of some moment after this call began.
pub(super) async fn current(versions: &Versions<Response>) -> Result<Arc<str>, Response> {
    #[cfg(fault_injection)]
    if Mistake::JoinsSentQuery.is_made() {
        return mistake::join(versions.current()).await;
    }
    versions.current().await
}
