//! The list and the two changes to it.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, FromRequest, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::cache::fragment::Fragments;
use crate::cache::query::CachedQuery;
use crate::cache::view::{Arrival, ViewCache};
use crate::db::{self, Database};
use crate::error::Error;
use crate::tasks::{self, InvalidName, Page, Task, TaskList, TaskName};
use crate::templates::{IndexPage, TaskRow};

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
#[from_request(via(axum::Form), rejection(Error))]
pub struct AddTask {
    #[serde(default)]
    name: String,
}

/// The form of `POST /remove`.
#[derive(Deserialize, FromRequest)]
#[from_request(via(axum::Form), rejection(Error))]
pub struct RemoveTask {
    #[serde(default)]
    id: String,
}

/// Shows a page of the list.
///
/// # Errors
///
/// The database's, if the list is not cached.
pub async fn index(
    State(db): State<Database>,
    State(list): State<CachedQuery<TaskList>>,
    State(rows): State<Fragments>,
    Extension(Arrival(arrival)): Extension<Arrival>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<IndexPage, Error> {
    let number = query.map_or(1, |Query(query)| query.number());
    let page = read_page(&db, &list, arrival, number).await?;
    Ok(IndexPage { rows: render(&rows, &page).await, page, name: String::new(), problem: None })
}

/// Adds a task and leads to the page it is on.
///
/// # Errors
///
/// The database's. A name that cannot be stored is answered with the form and a message.
pub async fn add(
    State(db): State<Database>,
    State(list): State<CachedQuery<TaskList>>,
    State(rows): State<Fragments>,
    State(pages): State<ViewCache>,
    State(changes): State<TaskTracker>,
    form: AddTask,
) -> Result<Response, Error> {
    let name = match TaskName::parse(&form.name) {
        Ok(name) => name,
        Err(problem) => return refuse(&db, &list, &rows, form.name, problem).await,
    };
    to_the_end(&changes, async move {
        let task = settle(tasks::add(&db, &name).await, &list, &pages).await?;
        tracing::info!(task.id, "task added");
        Ok(show_change(&db, &list, &pages, task.id).await)
    })
    .await
}

/// Removes a task and leads to the page it was on. One that is gone already is gone, which is what was asked for.
///
/// # Errors
///
/// The database's.
pub async fn remove(
    State(db): State<Database>,
    State(list): State<CachedQuery<TaskList>>,
    State(rows): State<Fragments>,
    State(pages): State<ViewCache>,
    State(changes): State<TaskTracker>,
    form: RemoveTask,
) -> Result<Response, Error> {
    let Ok(id) = form.id.trim().parse() else { return Ok(Redirect::to("/").into_response()) };
    to_the_end(&changes, async move {
        let Some(task) = settle(tasks::remove(&db, id).await, &list, &pages).await? else {
            return Ok(show(&db, id).await);
        };
        rows.delete(&row_of(&task)).await;
        tracing::info!(task.id = id, "task removed");
        Ok(show_change(&db, &list, &pages, id).await)
    })
    .await
}

/// Passes on what came of a write. One that got no answer may have happened, and then the cached list is old.
async fn settle<T>(
    result: Result<T, db::Error>,
    list: &CachedQuery<TaskList>,
    pages: &ViewCache,
) -> Result<T, Error> {
    if result.as_ref().is_err_and(db::Error::is_transient) {
        list.forget().await;
        pages.changed("/").await;
    }
    Ok(result?)
}

/// Makes a change visible and leads to where it can be seen. It is done by now, so nothing here can fail the request.
async fn show_change(db: &Database, list: &CachedQuery<TaskList>, pages: &ViewCache, id: i64) -> Response {
    list.changed(async || tasks::all(db).await).await;
    pages.changed("/").await;
    show(db, id).await
}

/// Leads to the page of a task, or to the first if the database cannot say which.
async fn show(db: &Database, id: i64) -> Response {
    let number = tasks::page_of(db, id).await.unwrap_or(1);
    let path = if number == 1 { "/".into() } else { format!("/?page={number}") };
    Redirect::to(&path).into_response()
}

async fn refuse(
    db: &Database,
    list: &CachedQuery<TaskList>,
    rows: &Fragments,
    name: String,
    problem: InvalidName,
) -> Result<Response, Error> {
    let page = read_page(db, list, Instant::now(), 1).await?;
    let form = IndexPage { rows: render(rows, &page).await, page, name, problem: Some(problem.to_string()) };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, form).into_response())
}

async fn read_page(
    db: &Database,
    list: &CachedQuery<TaskList>,
    arrival: Instant,
    number: usize,
) -> Result<Page, Error> {
    // Whoever waits for another's query must not wait for a query of their own as well.
    let deadline = arrival + db.patience();
    let list = timeout_at(deadline, list.get_or_set(async || tasks::all(db).await));
    match list.await.unwrap_or(Err(db::Error::Timeout))? {
        TaskList::Whole(tasks) => Ok(Page::of(tasks, number)),
        TaskList::TooLong => {
            // A page of a long list is a second query, as slow as the first pretends to be.
            let page = timeout_at(deadline + db.slow_query(), tasks::page(db, number));
            Ok(page.await.unwrap_or(Err(db::Error::Timeout))?)
        }
    }
}

/// Renders the rows of a page, or takes them from the cache.
async fn render(rows: &Fragments, page: &Page) -> Vec<String> {
    let render = |task: &Task| TaskRow { task }.render().expect("rendering into memory does not fail");
    rows.get_or_render(&page.tasks, row_of, render).await
}

/// All that a row shows, and so all that it depends on.
fn row_of(task: &Task) -> [String; 2] {
    [task.id.to_string(), task.name.clone()]
}

/// Runs a change to its end even if its visitor goes away half-way, which drops the view: a task that is in the
/// database must not stay out of the cached list.
async fn to_the_end(
    changes: &TaskTracker,
    change: impl Future<Output = Result<Response, Error>> + Send + 'static,
) -> Result<Response, Error> {
    changes
        .spawn(change.in_current_span())
        .await
        .unwrap_or_else(|error| Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, error)))
}
