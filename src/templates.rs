//! The pages: one struct per template, with all that it shows.

mod words;

use std::fmt::Display;
use std::sync::Arc;

use askama::Template;
use askama_web::WebTemplate;

use crate::assets;
use crate::monitor::{Layer, Report};
use crate::tasks::{Page, Task};
use crate::upstream::Answer;
use crate::visitor::{Change, Message};

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
    pub rows: Vec<Arc<str>>,
    /// The form's text, kept when it was refused.
    pub name: String,
    /// Why the text was refused.
    pub problem: Option<String>,
    /// What one visitor is told: a page with messages is theirs alone.
    pub messages: Vec<Message>,
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

/// What is to be seen of the cache.
#[derive(Template, WebTemplate)]
#[template(path = "cache_stats.html")]
pub struct CacheStatsPage {
    /// All of it.
    pub report: Report,
}

impl Layer {
    /// Returns the hit rate of the last half hour as the points of lines, 24 high, which end where nobody asked.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![];
        let mut line = String::new();
        let start = 181_usize.saturating_sub(self.history.len());
        for (point, x) in self.history.iter().zip(start..) {
            match point.hit_rate() {
                Some(rate) => {
                    let y = 22.5 - rate * 21.0;
                    line += &format!("{x},{y:.1} {},{y:.1} ", x + 1);
                }
                None if line.is_empty() => {}
                None => lines.push(std::mem::take(&mut line)),
            }
        }
        lines.extend(Some(line).filter(|line| !line.is_empty()));
        lines
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
