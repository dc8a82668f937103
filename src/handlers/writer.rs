//! What every change of a task does beside its statement.

use axum::extract::{FromRef, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::future::join;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::db::{self, Database};
use crate::error::Error;
use crate::listing::Listing;
use crate::mistake::Mistake;
use crate::tasks::{self, Task};
use crate::visitor::{Change, Visitor};

/// Makes the change that a visitor asks for.
pub struct Writer {
    pub(super) db: Database,
    pub(super) listing: Listing,
    pub(super) visitor: Visitor,
    changes: TaskTracker,
}

/// The reason why a statement has changed no task.
pub(super) enum Unchanged {
    /// There is no task with this id.
    NotThere(i64),
    Failed(db::Error),
}

impl From<db::Error> for Unchanged {
    fn from(error: db::Error) -> Self {
        Self::Failed(error)
    }
}

impl Writer {
    /// Runs a statement, makes the change visible, tells the visitor, and leads to the page where the task is or was.
    ///
    /// # Errors
    ///
    /// Those of the statement, and a session that was deleted meanwhile.
    ///
    /// # Cancel safety
    ///
    /// A visitor who leaves drops the handler, and the change is made all the same, in a task of its own: a task that
    /// is in the database must not stay out of the cached list.
    pub(super) async fn make(
        self,
        change: Change,
        statement: impl Future<Output = Result<Task, Unchanged>> + Send + 'static,
    ) -> Result<Response, Error> {
        let Self { db, listing, visitor, changes } = self;
        let made = changes.spawn(
            async move {
                let task = match statement.await {
                    Ok(task) => task,
                    Err(Unchanged::NotThere(id)) => return Ok(lead_to(&db, id).await),
                    Err(Unchanged::Failed(error)) => {
                        listing.failed(&error).await;
                        return Err(error.into());
                    }
                };
                tracing::info!(task.id, "task {change}");
                listing.changed(change, &task).await;
                let (response, told) = join(lead_to(&db, task.id), visitor.tell(change, &task)).await;
                told.map(|cookies| (cookies, response).into_response())
            }
            .in_current_span(),
        );
        if Mistake::AcknowledgesEarly.is_made() {
            return Ok(Redirect::to("/").into_response());
        }
        made.await.unwrap_or_else(|error| Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, error)))
    }
}

/// Leads to the page of a task, or to the first if the database cannot say which: the change is made by now, so nothing
/// here can fail the request.
async fn lead_to(db: &Database, id: i64) -> Response {
    let number = tasks::page_of(db, id).await.unwrap_or(1);
    let path = if number == 1 { "/".into() } else { format!("/?page={number}") };
    Redirect::to(&path).into_response()
}

impl<S> FromRequestParts<S> for Writer
where
    S: Send + Sync,
    Database: FromRef<S>,
    Listing: FromRef<S>,
    TaskTracker: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        Ok(Self {
            db: Database::from_ref(state),
            listing: Listing::from_ref(state),
            changes: TaskTracker::from_ref(state),
            visitor: Visitor::from_request_parts(parts, state).await?,
        })
    }
}
