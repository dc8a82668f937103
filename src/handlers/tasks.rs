//! The list, and what visitors do to it: add, remove, and put back.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, FromRequest, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use tokio::time::Instant;

use super::form::Form;
use super::writer::{Unchanged, Writer};
use crate::error::Error;
use crate::listing::{Listing, label};
use crate::tasks::{self, Adder, InvalidName, Stamped, TaskName};
use crate::templates::IndexPage;
use crate::visitor::{Change, NO_COOKIES, SetCookies, Visitor};
use neverstale_axum::{PageContext, PageVersion};

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
    Extension(PageContext { arrival, version, is_personal, .. }): Extension<PageContext>,
    visitor: Visitor,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<(SetCookies, Extension<PageVersion>, IndexPage), Error> {
    // Before the list is read, which so has the changes of all messages that are found.
    let waiting = if is_personal { visitor.waiting().await } else { None };
    let number = query.map_or(1, |Query(query)| query.number());
    let Stamped { stamp, value: page } = listing.page(arrival, version, number).await?;
    let rows = listing.rows(&page).await;
    // When the page is there: one that fails must not cost the messages.
    let (messages, cookies) = match waiting {
        Some(waiting) => waiting.take().await,
        None => (vec![], NO_COOKIES),
    };
    let page = IndexPage { rows, page, name: String::new(), problem: None, messages };
    Ok((cookies, Extension(label(stamp)), page))
}

/// Adds a task and leads to the page it is on.
///
/// # Errors
///
/// The database's, and a session that was deleted meanwhile. A name that cannot be stored is no error: the response is
/// the form again, with a message.
pub async fn add(writer: Writer, State(adder): State<Adder>, form: AddTask) -> Result<Response, Error> {
    let name = match TaskName::parse(&form.name) {
        Ok(name) => name,
        Err(problem) => return refuse(&writer.listing, form.name, problem).await,
    };
    writer.make(Change::Added, async move { Ok(adder.add(name).await?) }).await
}

/// Removes a task and leads to the page it was on. An unknown id is no error: the task is gone, as asked for.
///
/// # Errors
///
/// The database's, and a session that was deleted meanwhile.
pub async fn remove(writer: Writer, form: RemoveTask) -> Result<Response, Error> {
    let Ok(id) = form.id.trim().parse() else { return Ok(Redirect::to("/").into_response()) };
    let db = writer.db.clone();
    let statement = async move { tasks::remove(&db, id).await?.ok_or(Unchanged::NotThere(id)) };
    writer.make(Change::Removed, statement).await
}

/// Puts back what this visitor removed last, if it was not put back since, and leads to the page it is on.
///
/// # Errors
///
/// The database's, and the session's.
pub async fn undo(writer: Writer) -> Result<Response, Error> {
    let Some(task) = writer.visitor.last_removed().await? else {
        return Ok(Redirect::to("/").into_response());
    };
    let db = writer.db.clone();
    writer.make(Change::PutBack, async move { Ok(tasks::put_back(&db, &task).await?) }).await
}

async fn refuse(listing: &Listing, name: String, problem: InvalidName) -> Result<Response, Error> {
    let page = listing.page(Instant::now(), None, 1).await?.value;
    let (rows, problem) = (listing.rows(&page).await, Some(problem.to_string()));
    let form = IndexPage { rows, page, name, problem, messages: vec![] };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, form).into_response())
}
