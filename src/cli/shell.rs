//! `tasklist shell`: the verbs of `tasklist cache` line by line, in one process, at a prompt or from a pipe.

mod prompt;

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tokio::runtime::Runtime;

use self::prompt::Prompt;
use super::cache::{Verb, prepare};
use super::output::{Unwritten, note, say};
use super::remedy::Place;
use crate::app::AppState;
use crate::config::Config;
use neverstale::Cache;

/// What can be typed:
#[derive(Debug, Parser)]
#[command(multicall = true, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
enum Command {
    #[command(flatten)]
    Cache(Verb),
    /// Leave; so does Ctrl-D.
    #[command(visible_alias = "exit")]
    Quit,
}

/// What a line came to.
enum Reply {
    Done,
    Failed(String),
    Quit,
}

struct Shell<'a> {
    cache: Cache,
    place: Place,
    runtime: &'a Runtime,
}

/// Runs on the main thread, which may wait for a key; the cache's own tasks run on those of the runtime.
pub(super) fn run(config: &Config, runtime: &Runtime) -> Result<()> {
    let _context = runtime.enter();
    runtime.block_on(prepare(config));
    let shell = Shell { cache: AppState::from_config(config)?.cache, place: Place::of(config), runtime };
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        shell.run_prompt()
    } else {
        shell.run_lines()
    }
}

impl Shell<'_> {
    fn run_prompt(&self) -> Result<()> {
        let mut prompt =
            Prompt::new(Command::command()).context("failed to open a prompt on this terminal")?;
        say(&format!("cache {}", self.cache))?;
        say("help lists the verbs, Tab completes them, quit or Ctrl-D leaves")?;
        while let Some(line) = prompt.read()? {
            let command = parse(line.as_bytes());
            // A line that is not understood may hold a value as well.
            if matches!(&command, Ok(Some(Command::Cache(verb))) if !verb.has_value()) {
                prompt.keep(&line);
            }
            match self.execute(command)? {
                Reply::Done => {}
                Reply::Failed(why) => note(&why),
                Reply::Quit => break,
            }
        }
        Ok(())
    }

    /// Executes all lines of standard input, also after one that failed or whose result could not be written.
    fn run_lines(&self) -> Result<()> {
        let (mut failed, mut written) = (0, Ok(()));
        for (number, line) in (1_u64..).zip(io::stdin().lock().split(b'\n')) {
            let line = line.context("failed to read standard input")?;
            // Some editors put a byte order mark before everything else.
            let line =
                if number == 1 { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line) } else { &line };
            match self.execute(parse(line)) {
                Ok(Reply::Done) => {}
                Ok(Reply::Failed(why)) => {
                    failed += 1;
                    note(&format!("line {number}: {why}"));
                }
                Ok(Reply::Quit) => break,
                Err(unwritten) => written = Err(unwritten),
            }
        }
        written?;
        match failed {
            0 => Ok(()),
            1 => bail!("1 line failed"),
            _ => bail!("{failed} lines failed"),
        }
    }

    fn execute(&self, command: Result<Option<Command>, clap::Error>) -> Result<Reply, Unwritten> {
        let verb = match command {
            Ok(None) => return Ok(Reply::Done),
            Ok(Some(Command::Quit)) => return Ok(Reply::Quit),
            Ok(Some(Command::Cache(verb))) => verb,
            Err(help) if help.kind() == ErrorKind::DisplayHelp => {
                return say(help.to_string().trim_end()).map(|()| Reply::Done);
            }
            Err(error) => return Ok(Reply::Failed(explain(&error))),
        };
        let outcome = self.runtime.block_on(verb.run(&self.cache, self.place));
        outcome.print()?;
        match outcome.failure() {
            // A miss is a result as well, and the lines after it may depend on it.
            Some(miss) if outcome.is_unmet() => say(&miss).map(|()| Reply::Done),
            failure => Ok(failure.map_or(Reply::Done, Reply::Failed)),
        }
    }
}

/// Reads a line; `None` if it is blank or a comment.
fn parse(line: &[u8]) -> Result<Option<Command>, clap::Error> {
    // Files from elsewhere end their lines so.
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words = shlex::bytes::split(line).ok_or_else(|| {
        clap::Error::raw(ErrorKind::InvalidValue, "a quote is not closed, or a backslash ends the line")
    })?;
    if words.is_empty() {
        return Ok(None);
    }
    Command::try_parse_from(words.into_iter().map(OsString::from_vec)).map(Some)
}

fn explain(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::InvalidSubcommand {
        return "there is no such verb; `help` lists them".into();
    }
    error.to_string().trim_start_matches("error: ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_and_comments_are_no_commands() {
        for line in ["", "  ", "\t", "# get foo", "\r"] {
            assert!(matches!(parse(line.as_bytes()), Ok(None)), "{line:?}");
        }
    }

    #[test]
    fn a_value_keeps_its_bytes_and_its_blanks() {
        for line in [
            &b"set foo 'a b'"[..],
            b"set foo a\\ b",
            b"set foo \xff\xfe --ttl 5",
            b"set foo -5",
            b"set foo ''",
        ] {
            assert!(matches!(parse(line), Ok(Some(Command::Cache(verb))) if verb.has_value()), "{line:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (line, part) in [
            ("set foo 'bar", "a quote is not closed"),
            ("gte foo", "there is no such verb"),
            ("get", "<KEY>"),
            ("get a b", "unexpected argument 'b'"),
            ("get ''", "is empty or holds a blank"),
            ("touch foo", "--ttl <SECONDS>"),
            ("incr foo -1", "invalid value '-1' for '[N]'"),
        ] {
            let why = explain(&parse(line.as_bytes()).unwrap_err());
            assert!(why.contains(part), "{why}");
        }
    }
}
