//! The pages: one struct per template, with all that it shows.

use askama::Template;
use askama_web::WebTemplate;

use crate::assets;
use crate::tasks::{Page, Task};

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
}

/// One task of the list, with the form that removes it.
#[derive(Template)]
#[template(path = "tasks/_row.html")]
pub struct TaskRow<'a> {
    /// The task.
    pub task: &'a Task,
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
