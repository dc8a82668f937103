//! What is logged, and in which form.

use tracing_subscriber::EnvFilter;

use super::env::{self, Variables};

/// Filter and format of the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `RUST_LOG`, `info` by default: a checked filter.
    pub filter: String,
    /// `LOG_FORMAT`, `text` by default.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl LogConfig {
    pub(super) fn from_variables(variables: &Variables) -> Result<Self, env::Error> {
        let levels = "error, warn, info, debug, trace, or per module: info,tasklist=debug";
        let filter = variables.parse("RUST_LOG", levels, |value| {
            EnvFilter::builder().parse(value).is_ok().then(|| value.to_owned())
        })?;
        let format = variables.parse("LOG_FORMAT", "text or json", |value| match value {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        })?;
        Ok(Self {
            filter: filter.unwrap_or_else(|| "info".into()),
            format: format.unwrap_or(LogFormat::Text),
        })
    }
}
