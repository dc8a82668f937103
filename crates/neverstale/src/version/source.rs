//! The version source: callers share queries for the current version, each of which is sent after their calls began.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError};
use std::task::Poll;

use serde::Serialize;
use tokio::sync::Notify;

use super::change_token::{Reader, Tokens};
use super::sync::{Arc, Mutex, MutexGuard, spawn, yield_now};

/// The query is sent as soon as this many callers have joined.
const ENOUGH: usize = 16;

/// A source of the current version `S` of an origin's data: one query for all callers that ask at the same time. Cheap
/// to clone. [Its module](super) says what it promises, and why.
pub struct VersionSource<S, E>(Arc<Shared<S, E>>);

/// Statistics of a version source since it was made. Queries per call say what it saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VersionStats {
    /// Calls that have begun.
    pub calls: u64,
    /// Queries that were sent.
    pub queries: u64,
    /// Queries that failed.
    pub failures: u64,
    /// Queries that returned another version than the one before.
    pub versions: u64,
}

/// There is no answer: the query has panicked, or there is no runtime to run it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query for the current version was not answered")]
pub struct Lost;

struct Shared<S, E> {
    query: Box<dyn Fn() -> Query<S, E> + Send + Sync>,
    tokens: Option<Box<dyn Tokens<S>>>,
    calls: AtomicU64,
    state: Mutex<State<S, E>>,
}

/// The result of a query, for all callers that share it.
type Answer<S, E> = Result<S, std::sync::Arc<E>>;

type Query<S, E> = Pin<Box<dyn Future<Output = Result<S, E>> + Send>>;

/// What the callers share that wait for the same query. Each of them has a reference to it until it leaves.
struct Round<S, E> {
    /// None within if the runner was dropped before there was an answer.
    answer: OnceLock<Option<Answer<S, E>>>,
    is_over: Notify,
}

/// A round whose callers are woken when this is dropped.
struct Closed<S, E>(Arc<Round<S, E>>);

struct State<S, E> {
    /// The round whose query has not been sent. Its callers may have left.
    gathering: Option<Arc<Round<S, E>>>,
    has_runner: bool,
    /// How many callers shared the query before.
    shared_by: usize,
    /// The last version, for the statistics only.
    last: Option<S>,
    stats: VersionStats,
}

/// Sends the queries, one after the other, while callers wait.
struct Runner<S, E> {
    shared: Arc<Shared<S, E>>,
    has_ended: bool,
}

impl<S, E> VersionSource<S, E>
where
    S: Clone + PartialEq + Send + Sync + 'static,
    E: From<Lost> + Send + Sync + 'static,
{
    /// Creates a source from a query, which is not sent yet.
    ///
    /// Give the query a time limit: a call takes at most twice as long, the rest of the query under way and its own.
    pub fn new<F>(query: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S, E>> + Send + 'static,
    {
        Self::with(query, None)
    }

    /// Creates a source for an origin whose state shows without a query, by a change token.
    ///
    /// `read` returns the token, or nothing if there is nothing to see. The token must be another one before a change
    /// is acknowledged, and never an earlier one again. As long as it is what it was before and after a query, calls
    /// return the version of that query. It is trusted once it was seen to change with the version. `read` is called
    /// by each call, and must not block.
    pub fn with_change_tokens<F, T>(
        query: impl Fn() -> F + Send + Sync + 'static,
        read: impl Fn() -> Option<T> + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<S, E>> + Send + 'static,
        T: PartialEq + Send + Sync + 'static,
    {
        Self::with(query, Some(Box::new(Reader::new(read))))
    }

    fn with<F>(query: impl Fn() -> F + Send + Sync + 'static, tokens: Option<Box<dyn Tokens<S>>>) -> Self
    where
        F: Future<Output = Result<S, E>> + Send + 'static,
    {
        let stats = VersionStats::default();
        let state = State { gathering: None, has_runner: false, shared_by: 0, last: None, stats };
        let query = Box::new(move || -> Query<S, E> { Box::pin(query()) });
        Self(Arc::new(Shared { query, tokens, calls: AtomicU64::new(0), state: Mutex::new(state) }))
    }

    /// Returns the current version, as of some moment after this call began.
    ///
    /// A query that was sent after the call began has returned it, or a change token that was read after that shows
    /// that it is still the current one.
    ///
    /// # Errors
    ///
    /// The error of that query, which all callers share that waited for it; [`Lost`] if it panicked, or outside a tokio
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point. The query goes on for the other callers, and is not sent without any.
    pub async fn current(&self) -> Result<S, std::sync::Arc<E>> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(version) = self.0.tokens.as_ref().and_then(|tokens| tokens.version()) {
            return Ok(version);
        }
        // A runner ends half-way if the runtime does that it was spawned on, which need not be the caller's. Then
        // another query may be sent, which is later still; but not again and again.
        for _ in 0..2 {
            let round = self.join();
            // Made before the look, so that it misses no end of the round.
            let is_over = round.is_over.notified();
            if round.answer.get().is_none() {
                is_over.await;
            }
            if let Some(Some(answer)) = round.answer.get() {
                return answer.clone();
            }
        }
        Err(std::sync::Arc::new(Lost.into()))
    }

    /// Returns the statistics so far.
    #[must_use]
    pub fn stats(&self) -> VersionStats {
        VersionStats { calls: self.0.calls.load(Ordering::Relaxed), ..self.0.state().stats }
    }

    /// Joins the round that gathers, and starts a runner if there is none.
    fn join(&self) -> Arc<Round<S, E>> {
        let (round, has_runner) = {
            let mut state = self.0.state();
            let round = Arc::clone(state.gathering.get_or_insert_with(|| Arc::new(Round::new())));
            (round, mem::replace(&mut state.has_runner, true))
        };
        if !has_runner {
            spawn(Runner { shared: Arc::clone(&self.0), has_ended: false }.run());
        }
        round
    }
}

impl<S, E> Runner<S, E>
where
    S: Clone + PartialEq + Send + Sync,
    E: From<Lost> + Send + Sync,
{
    async fn run(mut self) {
        loop {
            self.gather().await;
            let Some(round) = self.close_round() else { return };
            // A call that begins from here on is not in this round, so now the query may be sent, and not before.
            let answer = self.shared.ask().await;
            round.end(answer);
        }
    }

    /// Lets callers join that are ready to, as long as each turn of theirs brings more: fewer queries leave more of the
    /// processors to responses. A caller does not wait for others if the one before it was alone as well.
    async fn gather(&self) {
        let mut joined = usize::from(self.shared.state().shared_by <= 1);
        loop {
            let now = self.shared.state().callers();
            if now <= joined || now >= ENOUGH {
                return;
            }
            joined = now;
            yield_now().await;
        }
    }

    /// Takes the round that has gathered, or ends if no caller waits any more.
    fn close_round(&mut self) -> Option<Closed<S, E>> {
        let mut state = self.shared.state();
        let callers = state.callers();
        if callers == 0 {
            (state.has_runner, self.has_ended) = (false, true);
            return None;
        }
        state.shared_by = callers;
        state.stats.queries += 1;
        state.gathering.take().map(Closed)
    }
}

/// A runner that is dropped before its end leaves its place to the next one, which the waiting callers start.
impl<S, E> Drop for Runner<S, E> {
    fn drop(&mut self) {
        if !self.has_ended {
            let round = {
                let mut state = self.shared.state();
                state.has_runner = false;
                state.gathering.take()
            };
            drop(round.map(Closed));
        }
    }
}

impl<S, E> State<S, E> {
    /// Returns how many callers wait for the query of the round that gathers.
    fn callers(&self) -> usize {
        self.gathering.as_ref().map_or(0, |round| Arc::strong_count(round) - 1)
    }
}

impl<S, E> Round<S, E> {
    fn new() -> Self {
        Self { answer: OnceLock::new(), is_over: Notify::new() }
    }
}

impl<S, E> Closed<S, E> {
    fn end(self, answer: Answer<S, E>) {
        let _ = self.0.answer.set(Some(answer));
    }
}

impl<S, E> Drop for Closed<S, E> {
    fn drop(&mut self) {
        // Without effect where there is an answer.
        let _ = self.0.answer.set(None);
        self.0.is_over.notify_waiters();
    }
}

/// Sends the query and waits for its result. A panic, which the process's hook has reported by then, is a result too:
/// the callers must not wait for ever.
async fn unless_it_panics<S, E: From<Lost>>(query: &(dyn Fn() -> Query<S, E> + Send + Sync)) -> Result<S, E> {
    let Ok(query) = catch_unwind(AssertUnwindSafe(query)) else { return Err(Lost.into()) };
    let mut query = pin!(query);
    std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| query.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(Lost.into())))
    })
    .await
}

impl<S: Clone + PartialEq, E: From<Lost>> Shared<S, E> {
    /// Sends the query, and reads change tokens around it.
    async fn ask(&self) -> Answer<S, E> {
        if let Some(tokens) = &self.tokens {
            tokens.before_query();
        }
        let answer = unless_it_panics(&self.query).await;
        if let (Some(tokens), Ok(version)) = (&self.tokens, &answer) {
            tokens.after_query(version);
        }
        self.count(answer.as_ref().ok());
        answer.map_err(std::sync::Arc::new)
    }

    fn count(&self, version: Option<&S>) {
        let mut state = self.state();
        match version {
            None => state.stats.failures += 1,
            Some(version) if state.last.as_ref() == Some(version) => {}
            Some(version) => {
                state.stats.versions += 1;
                state.last = Some(version.clone());
            }
        }
    }
}

impl<S, E> Shared<S, E> {
    fn state(&self) -> MutexGuard<'_, State<S, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S, E> Clone for VersionSource<S, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, E> fmt::Debug for VersionSource<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionSource({:?})", self.0.state().stats)
    }
}
