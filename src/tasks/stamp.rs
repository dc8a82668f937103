//! The state that the list is in, as the database tells it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::task::Task;
use super::text::Text;
use crate::db::{Database, Error};
use crate::mistake::Mistake;

/// Names one state of the list: two reads with the same stamp have read the same tasks.
///
/// The database draws a new one in the transaction of any change to tasks, also one made by hand (`list_state` in
/// `migrations/`). Of two stamps none can be said to be the newer one: after a restored dump `v` counts from where it
/// was.
///
/// Its text, `v-tok`, is made of digits, a dash and letters, and can be part of any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    v: i64,
    tok: u128,
}

/// What was read, and of which state of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped<T> {
    /// The state.
    pub stamp: Stamp,
    /// What was read of it.
    pub value: T,
}

/// Reads which state the list is in, and waits for no other query meanwhile: see [`Database::fetch_reserved`].
///
/// # Errors
///
/// The database's; [`Error::Refused`] without the row that tells.
pub async fn stamp(db: &Database) -> Result<Stamp, Error> {
    let (v, tok): (i64, String) = db.fetch_reserved("select v, tok from list_state").await?;
    Stamp::new(v, &tok)
}

/// One line of a statement that reads stamp and tasks together: the stamp and what was counted, or else a task.
#[derive(sqlx::FromRow)]
pub(super) struct Line {
    v: Option<i64>,
    tok: Option<String>,
    total: Option<i64>,
    id: Option<i64>,
    name: Option<Text>,
}

/// Makes a stamp, a count and tasks of the lines, in whatever place the stamp is among them.
pub(super) fn gather(lines: Vec<Line>) -> Result<Stamped<(usize, Vec<Task>)>, Error> {
    let mut stamp = None;
    let mut counted = None;
    let mut tasks = Vec::with_capacity(lines.len());
    for line in lines {
        match line {
            Line { v: Some(v), tok: Some(tok), total, .. } => {
                stamp = Some(Stamp::new(v, &tok)?);
                counted = total;
            }
            Line { id: Some(id), name: Some(name), .. } => tasks.push(Task { id, name: name.into() }),
            _ => return Err(sqlx::Error::Decode("a line is neither a stamp nor a task".into()).into()),
        }
    }
    let stamp = stamp.ok_or(sqlx::Error::RowNotFound)?;
    let total = counted.and_then(|total| total.try_into().ok()).unwrap_or_default();
    Ok(Stamped { stamp, value: (total, tasks) })
}

impl Stamp {
    fn new(v: i64, tok: &str) -> Result<Self, Error> {
        let tok = u128::from_str_radix(tok, 16);
        let tok = tok.map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(Self { v, tok })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if Mistake::VersionWithoutToken.is_made() {
            return write!(f, "{}", self.v);
        }
        write!(f, "{}-{:032x}", self.v, self.tok)
    }
}

impl<T> Stamped<T> {
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Stamped<U> {
        Stamped { stamp: self.stamp, value: make(self.value) }
    }
}
