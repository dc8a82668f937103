//! Adds the tasks of concurrent requests together.
//!
//! Every change of tasks locks one row (`list_state`) until its commit is on the disk. While one statement is under
//! way, further tasks gather, and the next statement adds all of them: one lock, one commit and one wait for the disk.
//! A task that comes alone is added at once.
//!
//! ```text
//!   one ──→ insert ─────────────── commit ──→ one
//!        two  three  four            │
//!         └─────┴─────┴─ gather ─────┴──→ insert ─── commit ──→ two, three, four
//! ```
//!
//! # Invariants
//!
//! - **`add` returns a task after the commit of the statement that added it.**
//! - **A task never joins a group whose statement may have been sent.** The group is closed before.
//! - **A group is one statement, and so one transaction.** Ids are in the order of arrival.
//! - **One bad name fails no other.** If the database refuses the statement, nothing has happened, and each task is
//!   added alone.
//! - **A statement that may have happened is not repeated.** After a timeout or a lost connection, the whole group gets
//!   that error.
//! - **No task waits for two statements that hang.** The next group does not wait long for the one before. If one of
//!   those that are added alone gets no response, the ones behind it get that error too.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::task::columns;
use super::{Task, TaskName, add};
use crate::db::{Arg, Database, Error};

/// How many tasks one statement adds at most: with the longest names, 128 KB.
const MOST: usize = 64;

/// How long a statement holds back the next group. A commit takes a few milliseconds. What takes longer does not get
/// shorter by gathering.
const HEAD_START: Duration = Duration::from_millis(100);

/// Adds tasks, concurrent ones together. Cheap to clone; clones share their groups.
#[derive(Clone, Debug)]
pub struct Adder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Database,
    head_start: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Tasks whose statement has not been sent.
    gathering: Vec<Waiting>,
    has_runner: bool,
}

/// A task to add.
#[derive(Debug)]
struct Waiting {
    name: TaskName,
    answer: oneshot::Sender<Result<Task, Error>>,
}

/// Adds one group after the other, until none is left.
struct Runner {
    shared: Arc<Shared>,
    has_ended: bool,
}

impl Adder {
    /// Makes an adder for a database. Connects to nothing yet.
    #[must_use]
    pub fn new(db: &Database) -> Self {
        Self(Arc::new(Shared { db: db.clone(), head_start: HEAD_START, state: Mutex::default() }))
    }

    /// Sets how long a statement holds back the next group: a tenth of a second by default.
    #[must_use]
    pub fn with_head_start(self, head_start: Duration) -> Self {
        Self(Arc::new(Shared { db: self.0.db.clone(), head_start, state: Mutex::default() }))
    }

    /// Adds a task and returns it.
    ///
    /// # Errors
    ///
    /// The database's, as those of [`add`]. After [`Error::Timeout`] the task may be there or not.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the task waits for its statement, it adds nothing. Dropped later, it adds the task all the same.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn add(&self, name: TaskName) -> Result<Task, Error> {
        let (answer, answered) = oneshot::channel();
        let needs_runner = {
            let mut state = self.0.state();
            state.gathering.push(Waiting { name, answer });
            !mem::replace(&mut state.has_runner, true)
        };
        if needs_runner {
            tokio::spawn(Runner { shared: Arc::clone(&self.0), has_ended: false }.run());
        }
        // Without an answer the statement has panicked, or the runtime has ended.
        answered.await.unwrap_or(Err(Error::Timeout))
    }
}

impl Runner {
    async fn run(mut self) {
        while let Some(group) = self.close_group() {
            // The group is closed, so its statement may be sent now.
            let statement = tokio::spawn(add_all(self.shared.db.clone(), group));
            // A statement that takes longer goes on by itself.
            let _ = timeout(self.shared.head_start, statement).await;
        }
    }

    /// Takes the tasks whose callers still wait, or ends if there are none.
    fn close_group(&mut self) -> Option<Vec<Waiting>> {
        let mut state = self.shared.state();
        state.gathering.retain(|waiting| !waiting.answer.is_closed());
        if state.gathering.is_empty() {
            (state.has_runner, self.has_ended) = (false, true);
            return None;
        }
        let most = state.gathering.len().min(MOST);
        Some(state.gathering.drain(..most).collect())
    }
}

/// A runner that is dropped early leaves its place to the next.
impl Drop for Runner {
    fn drop(&mut self) {
        if !self.has_ended {
            let mut state = self.shared.state();
            state.has_runner = false;
            state.gathering.clear();
        }
    }
}

/// Adds the tasks of a group and answers their callers.
async fn add_all(db: Database, group: Vec<Waiting>) {
    let (names, answers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|waiting| (waiting.name, waiting.answer)).unzip();
    let added = add_together(&db, &names).await;
    let mut failed = None;
    for (place, (name, answer)) in names.iter().zip(answers).enumerate() {
        let added = match (&added, &failed) {
            (Ok(tasks), _) => Ok(tasks[place].clone()),
            // It would hang for each of them, one after the other.
            (Err(_), Some(error)) => Err(Error::clone(error)),
            (Err(error), _) if error.is_refusal() && names.len() > 1 => add(&db, name).await,
            (Err(error), _) => Err(error.clone()),
        };
        failed = added.as_ref().err().filter(|error| error.is_transient()).cloned();
        // The caller may have left.
        let _ = answer.send(added);
    }
}

/// Adds a task for each name, in this order, or none, and returns them in the same order.
async fn add_together(db: &Database, names: &[TaskName]) -> Result<Vec<Task>, Error> {
    if let [name] = names {
        return Ok(vec![add(db, name).await?]);
    }
    let sql = db.choose(
        concat!(
            "insert into tasks (name) select value from json_each($1) order by key returning ",
            columns!()
        ),
        concat!(
            "insert into tasks (name) \
             select name from json_array_elements_text($1::json) with ordinality as wanted (name, place) \
             order by place returning ",
            columns!()
        ),
    );
    let names: Vec<_> = names.iter().map(TaskName::as_str).collect();
    let json = serde_json::to_string(&names).expect("texts have an encoding");
    let mut tasks: Vec<Task> = db.fetch_all(sql, &[Arg::Text(&json)]).await?;
    if tasks.len() != names.len() {
        return Err(sqlx::Error::RowNotFound.into());
    }
    // SQLite promises no order of what is returned; ids grow.
    tasks.sort_unstable_by_key(|task| task.id);
    tracing::debug!(tasks = tasks.len(), "added together");
    Ok(tasks)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
