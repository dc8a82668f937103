//! The log: readable lines or JSON.
//!
//! A server writes its log by way of [`Output`], and nothing else to its standard streams while it serves: writing the
//! log is best effort, and never panics, blocks a request or keeps the process from ending.

mod output;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;
use std::thread;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogConfig;
use crate::config::log::LogFormat;

pub use self::output::{Output, lost_lines};

/// Starts logging to a stream: standard output for a server, whose log is its output; standard error for commands.
/// `default` is the filter where `RUST_LOG` is not set; `ansi` colours the lines, for a terminal.
pub fn init<W>(config: &LogConfig, default: &str, writer: W, ansi: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(config.filter.as_deref().unwrap_or(default));
    // Otherwise an error of the writer would be printed to standard error, with a panic if that fails as well.
    let log = fmt().with_env_filter(filter).with_writer(writer).with_target(false).log_internal_errors(false);
    match config.format {
        LogFormat::Text => log.with_ansi(ansi).init(),
        // A request has one span, and its name stands in it.
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }
}

/// Sends panics to the log. By default the thread that panics writes to standard error, and waits for its reader.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a value that is no text");
        let place = panic.location().map(tracing::field::display);
        let backtrace = Backtrace::capture();
        // As a text, whose line ends are escaped.
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        let thread = thread::current();
        tracing::error!(place, thread = thread.name(), backtrace, "panicked: {message}");
    }));
}
