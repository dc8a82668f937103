//! The pages: one struct per template, with everything that the template shows.

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

/// Digests of the templates whose output is cached, made by `build.rs`.
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
    /// The text in the form, kept if it was refused.
    pub name: String,
    /// Why the text was refused.
    pub problem: Option<String>,
    /// Messages for one visitor. A page with messages is never cached for others.
    pub messages: Vec<Message>,
}

/// One task of the list, with the form that removes it.
#[derive(Template)]
#[template(path = "tasks/_row.html")]
pub struct TaskRow<'a> {
    /// The task.
    pub task: &'a Task,
}

/// The response of the external service.
///
/// It shows when the response was fetched, and nothing that depends on the time of reading: the page is cached.
#[derive(Template, WebTemplate)]
#[template(path = "api_calls.html")]
pub struct ApiCallsPage {
    /// The response.
    pub answer: Answer,
    /// Whether the service has failed since.
    pub is_old: bool,
}

impl ApiCallsPage {
    /// In UTC, as in RFC 3339.
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

/// The state of the cache.
#[derive(Template, WebTemplate)]
#[template(path = "cache_stats.html")]
pub struct CacheStatsPage {
    /// The numbers.
    pub report: Report,
}

impl Layer {
    /// Returns the hit rate of the last half hour as points of lines, 24 high. A line ends where nothing was read.
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

/// An error, in words for the visitor.
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
