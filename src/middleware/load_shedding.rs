//! Concurrency limits, with load shedding: a request for which there is no permit is refused at once.
//!
//! Requests may wait: a change for one of the database's 8 connections, 3 s; a page for the current version, 2 s, and
//! for another's build, 2.5 s, or 11 s at `/apicalls`; a body for its sender, 15 s. A waiting request takes memory, so
//! each kind has a limit, and beyond it the response is a 503 with `Retry-After`.
//!
//! **The invariant: reads never wait for writes or for external services.** Changes, however slow, take the permits of
//! changes only, and requests for `/apicalls` those of their own. Pages wait for a version check, which has a
//! connection of its own, and for a build that all of them share. A slow sender takes no permit before its body is
//! there, only memory for what has come. So a cached page is served while everything else is stuck. (A page that is
//! not cached needs one of the 8 connections; so does a session that is not in the cache.)
//!
//! The probes are outside this layer and always answered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::body::{Bodies, Unread};
use super::log_limit::LogLimit;
use super::post_limit::PostLimit;
use crate::app::AppState;
use crate::error::Error;
use crate::monitor::{Monitor, Refusal};

/// Requests in work at once: those that read, those that change, and those for `/apicalls`.
const READS: usize = 4_096;
const CHANGES: usize = 256;
const API_CALLS: usize = 256;

/// Refusals are logged once in this time.
const QUIET: Duration = Duration::from_secs(10);

/// The limits on all requests of the process.
pub(super) struct LoadShedding {
    reads: Arc<Semaphore>,
    changes: Semaphore,
    api_calls: Semaphore,
    /// Changes, also those that go on although their clients have left.
    under_way: TaskTracker,
    bodies: Bodies,
    posts: PostLimit,
    monitor: Monitor,
    log: LogLimit,
}

impl LoadShedding {
    pub(super) fn new(state: &AppState) -> Arc<Self> {
        Arc::new(Self {
            reads: Arc::new(Semaphore::new(READS)),
            changes: Semaphore::new(CHANGES),
            api_calls: Semaphore::new(API_CALLS),
            under_way: state.changes.clone(),
            bodies: Bodies::default(),
            posts: PostLimit::new(&state.server, &state.cache, &state.monitor),
            monitor: state.monitor.clone(),
            log: LogLimit::new(1, QUIET),
        })
    }

    /// Returns the permits to read.
    pub(super) fn reads(&self) -> Arc<Semaphore> {
        Arc::clone(&self.reads)
    }

    fn permit(&self, parts: &Parts) -> Option<SemaphorePermit<'_>> {
        if !parts.method.is_safe() {
            let has_room = self.under_way.len() < CHANGES;
            return self.changes.try_acquire().ok().filter(|_| has_room);
        }
        let permits = if parts.uri.path() == "/apicalls" { &self.api_calls } else { &*self.reads };
        permits.try_acquire().ok()
    }

    /// Counts a refused request, and logs it now and then.
    fn refuse(&self, refusal: Refusal, too_many: &str) -> Response {
        let count = self.monitor.refuse(refusal);
        if self.log.count(Instant::now()).is_some() {
            tracing::warn!(count, "too many {too_many}: refused for now");
        }
        // Without a cause, which the error page would log each time.
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

/// Counts a POST, reads its body and takes a permit, or refuses the request.
pub(super) async fn check(State(limits): State<Arc<LoadShedding>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(refused) = limits.posts.refuse(&parts).await {
        return refused;
    }
    // No handler reads the body of another method.
    let body = if parts.method == Method::POST { body } else { Body::empty() };
    let (body, _memory) = match limits.bodies.read(body).await {
        Ok(read) => read,
        Err(Unread::NoMemory) => return limits.refuse(Refusal::Bodies, "bodies in memory"),
        Err(unread) => return Error::new(unread.status(), unread).into_response(),
    };
    match limits.permit(&parts) {
        Some(_permit) => next.run(Request::from_parts(parts, Body::from(body))).await,
        None => limits.refuse(Refusal::Crowd, "requests in work"),
    }
}
