//! What is kept for a visitor, in the session: messages to be shown once, and the task that they removed last.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::error::Error;
use crate::tasks::Task;
use neverstale_sessions::{self, Session, Visit};

/// Under these names in the session.
const MESSAGES: &str = "messages";
const REMOVED: &str = "removed";

/// Of messages that wait to be shown, the latest are kept.
const MOST_MESSAGES: usize = 5;

/// How often a change is put on top of what others have changed meanwhile.
const ATTEMPTS: usize = 10;

/// How long a change that is done waits for its message to be stored, and a page for those that are to be shown.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whoever sent the request, as far as their session tells.
#[derive(Clone, Debug)]
pub struct Visitor {
    session: Session,
    visit: Arc<Visit>,
}

/// What was done, told to the visitor who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What happened to the task.
    pub change: Change,
    /// The task's name.
    pub name: String,
    /// Whether the change can be undone by this visitor.
    #[serde(skip)]
    pub can_undo: bool,
}

/// What happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It is new.
    Added,
    /// It is no longer there.
    Removed,
    /// It is there again.
    PutBack,
}

/// The task that a visitor removed last, as their session keeps it.
///
/// A session outlives a deploy, so what another release has stored must be read: a new field has a default.
#[derive(Serialize, Deserialize)]
struct RemovedTask {
    id: i64,
    name: String,
}

impl From<&Task> for RemovedTask {
    fn from(task: &Task) -> Self {
        Self { id: task.id, name: task.name.clone() }
    }
}

impl From<RemovedTask> for Task {
    fn from(removed: RemovedTask) -> Self {
        Self { id: removed.id, name: removed.name }
    }
}

/// The messages that a page shows, which makes it this visitor's own.
#[derive(Clone, Debug, Default)]
pub struct Messages(pub Vec<Message>);

/// Messages that wait to be shown to a visitor.
#[derive(Clone, Debug)]
pub struct Waiting {
    visitor: Visitor,
    messages: Messages,
}

impl Waiting {
    /// Takes the messages out of the session, to be shown.
    pub async fn take(self) -> Messages {
        self.visitor.take(self.messages).await
    }
}

impl Visitor {
    /// Returns the visitor of a request that has come through [`neverstale_sessions::carry`].
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<Self> {
        Some(Self { session: extensions.get().cloned()?, visit: extensions.get().cloned()? })
    }

    /// Returns whether there may be anything to find: no store is asked about a visitor who brings nothing.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.visit.may_have_session()
    }

    /// Returns the visitor for a look ahead at [what waits for them](Self::waiting). Where nothing does, the page that
    /// is made meanwhile is everybody's.
    #[must_use]
    pub fn ahead(&self) -> Self {
        let visit = Arc::new(self.visit.ahead());
        let session = Session::new(self.session.id(), Arc::clone(&visit), self.session.expiry());
        Self { session, visit }
    }

    /// Returns the messages that wait to be shown together with their visitor, who takes them out.
    pub async fn waiting(self) -> Option<Waiting> {
        let messages = self.messages().await?;
        Some(Waiting { visitor: self, messages })
    }

    /// Tells that a task was added.
    ///
    /// # Errors
    ///
    /// If the session was deleted meanwhile. That a message could not be stored is none: the change is done.
    pub async fn added(&self, task: &Task) -> Result<(), Error> {
        self.settle(self.note(Change::Added, task)).await
    }

    /// Tells that a task was removed, and keeps it to be put back.
    ///
    /// # Errors
    ///
    /// As [`added`](Self::added).
    pub async fn removed(&self, task: &Task) -> Result<(), Error> {
        self.settle(self.note(Change::Removed, task)).await
    }

    /// Returns the task that was removed last, unless it was put back.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn last_removed(&self) -> Result<Option<Task>, Error> {
        match self.get::<RemovedTask>(REMOVED).await {
            Err(neverstale_sessions::Error::Cache) => Ok(None),
            found => Ok(found?.map(Task::from)),
        }
    }

    /// Tells that the task that was removed last is there again.
    ///
    /// # Errors
    ///
    /// As [`added`](Self::added).
    pub async fn put_back(&self, task: &Task) -> Result<(), Error> {
        self.settle(self.note(Change::PutBack, task)).await
    }

    /// Returns the messages that wait to be shown, if there are any. They are there until they are [taken](Self::take).
    pub async fn messages(&self) -> Option<Messages> {
        let found =
            timeout(PATIENCE, self.try_messages()).await.unwrap_or(Err(neverstale_sessions::Error::Timeout));
        found.unwrap_or_else(|error| {
            self.show_none(&error);
            None
        })
    }

    /// Takes the messages out of the session, to be shown: of two requests that have found them, one gets none. Where
    /// it cannot be known whether they are out, they are shown: twice is better than never.
    pub async fn take(&self, messages: Messages) -> Messages {
        match timeout(PATIENCE, self.try_take()).await.unwrap_or(Err(neverstale_sessions::Error::Timeout)) {
            Ok(()) => messages,
            Err(error @ (neverstale_sessions::Error::Contended | neverstale_sessions::Error::Gone)) => {
                self.show_none(&error);
                Messages::default()
            }
            Err(error) => {
                self.visit.give_up();
                tracing::debug!("messages may be shown again: {error}");
                messages
            }
        }
    }

    fn show_none(&self, error: &neverstale_sessions::Error) {
        tracing::debug!("no messages are shown: {error}");
        self.visit.give_up();
    }

    async fn try_messages(&self) -> Result<Option<Messages>, neverstale_sessions::Error> {
        let messages: Vec<Message> = self.get(MESSAGES).await?.unwrap_or_default();
        if messages.is_empty() {
            return Ok(None);
        }
        let mut messages = Messages(messages);
        let removed: Option<RemovedTask> = self.get(REMOVED).await?;
        let last = messages.0.iter_mut().rfind(|message| message.change == Change::Removed);
        if let (Some(last), Some(_)) = (last, removed) {
            last.can_undo = true;
        }
        Ok(Some(messages))
    }

    async fn try_take(&self) -> Result<(), neverstale_sessions::Error> {
        self.remove(MESSAGES).await?;
        // Others may have taken them as well, or have added one that is not shown here.
        self.visit.insist();
        self.save().await
    }

    /// Puts a change, and what comes of it, on top of what the session holds by then.
    async fn note(&self, change: Change, task: &Task) -> Result<(), neverstale_sessions::Error> {
        // Else of two messages that come at the same time one would be lost.
        self.visit.insist();
        for _ in 0..ATTEMPTS {
            match change {
                Change::Added => {}
                Change::Removed => self.insert(REMOVED, RemovedTask::from(task)).await?,
                Change::PutBack => self.remove(REMOVED).await?,
            }
            let mut messages: Vec<Message> = self.get(MESSAGES).await?.unwrap_or_default();
            messages.push(Message { change, name: task.name.clone(), can_undo: false });
            messages.drain(..messages.len().saturating_sub(MOST_MESSAGES));
            self.insert(MESSAGES, &messages).await?;
            match self.save().await {
                Err(neverstale_sessions::Error::Contended) => self.load_again().await?,
                saved => return saved,
            }
        }
        Err(neverstale_sessions::Error::Contended)
    }

    /// Waits until a change is in the session. By then it is in the database, so little that goes wrong here matters.
    async fn settle(
        &self,
        kept: impl Future<Output = Result<(), neverstale_sessions::Error>>,
    ) -> Result<(), Error> {
        let kept = timeout(PATIENCE, kept).await.unwrap_or(Err(neverstale_sessions::Error::Timeout));
        match kept {
            Err(error @ neverstale_sessions::Error::Gone) => Err(error.into()),
            Err(error) => {
                self.visit.give_up();
                tracing::warn!("a visitor is not told what was done: {}", Error::from(error));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn get<T: for<'de> Deserialize<'de>>(
        &self,
        key: &str,
    ) -> Result<Option<T>, neverstale_sessions::Error> {
        self.visit.note_read();
        let value = self.session.get_value(key).await.map_err(|error| self.visit.explain(error))?;
        // What another release has stored is no reason to fail for two weeks.
        let is_none =
            |_: &serde_json::Error| tracing::warn!(session.key = key, "a stored value is taken for none");
        Ok(value.and_then(|value| serde_json::from_value(value).inspect_err(is_none).ok()))
    }

    async fn insert(&self, key: &str, value: impl Serialize) -> Result<(), neverstale_sessions::Error> {
        self.session.insert(key, value).await.map_err(|error| self.visit.explain(error))
    }

    async fn remove(&self, key: &str) -> Result<(), neverstale_sessions::Error> {
        self.session.remove_value(key).await.map(drop).map_err(|error| self.visit.explain(error))
    }

    async fn load_again(&self) -> Result<(), neverstale_sessions::Error> {
        self.session.load().await.map_err(|error| self.visit.explain(error))?;
        // Which the session would take for one that has not begun.
        if self.visit.is_missing() { Err(neverstale_sessions::Error::Gone) } else { Ok(()) }
    }

    async fn save(&self) -> Result<(), neverstale_sessions::Error> {
        self.session.save().await.map_err(|error| self.visit.explain(error))
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Self::of(&parts.extensions).ok_or(Error::new(StatusCode::INTERNAL_SERVER_ERROR, NoLayer))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request has not come through the session layer")]
struct NoLayer;
