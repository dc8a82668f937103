//! The gate: who asks which version is current waits for a query that was sent after.

use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use serde::Serialize;

use super::mark::{Looks, Marks, Told};
use super::round::{Round, Seat};
use super::sync::{Arc, Mutex, MutexGuard, spawn, yield_now};

/// So many callers are not kept waiting for more of them.
const ENOUGH: usize = 16;

/// Asks an origin for the current version `S` of its data, once for all who want to know it at the same time. Cheap to
/// clone. What it promises, and why, is said in [its module](super).
pub struct VersionSource<S, E>(Arc<Shared<S, E>>);

/// What the gate has done since it was made. Queries per call say what it saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VersionStats {
    /// Calls that have begun.
    pub calls: u64,
    /// Queries that were sent.
    pub queries: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those of them that told another version than the one before.
    pub versions: u64,
}

/// There is no answer: the query has panicked, or the runtime has ended that it ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query for the current version was not answered")]
pub struct Lost;

struct Shared<S, E> {
    query: Box<dyn Fn() -> Query<S, E> + Send + Sync>,
    marks: Option<Box<dyn Marks<S>>>,
    calls: AtomicU64,
    state: Mutex<State<S, E>>,
}

type Name = std::sync::Arc<str>;

type Answer<S, E> = Result<Arc<Told<S>>, E>;

type Query<S, E> = Pin<Box<dyn Future<Output = Result<S, E>> + Send>>;

struct State<S, E> {
    /// The round whose query has not been sent, if anybody wants it.
    gathering: Option<Round<Answer<S, E>>>,
    has_runner: bool,
    /// What was told last. Never told again, unless a query tells the same.
    last: Option<Arc<Told<S>>>,
    stats: VersionStats,
}

/// Sends the queries, one after the other, while anybody waits.
struct Runner<S, E> {
    shared: Arc<Shared<S, E>>,
    has_ended: bool,
}

impl<S, E> VersionSource<S, E>
where
    S: Clone + PartialEq + Send + Sync + 'static,
    E: From<Lost> + Clone + Send + Sync + 'static,
{
    /// Creates a source from a query, which is not sent yet. Give the query a time limit: a call takes at most twice as
    /// long, the rest of the query under way and its own.
    pub fn new<F>(query: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S, E>> + Send + 'static,
    {
        Self::with(query, None)
    }

    /// As [`new`](Self::new), for an origin that can be looked at without waiting for it. `look` returns its mark,
    /// which must be another one before a change is acknowledged, and never an earlier one again; or nothing, if there
    /// is nothing to see. It is called for each who asks, and must not block. As long as the mark is what it was before
    /// and after a query, what that told is told again. It is believed once it was seen to change with the version.
    pub fn with_change_tokens<F, M>(
        query: impl Fn() -> F + Send + Sync + 'static,
        look: impl Fn() -> Option<M> + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<S, E>> + Send + 'static,
        M: PartialEq + Send + Sync + 'static,
    {
        Self::with(query, Some(Box::new(Looks::new(look))))
    }

    fn with<F>(query: impl Fn() -> F + Send + Sync + 'static, marks: Option<Box<dyn Marks<S>>>) -> Self
    where
        F: Future<Output = Result<S, E>> + Send + 'static,
    {
        let state = State { gathering: None, has_runner: false, last: None, stats: VersionStats::default() };
        let query = Box::new(move || -> Query<S, E> { Box::pin(query()) });
        Self(Arc::new(Shared { query, marks, calls: AtomicU64::new(0), state: Mutex::new(state) }))
    }

    /// Returns the current version, as of some moment after this call began.
    ///
    /// A query that was sent after the call began has returned it, or a change token that was read after that shows
    /// that it is still the current one.
    ///
    /// # Errors
    ///
    /// Those of that query; [`Lost`] if it panicked.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point. The query goes on for the others, and is not sent for nobody.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn current(&self) -> Result<S, E> {
        self.told().await.map(|told| told.version.clone())
    }

    /// As [`current`](Self::current), for who needs no more of a version than its name.
    pub(super) async fn name(&self) -> Result<Name, E>
    where
        S: Display,
    {
        let told = self.told().await?;
        Ok(told.name.get_or_init(|| told.version.to_string().into()).clone())
    }

    async fn told(&self) -> Answer<S, E> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(told) = self.0.marks.as_ref().and_then(|marks| marks.told()) {
            return Ok(told);
        }
        // A runner ends half-way if the runtime does that it was spawned on, which need not be the caller's. Then
        // another may ask, which is later still; but not again and again.
        for _ in 0..2 {
            if let Some(answer) = self.take_seat().await {
                return answer;
            }
        }
        Err(Lost.into())
    }

    /// Returns what it has done so far.
    #[must_use]
    pub fn stats(&self) -> VersionStats {
        VersionStats { calls: self.0.calls.load(Ordering::Relaxed), ..self.0.state().stats }
    }

    /// Takes a seat in the round that gathers, and sees to it that somebody sends its query.
    fn take_seat(&self) -> Seat<Answer<S, E>> {
        let mut state = self.0.state();
        let seat = state.gathering.get_or_insert_with(Round::new).take_seat();
        let needs_runner = !state.has_runner;
        state.has_runner = true;
        drop(state);
        if needs_runner {
            spawn(Runner { shared: Arc::clone(&self.0), has_ended: false }.run());
        }
        seat
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
            // Who calls from here on is not in this round any more, so now the query may be sent, and not before.
            let answer = self.shared.ask().await;
            round.tell(answer);
        }
    }

    /// Lets those call who are ready to, as long as each turn of theirs brings more: the busier the process is, the
    /// more of them share a query. But not very many, whose answers would all be written at once, which no cache of a
    /// processor has room for.
    async fn gather(&self) {
        let mut seats = 0;
        loop {
            let gathered = self.shared.state().gathering.as_ref().map_or(0, Round::seats);
            if gathered == seats || gathered >= ENOUGH {
                return;
            }
            seats = gathered;
            yield_now().await;
        }
    }

    /// Takes the round that has gathered, or ends if nobody waits any more.
    fn close_round(&mut self) -> Option<Round<Answer<S, E>>> {
        let mut state = self.shared.state();
        let round = state.gathering.take().filter(|round| round.seats() > 0);
        match round {
            Some(_) => state.stats.queries += 1,
            None => (state.has_runner, self.has_ended) = (false, true),
        }
        round
    }
}

impl<S: PartialEq, E> State<S, E> {
    /// Counts an answer, and returns it as it is told.
    fn note(&mut self, answer: Result<S, E>) -> Answer<S, E> {
        let version = answer.inspect_err(|_| self.stats.failures += 1)?;
        match &self.last {
            Some(last) if last.version == version => Ok(Arc::clone(last)),
            _ => {
                self.stats.versions += 1;
                let told = Arc::new(Told { version, name: std::sync::OnceLock::new() });
                Ok(Arc::clone(self.last.insert(told)))
            }
        }
    }
}

/// A runner that is dropped before its end leaves the place to the next, which those who wait send for.
impl<S, E> Drop for Runner<S, E> {
    fn drop(&mut self) {
        if !self.has_ended {
            let mut state = self.shared.state();
            state.has_runner = false;
            state.gathering = None;
        }
    }
}

/// Sends the query and waits for its answer. A panic, which the process's hook has told of by then, is an answer too:
/// those who wait must not wait for ever.
async fn unless_it_panics<S, E: From<Lost>>(query: &(dyn Fn() -> Query<S, E> + Send + Sync)) -> Result<S, E> {
    let Ok(query) = catch_unwind(AssertUnwindSafe(query)) else { return Err(Lost.into()) };
    let mut query = pin!(query);
    std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| query.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(Lost.into())))
    })
    .await
}

impl<S: PartialEq, E: From<Lost>> Shared<S, E> {
    /// Sends the query, and looks for marks around it.
    async fn ask(&self) -> Answer<S, E> {
        if let Some(marks) = &self.marks {
            marks.before_query();
        }
        let answer = unless_it_panics(&self.query).await;
        let answer = self.state().note(answer);
        if let (Some(marks), Ok(told)) = (&self.marks, &answer) {
            marks.after_query(told);
        }
        answer
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
