//! The pages: one struct per template, with all that it shows.

use askama::Template;
use askama_web::WebTemplate;

use crate::assets;
use crate::tasks::Page;

/// The list, with the form that adds to it.
#[derive(Template, WebTemplate)]
#[template(path = "index.html")]
pub struct IndexPage {
    /// The tasks shown.
    pub page: Page,
    /// The form's text, kept when it was refused.
    pub name: String,
    /// Why the text was refused.
    pub problem: Option<String>,
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
