//! Versions on a request's way: checked once, known to the handler, named by the response.

use std::sync::{Arc, Mutex, PoisonError};

use axum::response::Response;

use super::copies::PageCopy;
#[cfg(fault_injection)]
use super::mistake::{self, Mistake};
use neverstale::version::Versions;

/// The current version, among a request's extensions where pages are kept by version.
///
/// A version check that began after the request arrived has returned it, so a handler that looks for data of the
/// current version need not check again.
#[derive(Clone, Debug)]
pub struct CurrentVersion(pub Arc<str>);

/// The version that a response shows. A handler reads it together with the data, and adds it to the response's
/// extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageVersion(pub String);

/// The result of a version check further out, among a request's extensions.
#[derive(Clone)]
pub(super) struct Checked(Arc<Mutex<Option<Check>>>);

pub(super) struct Check {
    versions: Versions<Response>,
    pub(super) version: Result<Arc<str>, Response>,
}

/// A page of this process's copies, among the extensions of the response that shows it. The response may be replayed
/// while the page's version is the current one.
#[derive(Clone)]
pub(super) struct Replayable {
    pub(super) versions: Versions<Response>,
    pub(super) page: Arc<PageCopy>,
    /// The name in `Cache-Status`.
    pub(super) cache: &'static str,
}

impl Checked {
    pub(super) fn new(versions: Versions<Response>, version: Result<Arc<str>, Response>) -> Self {
        Self(Arc::new(Mutex::new(Some(Check { versions, version }))))
    }

    /// Takes the check out, if it was one of these versions.
    pub(super) fn take(&self, versions: &Versions<Response>) -> Option<Check> {
        let mut check = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        check.take_if(|check| check.versions.is_same(versions))
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
