//! The prompt: editing, completion of verbs, and a history that outlives the process.

use std::path::PathBuf;

use clap::Command;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::{FileHistory, History};
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper, Result};

/// In the user's home directory, readable for the user alone.
const HISTORY: &str = ".tasklist_history";

const LONGEST_HISTORY: usize = 1000;

/// A prompt on the terminal.
pub(super) struct Prompt {
    editor: Editor<Verbs, FileHistory>,
    /// What the file gets. The editor also recalls what it must not get.
    kept: FileHistory,
    file: Option<PathBuf>,
}

impl Prompt {
    /// Opens a prompt for the verbs below a command. A history that cannot be read is an empty one.
    ///
    /// # Errors
    ///
    /// What rustyline says of the terminal.
    pub(super) fn new(command: Command) -> Result<Self> {
        let config = Config::builder()
            .max_history_size(LONGEST_HISTORY)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut kept = FileHistory::with_config(&config);
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Verbs::of(command)));
        let file = std::env::home_dir().map(|home| home.join(HISTORY));
        if let Some(file) = &file {
            let _ = kept.load(file);
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, kept, file })
    }

    /// Reads a line, which the editor recalls from now on; a blank one after Ctrl-C, and `None` after Ctrl-D.
    ///
    /// # Errors
    ///
    /// What rustyline says of the terminal.
    pub(super) fn read(&mut self) -> Result<Option<String>> {
        match self.editor.readline("tasklist> ") {
            Ok(line) => {
                self.editor.add_history_entry(&line)?;
                Ok(Some(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
            Err(ReadlineError::Eof) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a line to the history's file. A history that cannot be written is no reason to fail.
    pub(super) fn keep(&mut self, line: &str) {
        if let Some(file) = &self.file {
            let _ = self.kept.add(line).and_then(|_| self.kept.append(file));
        }
    }
}

/// Completes the first word of a line, and the word after `help`.
struct Verbs(Vec<String>);

impl Verbs {
    fn of(mut command: Command) -> Self {
        // Only now is `help` among them.
        command.build();
        let names = command.get_subcommands().flat_map(Command::get_name_and_visible_aliases);
        Self(names.map(str::to_owned).collect())
    }

    fn starting_with(&self, word: &str) -> Vec<String> {
        let mut names: Vec<_> =
            self.0.iter().filter(|name| name.starts_with(word)).map(|name| format!("{name} ")).collect();
        names.sort();
        names
    }
}

impl Completer for Verbs {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> Result<(usize, Vec<String>)> {
        let typed = &line[..position];
        let start = typed.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        let is_verb = matches!(typed[..start].trim(), "" | "help");
        Ok((start, if is_verb { self.starting_with(&typed[start..]) } else { vec![] }))
    }
}

impl Hinter for Verbs {
    type Hint = String;
}

impl Highlighter for Verbs {}

impl Validator for Verbs {}

impl Helper for Verbs {}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::shell::Command as ShellCommand;

    #[test]
    fn verbs_are_completed_and_nothing_else() {
        let history = FileHistory::new();
        let complete = |line: &str| {
            Verbs::of(ShellCommand::command()).complete(line, line.len(), &Context::new(&history)).unwrap()
        };
        assert_eq!(complete("to"), (0, vec!["touch ".to_owned()]));
        assert_eq!(complete("help re"), (5, vec!["replace ".to_owned()]));
        assert_eq!(complete("e").1, ["exit "]);
        assert_eq!(complete("get to").1, [""; 0]);
        assert!(complete("").1.len() >= 12);
    }
}
