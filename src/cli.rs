//! The commands.

mod check;
mod migrate;
mod serve;

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::config::{Config, Variables};
use crate::telemetry;

/// A task list that shows how to cache a web application well.
///
/// What it runs on is set by environment variables or in a file `.env` in the current directory: HOST, PORT,
/// DATABASE_URL, DEVELOPMENT_MODE, DEBUG, ALLOWED_HOSTS, MEMCACHIER_SERVERS, MEMCACHIER_USERNAME, MEMCACHIER_PASSWORD,
/// MEMCACHE_CLIENT, CACHE_URL, CACHE_KEY_PREFIX, CACHE_STRATEGY, SLOW_QUERY, RUST_LOG, LOG_FORMAT. A wrong value is answered with what
/// is accepted.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Serve the task list (the default).
    Serve,
    /// Bring the database's tables up to date.
    Migrate,
    /// Try configuration, database and cache, and say what is wrong with them.
    Check,
}

impl Cli {
    /// Runs the command to its end.
    ///
    /// # Errors
    ///
    /// What failed, with what to do, and its causes.
    pub fn run(self) -> Result<()> {
        let config = Config::from_variables(&Variables::read()?)?;
        let command = self.command.unwrap_or(Command::Serve);
        match command {
            Command::Serve => telemetry::init(&config.log, io::stdout, io::stdout().is_terminal()),
            Command::Migrate | Command::Check => {
                telemetry::init(&config.log, io::stderr, io::stderr().is_terminal());
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            match command {
                Command::Serve => serve::run(&config).await,
                Command::Migrate => migrate::run(&config).await,
                Command::Check => check::run(&config).await,
            }
        });
        // A blocking call to a server that hangs must not keep the program from ending.
        runtime.shutdown_background();
        result
    }
}

/// Prints a line for people. Whoever has stopped reading is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
