//! The pages: one struct per template, with all that it shows.

use std::fmt::Display;

use askama::Template;
use askama_web::WebTemplate;

use crate::assets;
use crate::tasks::{Page, Task};
use crate::upstream::Answer;
use crate::visitor::{Change, Messages};

/// Digests of the templates whose output is cached, made by the build.
pub mod digest {
    include!(concat!(env!("OUT_DIR"), "/digests.rs"));
}

/// The list, with the form that adds to it.
#[derive(Template, WebTemplate)]
#[template(path = "index.html")]
pub struct IndexPage {
    /// The tasks shown.
    pub page: Page,
    /// A [`TaskRow`] for each of them, rendered.
    pub rows: Vec<String>,
    /// The form's text, kept when it was refused.
    pub name: String,
    /// Why the text was refused.
    pub problem: Option<String>,
    /// What one visitor is told: a page with messages is theirs alone.
    pub messages: Messages,
}

/// One task of the list, with the form that removes it.
#[derive(Template)]
#[template(path = "tasks/_row.html")]
pub struct TaskRow<'a> {
    /// The task.
    pub task: &'a Task,
}

/// What an external service answered. It shows when, and nothing that depends on when the page is looked at: a page
/// that is cached as a whole must not say that it is fresh.
#[derive(Template, WebTemplate)]
#[template(path = "api_calls.html")]
pub struct ApiCallsPage {
    /// The answer.
    pub answer: Answer,
    /// Whether it is shown for want of a newer one.
    pub is_old: bool,
}

impl ApiCallsPage {
    /// As RFC 3339 has it, in UTC.
    fn fetched_at(&self) -> impl Display {
        humantime::format_rfc3339_seconds(self.answer.fetched_at)
    }

    fn fetched_at_in_words(&self) -> String {
        self.fetched_at().to_string().replace('T', " ").replace('Z', " UTC")
    }

    fn seconds(&self) -> String {
        format!("{:.2}", self.answer.took.as_secs_f64())
    }
}

/// What went wrong, in words for the visitor.
#[derive(Template)]
#[template(path = "error.html")]
pub struct ErrorPage {
    /// The status code.
    pub status: u16,
    /// What happened.
    pub title: &'static str,
    /// What to do.
    pub advice: &'static str,
    /// The cause, for developers only.
    pub detail: Option<String>,
}
