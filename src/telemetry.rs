//! The log: readable lines or JSON.

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogConfig;
use crate::config::log::LogFormat;

/// Starts logging to a stream: standard output for a server, whose log is its output; standard error for commands.
/// `default` is the filter where `RUST_LOG` is not set; `ansi` colours the lines, for a terminal.
pub fn init<W>(config: &LogConfig, default: &str, writer: W, ansi: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(config.filter.as_deref().unwrap_or(default));
    let log = fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    match config.format {
        LogFormat::Text => log.with_ansi(ansi).init(),
        // A request has one span, and its name stands in it.
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }
}
