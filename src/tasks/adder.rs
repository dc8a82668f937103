//! Adding tasks for many visitors at once.
//!
//! All who change tasks queue for one row's lock (`list_state`), which each holds until its commit is on the disk. So
//! while one statement is under way, those who come meanwhile gather, and the next one adds all their tasks: one lock,
//! one commit and one wait for the disk for all of them. Who comes alone is sent at once and waits for nobody.
//!
//! ```text
//!   one ──→ insert ─────────────── commit ──→ one
//!        two  three  four            │
//!         └─────┴─────┴─ gather ─────┴──→ insert ─── commit ──→ two, three, four
//! ```
//!
//! # What holds as if each were added alone
//!
//! - **Nobody is told of a task before the commit of the very statement that added it has been answered.**
//! - **Nobody joins a group whose statement may have been sent.** It is taken out of where they gather before.
//! - **A group is one statement, and so one transaction.** Ids are in the order in which its members came.
//! - **One bad name fails nobody else.** If the database says no to a group's statement, nothing of it has happened,
//!   and each is tried alone.
//! - **Nothing is tried again that may have happened.** After silence, or a connection that was lost, all of the group
//!   are told so, as one alone would be.
//! - **Nobody waits for two statements that hang.** One that takes long holds back nobody: the next group goes beside
//!   it. Where each is tried alone and one gets no answer, those behind it are told so too.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::task::columns;
use super::{Task, TaskName, add};
use crate::db::{Arg, Database, Error};

/// How many tasks one statement adds at most. With the longest names they have 128 KB.
const MOST: usize = 64;

/// How long a statement holds back the next group. A commit takes a few milliseconds, so who takes longer waits for
/// something that gathering does not make shorter.
const HEAD_START: Duration = Duration::from_millis(100);

/// Adds tasks, those that come at the same time together. Cheap to clone; who shares a clone shares the groups.
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
    /// Those whose statement has not been sent.
    gathering: Vec<Waiting>,
    has_runner: bool,
}

/// Whoever wants a task added.
#[derive(Debug)]
struct Waiting {
    name: TaskName,
    answer: oneshot::Sender<Result<Task, Error>>,
}

/// Sends one group after the other while there are any.
struct Runner {
    shared: Arc<Shared>,
    has_ended: bool,
}

impl Adder {
    /// Makes one for a database. Asks for nothing yet.
    #[must_use]
    pub fn new(db: &Database) -> Self {
        Self(Arc::new(Shared { db: db.clone(), head_start: HEAD_START, state: Mutex::default() }))
    }

    /// Lets a statement hold back the next group for so long, instead of a tenth of a second.
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
    /// Who leaves while they gather has nothing added. Later it is added all the same.
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
        // Who is dropped without an answer was in a statement that panicked, or the runtime has ended.
        answered.await.unwrap_or(Err(Error::Timeout))
    }
}

impl Runner {
    async fn run(mut self) {
        while let Some(group) = self.close_group() {
            // Who comes from here on is not in this group any more, so now its statement may be sent, and not before.
            let statement = tokio::spawn(add_all(self.shared.db.clone(), group));
            // What takes longer goes on by itself.
            let _ = timeout(self.shared.head_start, statement).await;
        }
    }

    /// Takes those who have gathered and still wait, or ends if nobody does.
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

/// A runner that is dropped before its end leaves the place to the next.
impl Drop for Runner {
    fn drop(&mut self) {
        if !self.has_ended {
            let mut state = self.shared.state();
            state.has_runner = false;
            state.gathering.clear();
        }
    }
}

/// Adds the tasks of a group and tells each of its members.
async fn add_all(db: Database, group: Vec<Waiting>) {
    let (names, answers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|waiting| (waiting.name, waiting.answer)).unzip();
    let added = add_together(&db, &names).await;
    let mut failed = None;
    for (place, (name, answer)) in names.iter().zip(answers).enumerate() {
        let added = match (&added, &failed) {
            (Ok(tasks), _) => Ok(tasks[place].clone()),
            // It would hang for them as well, one after the other.
            (Err(_), Some(error)) => Err(Error::clone(error)),
            (Err(error), _) if error.is_refusal() && names.len() > 1 => add(&db, name).await,
            (Err(error), _) => Err(error.clone()),
        };
        failed = added.as_ref().err().filter(|error| error.is_transient()).cloned();
        // Who has left does not want to know.
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
