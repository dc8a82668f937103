//! What every store of sessions does, and the form in which it keeps them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tower_sessions::session::{Id, Record};

use super::Error;
use neverstale::Ttl;

/// A place where sessions are kept. A session that has expired is as one that was never there.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Stores a session where there is none of its name, and returns whether there was none.
    async fn add(&self, session: &Stored) -> Result<bool, Error>;

    /// Returns a session.
    async fn get(&self, name: &Name, copy: Acceptable) -> Result<Option<Stored>, Error>;

    /// Stores a session in place of the `old` one, if that is still there; or whatever is there, if none is given.
    async fn replace(&self, old: Option<&Stored>, new: &Stored) -> Result<Replaced, Error>;

    /// Removes a session, if it is there.
    async fn delete(&self, name: &Name) -> Result<(), Error>;

    /// Removes some sessions that have expired, at most so many, and returns how many.
    async fn clear_expired(&self, most: usize) -> Result<usize, Error>;

    /// Says in a few words where sessions are kept.
    fn describe(&self) -> &'static str;
}

/// Which copy of a session will do, where a store has copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptable {
    /// Any, though the session may have been changed since.
    Any,
    /// The one that its visitor was told of last.
    Only(Seen),
    /// None.
    Nothing,
}

/// The outcome of replacing a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It is stored.
    Done,
    /// It is not, since this is there now.
    Changed(Stored),
    /// It is not, since there is none any more.
    Gone,
}

/// Under which a session is stored: a digest of its id, which is a secret of the visitor's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Name(String);

/// A digest of what is stored in a session: two sessions with the same are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u64);

/// A session as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its name is in it as well: what a server hands out for another key is nobody's session.
    pub name: Name,
    /// A JSON object.
    pub data: String,
    /// When it expires, in Unix milliseconds.
    pub expires_at: i64,
}

impl Name {
    /// Returns the name of the session with this id.
    #[must_use]
    pub fn of(id: &Id) -> Self {
        let digest = Sha256::digest(id.0.to_le_bytes());
        let half = digest[..16].try_into().expect("a digest has 32 bytes");
        Self(format!("{:032x}", u128::from_be_bytes(half)))
    }

    /// Returns it as text: 32 digits and letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Seen {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Stored {
    /// Encodes a session.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`], which no value of JSON is a reason for.
    pub fn of(record: &Record) -> Result<Self, Error> {
        // In order, so that equal sessions have equal texts.
        let data: BTreeMap<_, _> = record.data.iter().collect();
        let expires_at = record.expiry_date.unix_timestamp_nanos() / 1_000_000;
        Ok(Self {
            name: Name::of(&record.id),
            data: serde_json::to_string(&data).map_err(Error::Encoding)?,
            expires_at: expires_at.try_into().unwrap_or(i64::MAX),
        })
    }

    /// Decodes the session with this id.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if it is none.
    pub fn record(&self, id: Id) -> Result<Record, Error> {
        let expires_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.expires_at) * 1_000_000);
        // Beyond the year 9999 it is as good as for ever.
        let expiry_date = expires_at.unwrap_or(OffsetDateTime::UNIX_EPOCH + time::Duration::days(2_900_000));
        Ok(Record { id, data: self.data()?, expiry_date })
    }

    /// Returns what is in it.
    pub(super) fn data(&self) -> Result<HashMap<String, Value>, Error> {
        serde_json::from_str(&self.data).map_err(Error::Encoding)
    }

    /// Returns what a visitor who was told of it has seen.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let text = format!("{}\n{}\n{}", self.name.0, self.expires_at, self.data);
        let quarter = Sha256::digest(text)[..8].try_into().expect("a digest has 32 bytes");
        Seen(u64::from_be_bytes(quarter))
    }

    /// Returns whether it has expired.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Returns how long it has to live.
    pub(super) fn remaining(&self) -> Duration {
        u64::try_from(self.expires_at.saturating_sub(now())).map_or(Duration::ZERO, Duration::from_millis)
    }

    /// Returns how long a cache may keep it.
    pub(super) fn ttl(&self) -> Ttl {
        Ttl::After(self.remaining())
    }
}

/// Never shows what is in it.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Returns the time in Unix milliseconds.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pairs: &[(&str, u64)]) -> Record {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        Record { id: Id(7), data, expiry_date: OffsetDateTime::UNIX_EPOCH + time::Duration::weeks(3000) }
    }

    #[test]
    fn equal_sessions_have_been_seen_and_others_have_not() {
        let pairs: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().zip(0..).collect();
        let reversed: Vec<_> = pairs.iter().copied().rev().collect();
        let stored = Stored::of(&record(&pairs)).unwrap();
        assert_eq!(stored.seen(), Stored::of(&record(&reversed)).unwrap().seen());
        let others = [
            Stored { data: stored.data.replace('4', "5"), ..stored.clone() },
            Stored { expires_at: stored.expires_at + 1, ..stored.clone() },
            Stored { name: Name::of(&Id(8)), ..stored.clone() },
        ];
        for other in others {
            assert_ne!(stored.seen(), other.seen(), "{}", other.data);
        }
    }

    #[test]
    fn what_is_decoded_is_what_was_encoded() {
        let record = record(&[("a", 1)]);
        assert_eq!(Stored::of(&record).unwrap().record(Id(7)).unwrap(), record);
        let for_ever = Stored { expires_at: i64::MAX, ..Stored::of(&record).unwrap() };
        assert!(for_ever.record(Id(7)).is_ok() && !for_ever.is_over());
        let damaged = Stored { data: "[1]".into(), ..Stored::of(&record).unwrap() };
        assert!(matches!(damaged.record(Id(7)), Err(Error::Encoding(_))));
    }

    #[test]
    fn what_a_visitor_has_seen_survives_its_text() {
        let seen = Stored::of(&record(&[])).unwrap().seen();
        assert_eq!(seen.to_string().parse(), Ok(seen));
    }

    #[test]
    fn neither_id_nor_content_is_shown() {
        let stored = Stored::of(&record(&[("card", 4711)])).unwrap();
        let shown = format!("{stored:?} {}", stored.name.as_str());
        assert!(!shown.contains("4711") && !shown.contains(&Id(7).to_string()), "{shown}");
    }
}
