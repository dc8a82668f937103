//! What is logged, and in which form.

use tracing_subscriber::EnvFilter;

use super::env::{self, Variables};

/// What our modules' names begin with.
const OURS: [&str; 3] = ["neverstale", "tasklist", "tokio_memcached"];

/// Filter and format of the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `RUST_LOG`, a checked filter. Without it each command has its own.
    pub filter: Option<String>,
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
    /// What a server logs where `RUST_LOG` is not set. Postgres gives notice of what a migration finds in place, and
    /// `tower-sessions` of every cookie that has outlived its session.
    pub const INFO: &str = "info,sqlx::postgres::notice=warn,tower_sessions_core=off";

    pub(super) fn from_variables(variables: &Variables) -> Result<Self, env::Error> {
        let levels = "error, warn, info, debug, trace, or per module: info,tasklist=debug";
        let filter = variables.parse("RUST_LOG", levels, |value| {
            // The parser would take a blank for a part of a module's name.
            let directives: Vec<_> =
                value.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
            let value = directives.join(",");
            let is_filter =
                EnvFilter::builder().parse(&value).is_ok() && directives.into_iter().all(is_directive);
            is_filter.then_some(value)
        })?;
        let format = variables.choice("LOG_FORMAT", "text or json", |value| match value {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        })?;
        Ok(Self { filter, format: format.unwrap_or(LogFormat::Text) })
    }
}

/// A misspelt level would be taken for a module's name, and switch off the log of all others.
fn is_directive(text: &str) -> bool {
    let is_level = |text: &str| text == "off" || text.parse::<tracing::Level>().is_ok();
    let is_ours = OURS.iter().any(|name| text.starts_with(name));
    text.contains('=') || is_ours || is_level(&text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        let config = |filter| LogConfig::from_variables(&Variables::from([("RUST_LOG", filter)]));
        for filter in ["info", "WARN", "off", "info,tasklist=debug", "tasklist::db", "neverstale_axum"] {
            assert_eq!(config(filter).unwrap().filter.as_deref(), Some(filter));
        }
        for filter in ["info,tasklist=debug,", " info , tasklist=debug", "info,,tasklist=debug"] {
            assert_eq!(config(filter).unwrap().filter.as_deref(), Some("info,tasklist=debug"));
        }
        for filter in ["debugg", "loud", "info,=,"] {
            assert!(config(filter).is_err(), "{filter}");
        }
    }
}
