//! A bad night: what the program depends on fails, all of it for a while, and the program goes on by itself.

mod memcached;
mod pool;
mod postgres;
mod refusals;
mod sqlite;

use crate::support::app::App;
use testkit::page::Page;
use testkit::wait_until;

/// The connections of an app to its database, without the one for version checks.
const CONNECTIONS: usize = 8;

/// Words that no page has without `DEBUG`.
const SECRETS: [&str; 6] = ["sqlx", "select ", "insert into", "list_state", "code:", "os error"];

/// Asserts a page that says when to try again and nothing about the inside.
#[track_caller]
fn assert_unavailable(page: &Page) {
    page.assert_error(503);
    assert_eq!(page.header("retry-after"), Some("5"));
    assert_discreet(page);
}

#[track_caller]
pub fn assert_discreet(page: &Page) {
    let body = page.body.to_lowercase();
    assert!(!SECRETS.iter().any(|secret| body.contains(secret)), "{}", page.body);
}

/// Asserts that each of so many failures has a line of its own in the log, and nothing has panicked.
#[track_caller]
pub fn assert_logged(app: &App, failures: usize) {
    let lines = || app.output().lines().filter(|line| line.contains("ERROR")).count();
    // A response may arrive before its log line.
    wait_until("each failure is in the log", || lines() >= failures);
    let output = app.output();
    assert_eq!(lines(), failures, "{output}");
    assert!(!output.contains("panicked"), "{output}");
}

/// Adds tasks at the same time and returns the answers' statuses.
pub async fn add_at_once(app: &App, names: impl Iterator<Item = String>) -> Vec<u16> {
    at_once(names.map(|name| app.request("POST", "/add").form(&[("name", name)])).collect()).await
}

/// Removes so many tasks that are not there, each in a statement of its own, and returns the answers' statuses.
async fn remove_at_once(app: &App, count: usize) -> Vec<u16> {
    let remove = |id: usize| app.request("POST", "/remove").form(&[("id", (1_000_000 + id).to_string())]);
    at_once((0..count).map(remove).collect()).await
}

async fn at_once(requests: Vec<reqwest::RequestBuilder>) -> Vec<u16> {
    let answers: Vec<_> = requests.into_iter().map(|request| tokio::spawn(request.send())).collect();
    let mut statuses = vec![];
    for answer in answers {
        statuses.push(answer.await.unwrap().unwrap().status().as_u16());
    }
    statuses
}

pub fn names(word: &str, count: usize) -> impl Iterator<Item = String> + use<> {
    let word = word.to_owned();
    (0..count).map(move |number| format!("{word} {number}"))
}
