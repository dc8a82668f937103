//! The data of one visitor, in the session: messages to be shown once, and the task that was removed last.

mod announcement;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::AppendHeaders;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tower_sessions::{Expiry, session};

use self::announcement::Announcements;
pub use self::announcement::{SetCookies, may_show_messages};
use crate::error::Error;
use crate::tasks::Task;
use neverstale_sessions::{self as sessions, RequestSession, Session};

/// Keys of the session.
const MESSAGES: &str = "messages";
const REMOVED: &str = "removed";

/// So many messages wait at most; older ones are dropped.
const MOST_MESSAGES: usize = 5;

/// How long a change waits for its message to be stored, and a page for the messages that it shows.
const SESSION_TIMEOUT: Duration = Duration::from_secs(2);

/// Leaves the cookies of a browser as they are.
pub const NO_COOKIES: SetCookies = AppendHeaders(vec![]);

/// The visitor of a request, as far as the session tells.
#[derive(Clone, Debug)]
pub struct Visitor {
    session: Session,
    request: Arc<RequestSession>,
    announcements: Announcements,
}

/// A change that its visitor made, to be shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What happened to the task.
    pub change: Change,
    /// The task's name.
    pub name: String,
    /// Whether this visitor can undo the change.
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

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::PutBack => "put back",
        })
    }
}

/// The task that a visitor removed last.
///
/// A session outlives a deploy, so sessions of the release before must be read: a new field has a default.
#[derive(Serialize, Deserialize)]
struct RemovedTask {
    id: i64,
    name: String,
}

/// Messages that were found in a visitor's session, and not yet taken out of it.
#[derive(Clone, Debug)]
pub struct Waiting {
    visitor: Visitor,
    messages: Vec<Message>,
}

impl Waiting {
    /// Takes the messages out of the session, to be shown, and returns them with the cookies to set.
    ///
    /// Of two requests that have found the same messages, one gets them. If others have come since, none is taken: the
    /// next page shows all, beside a list that is new enough. If the session store fails, they are shown: twice is
    /// better than never. The announcements stay for the next page, unless all that they announced is shown.
    ///
    /// # Cancel safety
    ///
    /// The messages may be out of the session, and were not shown.
    pub async fn take(self) -> (Vec<Message>, SetCookies) {
        let Visitor { session, request, announcements } = &self.visitor;
        if self.messages.is_empty() {
            return (vec![], announcements.clear());
        }
        let taken = request.update(session, || async {
            let are_same = self.visitor.messages().await? == self.messages;
            if are_same {
                session.remove_value(MESSAGES).await?;
            }
            Ok(are_same)
        });
        match in_time(taken).await {
            Ok(true) => (self.messages, announcements.clear()),
            Ok(false) => (vec![], NO_COOKIES),
            Err(error @ (sessions::Error::Contended | sessions::Error::Gone)) => {
                tracing::debug!("no messages are shown: {error}");
                (vec![], NO_COOKIES)
            }
            Err(error) => {
                tracing::debug!("messages may be shown again: {error}");
                (self.messages, NO_COOKIES)
            }
        }
    }
}

impl Visitor {
    /// Looks for messages in the session. Returns none if the session store fails.
    ///
    /// # Cancel safety
    ///
    /// Changes nothing.
    pub async fn waiting(self) -> Option<Waiting> {
        let messages = async { self.messages().await.map_err(|error| self.request.explain(error)) };
        let not_shown = |error: &sessions::Error| tracing::debug!("no messages are shown: {error}");
        let messages = in_time(messages).await.inspect_err(not_shown).ok()?;
        Some(Waiting { visitor: self, messages })
    }

    /// Stores a message for the visitor, and the task of a removal, to be put back.
    ///
    /// Returns the cookie that announces the message, unless it is certain that none is stored.
    ///
    /// # Errors
    ///
    /// If the session was deleted meanwhile. Any other failure is logged only, since the change is done by then.
    ///
    /// # Cancel safety
    ///
    /// The message is stored or not.
    pub async fn tell(&self, change: Change, task: &Task) -> Result<SetCookies, Error> {
        let told = self.request.update(&self.session, || async {
            match change {
                Change::Added => {}
                Change::Removed => {
                    let removed = RemovedTask { id: task.id, name: task.name.clone() };
                    self.session.insert(REMOVED, removed).await?;
                }
                Change::PutBack => drop(self.session.remove_value(REMOVED).await?),
            }
            let mut messages: Vec<Message> = self.get(MESSAGES).await?.unwrap_or_default();
            messages.push(Message { change, name: task.name.clone(), can_undo: false });
            messages.drain(..messages.len().saturating_sub(MOST_MESSAGES));
            self.session.insert(MESSAGES, &messages).await
        });
        match in_time(told).await {
            Ok(()) => {}
            Err(error @ sessions::Error::Gone) => return Err(error.into()),
            Err(error) => {
                let may_be_stored = matches!(error, sessions::Error::Store(_) | sessions::Error::Timeout);
                tracing::warn!("a visitor may not be told what was done: {}", Error::from(error));
                if !may_be_stored {
                    return Ok(NO_COOKIES);
                }
            }
        }
        let lifetime = match self.session.expiry() {
            Some(Expiry::OnInactivity(lifetime)) => Some(lifetime),
            _ => None,
        };
        Ok(self.announcements.announce(lifetime))
    }

    /// Returns the task that was removed last, unless it was put back.
    ///
    /// # Errors
    ///
    /// Those of the session store. A cache that fails is none: without its only copy the session counts as absent.
    ///
    /// # Cancel safety
    ///
    /// Changes nothing.
    pub async fn last_removed(&self) -> Result<Option<Task>, Error> {
        let removed: Option<RemovedTask> =
            match self.get(REMOVED).await.map_err(|error| self.request.explain(error)) {
                Err(sessions::Error::Cache) => None,
                found => found?,
            };
        Ok(removed.map(|RemovedTask { id, name }| Task { id, name }))
    }

    async fn messages(&self) -> Result<Vec<Message>, session::Error> {
        let mut messages: Vec<Message> = self.get(MESSAGES).await?.unwrap_or_default();
        let removed: Option<RemovedTask> = self.get(REMOVED).await?;
        let last = messages.iter_mut().rfind(|message| message.change == Change::Removed);
        if let (Some(last), Some(_)) = (last, removed) {
            last.can_undo = true;
        }
        Ok(messages)
    }

    /// Returns a value of the session. One of another release that cannot be read counts as absent, or every request
    /// would fail for as long as the session lives.
    async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, session::Error> {
        let value = self.session.get_value(key).await?;
        let unreadable =
            |_: &serde_json::Error| tracing::warn!(session.key = key, "a stored value is taken for none");
        Ok(value.and_then(|value| serde_json::from_value(value).inspect_err(unreadable).ok()))
    }
}

async fn in_time<T>(
    operation: impl Future<Output = Result<T, sessions::Error>>,
) -> Result<T, sessions::Error> {
    timeout(SESSION_TIMEOUT, operation).await.unwrap_or(Err(sessions::Error::Timeout))
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let (session, request) = (parts.extensions.get(), parts.extensions.get());
        let (Some(session), Some(request)) = (session.cloned(), request.cloned()) else {
            return Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, NoLayer));
        };
        Ok(Self { session, request, announcements: Announcements::of(parts) })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request has not come through the session layer")]
struct NoLayer;
