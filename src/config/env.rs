//! The one reader of the environment and of `.env`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// What is wrong with a variable: which, what it is (never a secret), and what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that is none of those accepted.
    #[error("{variable} is {value:?}; accepted: {accepted}")]
    Wrong {
        /// The variable's name.
        variable: String,
        /// Its value, as given.
        value: String,
        /// What would be right.
        accepted: String,
    },
    /// As [`Error::Wrong`], for a value that may hold a password.
    #[error("{variable} is wrong (its value is not shown here); accepted: {accepted}")]
    WrongSecret {
        /// The variable's name.
        variable: String,
        /// What would be right.
        accepted: String,
    },
    /// A variable that the others make necessary.
    #[error("{variable} is not set: {because}")]
    Missing {
        /// The variable's name.
        variable: String,
        /// What makes it necessary, and what to do.
        because: String,
    },
    /// A `.env` that cannot be read or understood.
    #[error(".env{place}: {cause}")]
    File {
        /// `, line 3`, or nothing.
        place: String,
        /// What is wrong there, without the line's text: it may hold a password.
        cause: String,
    },
}

/// The variables the program was started with.
#[derive(Default)]
pub struct Variables(HashMap<String, OsString>);

impl Variables {
    /// Reads the environment and, for what is not set there, `.env` in the current directory.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if there is a `.env` and it cannot be understood.
    pub fn read() -> Result<Self, Error> {
        let mut variables = Self::from_file(Path::new(".env"))?;
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let environment = std::env::vars_os();
        variables.0.extend(environment.filter_map(|(name, value)| Some((name.into_string().ok()?, value))));
        Ok(variables)
    }

    fn from_file(path: &Path) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(Error::File { place: String::new(), cause: error.to_string() });
            }
        };
        // Some editors put a byte order mark before everything else.
        let text = text.trim_start_matches('\u{feff}');
        dotenvy::from_read_iter(text.as_bytes())
            .map(|pair| {
                pair.map(|(name, value)| (name, value.into())).map_err(|error| file_error(text, &error))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns a variable's value without blanks around it, for values that cannot begin or end with one. A blank value
    /// counts as not set: hosting platforms cannot unset a variable.
    ///
    /// # Errors
    ///
    /// [`Error::WrongSecret`] if the value is not Unicode.
    pub fn get(&self, variable: &str) -> Result<Option<&str>, Error> {
        Ok(self.get_exactly(variable)?.map(str::trim))
    }

    /// Returns a variable's value with the blanks around it, for credentials and keys. A blank value counts as not set.
    ///
    /// # Errors
    ///
    /// [`Error::WrongSecret`] if the value is not Unicode.
    pub fn get_exactly(&self, variable: &str) -> Result<Option<&str>, Error> {
        let Some(value) = self.0.get(variable) else {
            return Ok(None);
        };
        let value = value.to_str().ok_or_else(|| wrong_secret(variable, "text in UTF-8"))?;
        Ok((!value.trim().is_empty()).then_some(value))
    }

    /// Returns a variable's value after `parse`, which answers `None` to what it does not accept.
    ///
    /// # Errors
    ///
    /// [`Error::Wrong`] with `accepted` where `parse` refuses.
    pub fn parse<T>(
        &self,
        variable: &str,
        accepted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(variable)? else {
            return Ok(None);
        };
        parse(value).map(Some).ok_or_else(|| wrong(variable, value, accepted))
    }

    /// Returns a switch: `True` and `False` as in the tutorial, and the other usual spellings.
    ///
    /// # Errors
    ///
    /// [`Error::Wrong`] for anything else.
    pub fn flag(&self, variable: &str) -> Result<Option<bool>, Error> {
        self.parse(variable, "True or False", parse_flag)
    }

    /// Returns a variable's value after `parse`, which gets it in lower case.
    ///
    /// # Errors
    ///
    /// [`Error::Wrong`] with `accepted` where `parse` refuses.
    pub fn choice<T>(
        &self,
        variable: &str,
        accepted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.parse(variable, accepted, |value| parse(&value.to_ascii_lowercase()))
    }
}

/// Reads a switch in any case.
pub(super) fn parse_flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    }
}

pub(super) fn wrong(variable: &str, value: &str, accepted: &str) -> Error {
    Error::Wrong { variable: variable.into(), value: value.into(), accepted: accepted.into() }
}

pub(super) fn wrong_secret(variable: &str, accepted: &str) -> Error {
    Error::WrongSecret { variable: variable.into(), accepted: accepted.into() }
}

pub(super) fn missing(variable: &str, because: &str) -> Error {
    Error::Missing { variable: variable.into(), because: because.into() }
}

fn file_error(text: &str, error: &dotenvy::Error) -> Error {
    let dotenvy::Error::LineParse(line, _) = error else {
        return Error::File { place: String::new(), cause: "cannot be read".into() };
    };
    let lines = || text.lines().map(str::trim);
    let whole = lines().position(|candidate| candidate == line.trim());
    let number = whole
        .or_else(|| lines().position(|candidate| candidate.contains(line.trim())))
        .map(|index| index + 1);
    Error::File {
        place: number.map(|number| format!(", line {number}")).unwrap_or_default(),
        cause: "expected NAME=value; quote values with blanks or special characters in single quotes".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_named_with_what_is_accepted() {
        let variables = Variables::from([("DEBUG", "maybe")]);
        let error = variables.flag("DEBUG").unwrap_err().to_string();
        assert_eq!(error, r#"DEBUG is "maybe"; accepted: True or False"#);
    }

    #[test]
    fn a_blank_value_counts_as_not_set() {
        let variables = Variables::from([("DATABASE_URL", "  ")]);
        assert_eq!(variables.get("DATABASE_URL").unwrap(), None);
    }

    #[test]
    fn a_secret_keeps_the_blanks_around_it() {
        let variables = Variables::from([("ADMIN_PASSWORD", " hunter2 "), ("SECRET_KEY", " \t")]);
        assert_eq!(variables.get_exactly("ADMIN_PASSWORD").unwrap(), Some(" hunter2 "));
        assert_eq!(variables.get("ADMIN_PASSWORD").unwrap(), Some("hunter2"));
        assert_eq!(variables.get_exactly("SECRET_KEY").unwrap(), None);
    }

    #[test]
    fn a_file_may_come_from_windows_and_its_quotes_keep_blanks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        let text =
            "\u{feff}MEMCACHIER_PASSWORD=' a b '\r\nSECRET_KEY=\"c \"\r\n# a comment\r\nDEBUG=True\r\n";
        std::fs::write(&path, text).unwrap();
        let variables = Variables::from_file(&path).unwrap();
        for (name, value) in [("MEMCACHIER_PASSWORD", " a b "), ("SECRET_KEY", "c "), ("DEBUG", "True")] {
            assert_eq!(variables.get_exactly(name).unwrap(), Some(value), "{name}");
        }
    }

    #[test]
    fn a_bad_line_in_the_file_is_named_without_its_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        for bad in ["MEMCACHIER_PASSWORD=two words secret", "DEBUG"] {
            std::fs::write(&path, format!("\u{feff}DEBUG=True\n{bad}\n")).unwrap();
            let error = Variables::from_file(&path).err().unwrap().to_string();
            assert!(error.starts_with(".env, line 2: expected NAME=value"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
