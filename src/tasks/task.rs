//! A task and its name.

use serde::{Deserialize, Serialize};

/// The columns of a [`Task`], for the statements that read one.
macro_rules! columns {
    () => {
        "id, name"
    };
}
pub(super) use columns;

/// One row of the list.
///
/// The cache keeps lists of tasks. During a deploy the release before may store a list without a new field. Such a list
/// must be a miss, so no field here has `#[serde(default)]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Task {
    /// Never used twice. The list is ordered by it.
    pub id: i64,
    /// What is to be done.
    #[sqlx(try_from = "super::text::Text")]
    pub name: String,
}

/// A name that can be stored: trimmed, 1 to 500 characters, any Unicode but NUL.
///
/// ```
/// use tasklist::tasks::{InvalidName, TaskName};
///
/// assert!(TaskName::parse("  buy milk ").is_ok());
/// assert_eq!(TaskName::parse("   "), Err(InvalidName::Empty));
/// assert_eq!(TaskName::parse(&"x".repeat(501)), Err(InvalidName::TooLong { length: 501 }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskName(String);

/// The reason why a text is no name of a task, in words for the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Only white space.
    #[error("Please write what is to be done.")]
    Empty,
    /// Longer than [`TaskName::LONGEST`].
    #[error("Please use at most {longest} characters; these are {length}.", longest = TaskName::LONGEST)]
    TooLong {
        /// In characters.
        length: usize,
    },
    /// A NUL character, which Postgres cannot store.
    #[error("Please leave out the NUL character.")]
    Nul,
}

impl TaskName {
    /// The most characters a name can have.
    pub const LONGEST: usize = 500;

    /// Makes a name of the text of a form.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] if the text cannot be stored.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let name = text.trim();
        match name.chars().count() {
            0 => Err(InvalidName::Empty),
            length if length > Self::LONGEST => Err(InvalidName::TooLong { length }),
            _ if name.contains('\0') => Err(InvalidName::Nul),
            _ => Ok(Self(name.to_owned())),
        }
    }

    /// Returns the name of a task that is stored.
    pub(super) fn of(task: &Task) -> Self {
        Self(task.name.clone())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_and_counted_in_characters() {
        assert_eq!(TaskName::parse("  buy milk \n"), Ok(TaskName("buy milk".into())));
        assert_eq!(TaskName::parse(" \t\u{3000}"), Err(InvalidName::Empty));
        assert!(TaskName::parse(&"🥛".repeat(500)).is_ok());
        assert_eq!(TaskName::parse(&"é".repeat(501)), Err(InvalidName::TooLong { length: 501 }));
        assert_eq!(TaskName::parse("a\0b"), Err(InvalidName::Nul));
    }
}
