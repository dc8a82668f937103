//! The commands.

mod cache;
mod check;
mod clear_sessions;
mod migrate;
mod output;
mod remedy;
mod serve;
mod shell;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::cache::CacheCommand;
use self::output::{Unwritten, say};
use crate::config::{Config, LogConfig, Variables};
use crate::telemetry::{self, Output};

/// A task list that shows how to cache a web application well.
///
/// What it runs on is set by environment variables or in a file `.env` in the current directory: HOST, PORT,
/// DATABASE_URL, DATABASE_CA_CERT, DEVELOPMENT_MODE, DEBUG, ALLOWED_HOSTS, SECRET_KEY, MEMCACHIER_SERVERS,
/// MEMCACHIER_USERNAME, MEMCACHIER_PASSWORD, MEMCACHE_CLIENT, CACHE_URL, CACHE_KEY_PREFIX, CACHE_STRATEGY, CACHE_LOCAL,
/// CACHE_SIGNED, SESSION_ENGINE, SLOW_QUERY, API_URL, POST_LIMIT, TRUSTED_HOPS, ADMIN_PASSWORD, RUST_LOG, LOG_FORMAT. A
/// wrong value is answered with what is accepted.
///
/// Exit codes: 0, it is done; 1, it failed, what was asked for did not happen, or standard output could not be written;
/// 2, it was asked for wrongly.
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
    /// 1,000,000 bytes. The keys of this, `~tasklist:check:…`, are removed again.
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
    /// comment. Lines can also be piped in: results, misses among them, go to standard output, what failed to standard
    /// error, all lines are done, and the exit code is 1 if one of them failed.
    ///
    /// The prompt keeps its history in `~/.tasklist_history`, without the lines that hold a value.
    Shell,
}

/// Runs the command that the process was started with, says what fails, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) if error.use_stderr() => {
            let _ = error.print();
            return ExitCode::from(2);
        }
        // With colours.
        Err(help) if io::stdout().is_terminal() => help.print().map_err(Into::into),
        Err(help) => say(help.render().to_string().trim_end()).map_err(Into::into),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    let is_reader_gone = error.downcast_ref().is_some_and(Unwritten::is_reader_gone);
    // A server must end although nobody reads what it says.
    if !is_reader_gone && let Ok(errors) = Output::new(&io::stderr()) {
        errors.say(&format!("tasklist: {error:#}"));
    }
    ExitCode::FAILURE
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
            Command::Serve => serve::start(&config, &runtime),
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
    /// A command's log must not get into its output. A server's log is its output, and `serve` starts it.
    fn start_log(&self, config: &Config) {
        let default = match self {
            Self::Serve => return,
            Self::Migrate => LogConfig::INFO,
            _ => "warn",
        };
        telemetry::init(&config.log, default, io::stderr, io::stderr().is_terminal());
    }
}
