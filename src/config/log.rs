//! What is logged, and in which form.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::value::{Trimmed, choice};

/// What our modules' names begin with.
const OURS: [&str; 3] = ["neverstale", "tasklist", "tokio_memcached"];

/// Filter and format of the log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct LogConfig {
    /// Which lines are logged: error, warn, info, debug, trace or off, or per module, as in info,tasklist=debug; by
    /// default info, and for commands other than `serve` and `migrate` warn
    #[arg(long = "rust-log", env = "RUST_LOG", value_name = "RUST_LOG", value_parser = Trimmed(parse_filter))]
    pub filter: Option<String>,
    /// Form of a line
    #[arg(long = "log-format", env = "LOG_FORMAT", value_name = "LOG_FORMAT")]
    #[arg(default_value = "text", value_parser = choice::<LogFormat>())]
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line, for machines
    Json,
}

impl LogConfig {
    /// What a server logs where `RUST_LOG` is not set. Postgres gives notice of what a migration finds in place, and
    /// `tower-sessions` of every cookie that has outlived its session.
    pub const INFO: &str = "info,sqlx::postgres::notice=warn,tower_sessions_core=off";
}

fn parse_filter(value: &str) -> Result<String, &'static str> {
    // The parser would take a blank for a part of a module's name.
    let directives: Vec<_> = value.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
    let filter = directives.join(",");
    if EnvFilter::builder().parse(&filter).is_ok() && directives.into_iter().all(is_directive) {
        Ok(filter)
    } else {
        Err("expected error, warn, info, debug, trace, or per module: info,tasklist=debug")
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
        for filter in ["info", "WARN", "off", "info,tasklist=debug", "tasklist::db", "neverstale_axum"] {
            assert_eq!(parse_filter(filter).as_deref(), Ok(filter));
        }
        for filter in ["info,tasklist=debug,", " info , tasklist=debug", "info,,tasklist=debug"] {
            assert_eq!(parse_filter(filter).as_deref(), Ok("info,tasklist=debug"));
        }
        for filter in ["debugg", "loud", "info,=,"] {
            assert!(parse_filter(filter).is_err(), "{filter}");
        }
    }
}
