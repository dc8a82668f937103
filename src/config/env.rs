//! The environment and `.env`, from which clap reads the options that are not typed.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use clap::Command;
use clap::builder::Resettable;

use super::error::Error;

/// Adds the variables of `.env` in the current directory to the process's environment, unless they are set there.
///
/// To be called before there is a second thread.
///
/// # Errors
///
/// [`Error::File`] if there is a `.env` and it cannot be understood.
pub fn load() -> Result<(), Error> {
    load_file(Path::new(".env"))
}

fn load_file(path: &Path) -> Result<(), Error> {
    match fs::read_to_string(path) {
        Ok(text) => dotenvy::from_read(text.as_bytes()).map_err(|error| file_error(&text, &error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::File { place: String::new(), cause: error.to_string() }),
    }
}

/// Makes the options of variables global, and takes a blank variable for one that is not set.
///
/// Hosting platforms cannot unset a variable. Help shows no values, since some are secrets.
#[must_use]
pub fn with_variables(command: Command) -> Command {
    command.mut_args(|arg| {
        let Some(name) = arg.get_env() else { return arg };
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let is_blank = std::env::var_os(name).is_some_and(|value| is_blank(&value));
        let arg = if is_blank { arg.env(Resettable::Reset) } else { arg };
        arg.global(true).ignore_case(true).hide_env_values(true)
    })
}

/// Makes options come from the command line only.
#[must_use]
pub fn without_variables(command: Command) -> Command {
    command.mut_args(|arg| arg.ignore_case(true).env(Resettable::Reset))
}

/// Returns whether a value counts as not set.
pub(super) fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|value| value.trim().is_empty())
}

fn file_error(text: &str, error: &dotenvy::Error) -> Error {
    let dotenvy::Error::LineParse(line, _) = error else {
        return Error::File { place: String::new(), cause: "cannot be read".into() };
    };
    let text = text.trim_start_matches('\u{feff}');
    let lines = || text.lines().map(str::trim);
    let whole = lines().position(|candidate| candidate == line.trim());
    let number = whole.or_else(|| lines().position(|candidate| candidate.contains(line.trim())));
    Error::File {
        place: number.map(|index| format!(", line {}", index + 1)).unwrap_or_default(),
        cause: "expected NAME=value; quote values with blanks or special characters in single quotes".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_in_the_file_is_named_without_its_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        for bad in ["MEMCACHIER_PASSWORD=two words secret", "DEBUG"] {
            fs::write(&path, format!("\u{feff}# a comment\n{bad}\n")).unwrap();
            let error = load_file(&path).unwrap_err().to_string();
            assert!(error.starts_with(".env, line 2: expected NAME=value"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
