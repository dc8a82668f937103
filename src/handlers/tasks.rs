//! The list, and what visitors do to it: add, remove, and put back.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, FromRequest, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::future::join;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::form::Form;
use crate::db::Database;
use crate::error::Error;
use crate::listing::{Listing, label};
use crate::mistake::Mistake;
use crate::tasks::{self, Adder, InvalidName, Stamped, TaskName};
use crate::templates::IndexPage;
use crate::visitor::{Change, Visitor, Waiting};
use neverstale_axum::{Arrival, CurrentVersion, PageVersion};

/// `?page=N`. Anything that is no number means the first page.
#[derive(Deserialize)]
pub struct ListQuery {
    page: Option<String>,
}

impl ListQuery {
    fn number(&self) -> usize {
        self.page.as_deref().and_then(|page| page.parse().ok()).unwrap_or(1)
    }
}

/// The form of `POST /add`.
#[derive(Deserialize, FromRequest)]
#[from_request(via(Form), rejection(Error))]
pub struct AddTask {
    #[serde(default)]
    name: String,
}

/// The form of `POST /remove`.
#[derive(Deserialize, FromRequest)]
#[from_request(via(Form), rejection(Error))]
pub struct RemoveTask {
    #[serde(default)]
    id: String,
}

/// Shows a page of the list.
///
/// # Errors
///
/// The database's.
pub async fn index(
    State(listing): State<Listing>,
    Extension(Arrival(arrival)): Extension<Arrival>,
    asked: Option<Extension<CurrentVersion>>,
    waiting: Option<Extension<Waiting>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<(Extension<PageVersion>, IndexPage), Error> {
    let number = query.map_or(1, |Query(query)| query.number());
    let Stamped { stamp, value: page } =
        listing.page(arrival, asked.map(|Extension(asked)| asked), number).await?;
    let rows = listing.rows(&page).await;
    // When the page is there: one that fails must not cost the messages.
    let messages = match waiting {
        Some(Extension(waiting)) => waiting.take().await,
        None => vec![],
    };
    let page = IndexPage { rows, page, name: String::new(), problem: None, messages };
    Ok((Extension(label(stamp)), page))
}

/// Adds a task and leads to the page it is on.
///
/// # Errors
///
/// The database's, and a session that was deleted meanwhile. A name that cannot be stored is answered with the form and
/// a message.
pub async fn add(
    State(db): State<Database>,
    State(adder): State<Adder>,
    State(listing): State<Listing>,
    State(changes): State<TaskTracker>,
    visitor: Visitor,
    form: AddTask,
) -> Result<Response, Error> {
    let name = match TaskName::parse(&form.name) {
        Ok(name) => name,
        Err(problem) => return refuse(&listing, form.name, problem).await,
    };
    to_the_end(&changes, async move {
        let task = listing.settle(adder.add(name).await).await?;
        tracing::info!(task.id, "task added");
        listing.changed().await;
        told(show(&db, task.id), visitor.tell(Change::Added, &task)).await
    })
    .await
}

/// Removes a task and leads to the page it was on. One that is gone already is gone, which is what was asked for.
///
/// # Errors
///
/// The database's, and a session that was deleted meanwhile.
pub async fn remove(
    State(db): State<Database>,
    State(listing): State<Listing>,
    State(changes): State<TaskTracker>,
    visitor: Visitor,
    form: RemoveTask,
) -> Result<Response, Error> {
    let Ok(id) = form.id.trim().parse() else { return Ok(Redirect::to("/").into_response()) };
    to_the_end(&changes, async move {
        let Some(task) = listing.settle(tasks::remove(&db, id).await).await? else {
            return Ok(show(&db, id).await);
        };
        tracing::info!(task.id, "task removed");
        listing.removed(&task).await;
        told(show(&db, id), visitor.tell(Change::Removed, &task)).await
    })
    .await
}

/// Puts back what this visitor removed last, if it was not put back since, and leads to the page it is on.
///
/// # Errors
///
/// The database's, and a session that was deleted meanwhile.
pub async fn undo(
    State(db): State<Database>,
    State(listing): State<Listing>,
    State(changes): State<TaskTracker>,
    visitor: Visitor,
) -> Result<Response, Error> {
    let Some(task) = visitor.last_removed().await? else { return Ok(Redirect::to("/").into_response()) };
    to_the_end(&changes, async move {
        // Before the session forgets it. Who undoes twice finds it there.
        let put_back = listing.settle(tasks::put_back(&db, &task).await).await?;
        if let Some(task) = &put_back {
            tracing::info!(task.id, "task put back");
            listing.changed().await;
        }
        let task = put_back.unwrap_or(task);
        told(show(&db, task.id), visitor.tell(Change::PutBack, &task)).await
    })
    .await
}

/// Leads on from a change that is done, once its visitor's message is stored.
async fn told(
    response: impl Future<Output = Response>,
    message: impl Future<Output = Result<(), Error>>,
) -> Result<Response, Error> {
    let (response, message) = join(response, message).await;
    message.map(|()| response)
}

/// Leads to the page of a task, or to the first if the database cannot say which: what was asked for is done by now, so
/// nothing here can fail the request.
async fn show(db: &Database, id: i64) -> Response {
    let number = tasks::page_of(db, id).await.unwrap_or(1);
    let path = if number == 1 { "/".into() } else { format!("/?page={number}") };
    Redirect::to(&path).into_response()
}

async fn refuse(listing: &Listing, name: String, problem: InvalidName) -> Result<Response, Error> {
    let page = listing.page(Instant::now(), None, 1).await?.value;
    let (rows, problem, messages) = (listing.rows(&page).await, Some(problem.to_string()), vec![]);
    let form = IndexPage { rows, page, name, problem, messages };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, form).into_response())
}

/// Runs a change to its end even if its visitor goes away half-way, which drops the handler: a task that is in the
/// database must not stay out of the cached list.
async fn to_the_end(
    changes: &TaskTracker,
    change: impl Future<Output = Result<Response, Error>> + Send + 'static,
) -> Result<Response, Error> {
    let done = changes.spawn(change.in_current_span());
    if Mistake::AcknowledgesEarly.is_made() {
        return Ok(Redirect::to("/").into_response());
    }
    done.await.unwrap_or_else(|error| Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, error)))
}
