//! The commands.

mod cache;
mod check;
mod clear_sessions;
mod migrate;
mod remedy;
mod serve;
mod shell;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::cache::CacheCommand;
use crate::config::{Config, LogConfig, Variables};
use crate::telemetry;

/// A task list that shows how to cache a web application well.
///
/// What it runs on is set by environment variables or in a file `.env` in the current directory: HOST, PORT,
/// DATABASE_URL, DATABASE_CA_CERT, DEVELOPMENT_MODE, DEBUG, ALLOWED_HOSTS, SECRET_KEY, MEMCACHIER_SERVERS,
/// MEMCACHIER_USERNAME, MEMCACHIER_PASSWORD, MEMCACHE_CLIENT, CACHE_URL, CACHE_KEY_PREFIX, CACHE_STRATEGY, CACHE_LOCAL,
/// CACHE_SIGNED, SESSION_ENGINE, SLOW_QUERY, API_URL, POST_LIMIT, TRUSTED_HOPS, ADMIN_PASSWORD, RUST_LOG, LOG_FORMAT. A
/// wrong value is answered with what is accepted.
///
/// Exit codes: 0, it is done; 1, it failed, or what was asked for did not happen; 2, it was asked for wrongly.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the task list (the default).
    Serve,
    /// Bring the database's tables up to date.
    Migrate,
    /// Remove the sessions that have expired from the database.
    ///
    /// `serve` does so every hour by itself. With SESSION_ENGINE=cache there are none: a cache forgets by itself.
    #[command(name = "clearsessions")]
    ClearSessions,
    /// Try configuration, database and cache, and say what is wrong with them.
    ///
    /// Each cache server is logged in to, stores a value and returns it, keeps one for 31 days, and takes one of
    /// 1,000,000 bytes. The keys of this, `tasklist:check:…`, are removed again.
    Check {
        /// Print one JSON object: {"ok":false,"checks":[{"what":…,"ok":true,"found":…,"took_ms":0.4},
        /// {"what":…,"ok":false,"cause":…,"remedy":…}]}.
        #[arg(long)]
        json: bool,
    },
    Cache(CacheCommand),
    /// Open a prompt for operations on the cache, in one process.
    ///
    /// The verbs are those of `tasklist cache`; `help` lists them. Values with blanks go into quotes, and # begins a
    /// comment. Lines can also be piped in: results go to standard output, what failed to standard error, all lines are
    /// done, and the exit code is 1 if one of them failed.
    ///
    /// The prompt keeps its history in `~/.tasklist_history`, without the lines that hold a value.
    Shell,
}

impl Cli {
    /// Runs the command to its end.
    ///
    /// # Errors
    ///
    /// What failed or did not happen, with what to do, and its causes.
    pub fn run(self) -> Result<()> {
        let config = Config::from_variables(&Variables::read()?)?;
        let command = self.command.unwrap_or(Command::Serve);
        command.start_log(&config);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = match &command {
            Command::Serve => runtime.block_on(serve::run(&config)),
            Command::Migrate => runtime.block_on(migrate::run(&config)),
            Command::ClearSessions => runtime.block_on(clear_sessions::run(&config)),
            Command::Check { json } => runtime.block_on(check::run(&config, *json)),
            Command::Cache(command) => runtime.block_on(cache::run(&config, command)),
            Command::Shell => shell::run(&config, &runtime),
        };
        // A blocking call to a server that hangs must not keep the program from ending.
        runtime.shutdown_background();
        result
    }
}

impl Command {
    /// A server's log is its output; a command's must not get into it.
    fn start_log(&self, config: &Config) {
        let log = &config.log;
        let (output, errors) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        match self {
            Self::Serve => telemetry::init(log, LogConfig::INFO, io::stdout, output),
            Self::Migrate => telemetry::init(log, LogConfig::INFO, io::stderr, errors),
            _ => telemetry::init(log, "warn", io::stderr, errors),
        }
    }
}

/// Prints a line for people. Whoever has stopped reading is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Prints a result and a newline.
///
/// # Errors
///
/// If it could not be written. Whoever has stopped reading is no reason to fail.
fn print(result: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let written = [result, b"\n"].into_iter().try_for_each(|part| output.write_all(part));
    match written.and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Returns a duration as JSON has it: milliseconds, exact to a microsecond.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
