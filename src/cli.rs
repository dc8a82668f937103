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
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::cache::CacheCommand;
use self::output::{Unwritten, say};
use crate::config::{Config, ConfigArgs, LogConfig, env};
use crate::telemetry::{self, Output};

/// A task list that shows how to cache a web application well.
///
/// Each option that names a variable in [env: …] can also be set by that variable, in the environment or in a file .env
/// in the current directory. What is typed wins, then the environment; a blank variable counts as not set. Prefer
/// variables for passwords and keys: other users of a machine can see what is typed.
///
/// Exit codes: 0, it is done; 1, it failed, what was asked for did not happen, a variable is wrong, or standard output
/// could not be written; 2, it was asked for wrongly.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
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
    let Err(error) = run() else { return ExitCode::SUCCESS };
    let is_reader_gone = error.downcast_ref().is_some_and(Unwritten::is_reader_gone);
    let usage = error.downcast_ref::<clap::Error>();
    if let Some(usage) = usage.filter(|_| io::stderr().is_terminal()) {
        // With colours.
        let _ = usage.print();
    } else if !is_reader_gone && let Ok(errors) = Output::new(&io::stderr()) {
        // A server must end although nobody reads what it says.
        let message = usage.map_or_else(|| format!("tasklist: {error:#}"), ToString::to_string);
        errors.say(message.trim_end());
    }
    let is_typed_wrongly = || env::without_variables(Cli::command()).try_get_matches().is_err();
    if usage.is_some() && is_typed_wrongly() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Runs the command to its end.
///
/// # Errors
///
/// What failed or did not happen, with what to do, and its causes.
fn run() -> Result<()> {
    let loaded = env::load();
    let matches = match command().try_get_matches() {
        Err(help) if !help.use_stderr() => return print_help(&help),
        matches => {
            loaded?;
            matches?
        }
    };
    let cli = Cli::from_arg_matches(&matches)?;
    let config = Config::try_from(cli.config)?;
    let command = cli.command.unwrap_or(Command::Serve);
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

/// Returns the command line: every option can be typed at any command, whose help lists those that concern it.
fn command() -> clap::Command {
    let mut command = env::with_variables(Cli::command());
    // Only now have the commands below it the options.
    command.build();
    command
        .mut_subcommand("migrate", |command| listing(command, &["General", "Database", "Log"]))
        .mut_subcommand("clearsessions", |command| {
            listing(command, &["General", "Database", "Cache", "Sessions", "Log"])
        })
        .mut_subcommand("shell", |command| listing(command, &["General", "Database", "Cache", "Log"]))
        .mut_subcommand("cache", |command| {
            let command = command.mut_subcommands(|verb| listing(verb, &[]));
            listing(command, &["General", "Database", "Cache", "Log"])
        })
}

/// Leaves the options below other headings out of the help of a command.
fn listing(command: clap::Command, headings: &[&str]) -> clap::Command {
    command.mut_args(|arg| {
        let is_foreign = arg.get_help_heading().is_some_and(|heading| !headings.contains(&heading));
        let is_hidden = is_foreign || arg.is_hide_set();
        arg.hide(is_hidden)
    })
}

fn print_help(help: &clap::Error) -> Result<()> {
    if io::stdout().is_terminal() {
        // With colours.
        help.print()?;
    } else {
        say(help.render().to_string().trim_end())?;
    }
    Ok(())
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
