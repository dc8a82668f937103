//! The version of the list, which the database draws.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::task::Task;
use super::text::Text;
use crate::db::{Database, Error};
use crate::mistake::Mistake;

/// A version of the list: two reads with the same stamp have read the same tasks.
///
/// The database draws a new stamp in the transaction of any change to tasks, also one made by hand (`list_state` in
/// `migrations/`). Stamps have no order: after a dump is restored, `v` counts from where it was.
///
/// Its text, `v-tok`, consists of digits, a dash and letters, and can be part of any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    v: i64,
    tok: u128,
}

/// A value that was read, with the version of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped<T> {
    /// The version.
    pub stamp: Stamp,
    /// The value.
    pub value: T,
}

/// Reads the current version of the list, on the reserved connection: see [`Database::fetch_reserved`].
///
/// # Errors
///
/// The database's; [`Error::Refused`] without the row of the version.
pub async fn stamp(db: &Database) -> Result<Stamp, Error> {
    let (v, tok): (i64, String) = db.fetch_reserved("select v, tok from list_state").await?;
    Stamp::new(v, &tok)
}

/// A row of a statement that reads stamp and tasks together: either the stamp and the number of tasks, or a task.
#[derive(sqlx::FromRow)]
pub(super) struct Line {
    v: Option<i64>,
    tok: Option<String>,
    total: Option<i64>,
    id: Option<i64>,
    name: Option<Text>,
}

/// Collects the stamp, the number and the tasks. The stamp may be in any place.
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
