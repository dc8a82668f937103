//! Lets in as many requests as there is room for, and tells the others so at once.
//!
//! What may wait in here, and for how long: a change for one of the database's 8 connections, 3 s; whoever wants a
//! page, for the current version, 2 s, and for a page that somebody builds, 2.5 s, or 11 s at `/apicalls`; a body for
//! its sender, 15 s. Whoever waits takes a place and memory, so all of these are counted, and where there is no room
//! nobody waits: the answer is a 503 with `Retry-After`, at once. (Only the count of an address is waited for before
//! that, 1 s. And a body for which there is no room is read to its end, or its sender would not see the answer.)
//!
//! **The invariant: whoever reads waits for nothing that changes wait for, and for nobody outside.**
//! Changes, however slow, fill the room of changes. Visitors of `/apicalls`, however slow the service behind it, fill
//! another. What the list's readers wait for is the gate, which asks the database on a connection of its own, and
//! a build that all of them share. A sender who is slow takes no room at all before the body is there, only bytes, and
//! of those what has come. So a page that is cached is served while everything else is stuck. (One that is not needs
//! one of the 8 connections; so does the session of a visitor who has one, unless the cache has it.)
//!
//! The probes are outside of this layer and always answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::body_limit::{BodyLimit, Unread};
use super::post_limit::PostLimit;
use super::room::{Place, Room};
use crate::app::AppState;
use crate::error::Error;
use crate::monitor::{Monitor, Refusal};

/// Requests in work at once: those that read; changes; and those that wait for the service behind `/apicalls`.
const READERS: usize = 4_096;
const CHANGES: usize = 256;
const CALLERS: usize = 256;

/// A line in the log tells of all that are refused for want of room in so many seconds.
const QUIET: u64 = 10;

/// Who is let in. One for all requests of the process.
pub(super) struct Admission {
    readers: Room,
    changes: Room,
    callers: Room,
    /// Changes that go on although their visitors have left.
    under_way: TaskTracker,
    bodies: BodyLimit,
    posts: PostLimit,
    monitor: Monitor,
    started: Instant,
    /// In which second from the start, of which the first is 1, it was last said that some are refused; 0 is never.
    said: AtomicU64,
}

impl Admission {
    pub(super) fn new(state: &AppState) -> Arc<Self> {
        Arc::new(Self {
            readers: Room::new(READERS),
            changes: Room::new(CHANGES),
            callers: Room::new(CALLERS),
            under_way: state.changes.clone(),
            bodies: BodyLimit::default(),
            posts: PostLimit::new(&state.server, &state.cache, &state.monitor),
            monitor: state.monitor.clone(),
            started: Instant::now(),
            said: AtomicU64::new(0),
        })
    }

    /// Returns a place in the room that a request belongs into.
    fn place(&self, method: &Method, path: &str) -> Option<Place<'_>> {
        if !method.is_safe() {
            let is_full = self.under_way.len() >= self.changes.size();
            return if is_full { None } else { self.changes.take(1) };
        }
        if path == "/apicalls" { self.callers.take(1) } else { self.reader() }
    }

    /// Returns a place among those that read.
    pub(super) fn reader(&self) -> Option<Place<'_>> {
        self.readers.take(1)
    }

    /// Counts a request for which there is no room, and says so now and then. A line for each would be one more thing
    /// that there is too much of.
    fn refuse(&self, refusal: Refusal) -> Response {
        let count = self.monitor.refuse(refusal);
        let now = self.started.elapsed().as_secs() + 1;
        let said = self.said.load(Ordering::Relaxed);
        let is_due = said == 0 || now.saturating_sub(said) >= QUIET;
        let is_ours = || self.said.compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && is_ours().is_ok() {
            let what = match refusal {
                Refusal::Bodies => "bodies in memory",
                _ => "requests in work",
            };
            tracing::warn!(count, "too many {what}: refused for now");
        }
        // Without a cause, of which the error page would make a line of its own.
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

pub(super) async fn check(State(admission): State<Arc<Admission>>, request: Request, next: Next) -> Response {
    if let Some(key) = admission.posts.key(&request)
        && admission.posts.is_used_up(&key).await
    {
        return admission.posts.refuse();
    }
    if request.body().is_end_stream() {
        return admission.admit(request, next).await;
    }
    let (parts, body) = request.into_parts();
    // No handler reads the body of another method, and no other is counted by its address before it takes memory.
    if parts.method != Method::POST {
        return admission.admit(Request::from_parts(parts, Body::empty()), next).await;
    }
    match admission.bodies.read(body).await {
        Ok((body, _bytes)) => admission.admit(Request::from_parts(parts, Body::from(body)), next).await,
        Err(Unread::NoRoom) => admission.refuse(Refusal::Bodies),
        Err(unread) => Error::new(unread.status(), unread).into_response(),
    }
}

impl Admission {
    async fn admit(&self, request: Request, next: Next) -> Response {
        match self.place(request.method(), request.uri().path()) {
            Some(_place) => next.run(request).await,
            None => self.refuse(Refusal::Crowd),
        }
    }
}
