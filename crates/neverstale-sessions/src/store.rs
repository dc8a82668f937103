//! What every store of sessions does, and the form in which it keeps them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tower_sessions::session::{Id, Record};

use super::error::Error;
use neverstale::Ttl;
use neverstale::backend::unix_millis;

/// Two weeks, as in Django.
pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A place where sessions are kept, such as a table. An expired session counts as absent.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Stores a session if there is none of its name, and returns whether there was none.
    async fn add(&self, session: &Stored) -> Result<bool, Error>;

    /// Returns a session.
    async fn get(&self, name: &str) -> Result<Option<Stored>, Error>;

    /// Returns a session, or a copy of it that equals what its visitor has seen. A store that keeps copies overrides
    /// this.
    async fn get_seen(&self, name: &str, _seen: Seen) -> Result<Option<Stored>, Error> {
        self.get(name).await
    }

    /// Replaces a session if it still equals `old`; with no `old`, replaces any.
    async fn replace(&self, old: Option<&Stored>, new: &Stored) -> Result<Replaced, Error>;

    /// Removes a session, if it is there.
    async fn delete(&self, name: &str) -> Result<(), Error>;

    /// Removes at most `most` expired sessions, and returns how many. Does nothing by default.
    async fn clear_expired(&self, _most: usize) -> Result<usize, Error> {
        Ok(0)
    }
}

/// The outcome of [`Store::replace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The new session is stored.
    Done,
    /// Nothing is stored: the session has changed to this.
    Changed(Stored),
    /// Nothing is stored: the session is no longer there.
    Gone,
}

/// A session as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// A digest of the session's id, which is its visitor's secret: 32 hexadecimal digits.
    pub name: String,
    /// A JSON object.
    pub data: String,
    /// When the session expires, in Unix milliseconds.
    pub expires_at: i64,
}

/// A digest of a stored session. The visitor's cookie holds the one of the session's latest state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u64);

impl Stored {
    /// Encodes a session.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`], which no JSON value causes.
    pub fn of(record: &Record) -> Result<Self, Error> {
        // Sorted, so that equal sessions have equal texts.
        let data: BTreeMap<_, _> = record.data.iter().collect();
        let expires_at = record.expiry_date.unix_timestamp_nanos() / 1_000_000;
        Ok(Self {
            name: Self::name_of(&record.id),
            data: serde_json::to_string(&data).map_err(Error::Encoding)?,
            expires_at: expires_at.try_into().unwrap_or(i64::MAX),
        })
    }

    /// Returns the name under which the session with this id is stored.
    #[must_use]
    pub fn name_of(id: &Id) -> String {
        let digest = Sha256::digest(id.0.to_le_bytes());
        digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Decodes the session with this id.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if the data is no JSON object.
    pub fn record(&self, id: Id) -> Result<Record, Error> {
        let expires_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.expires_at) * 1_000_000);
        // `time` ends with the year 9999.
        let expiry_date = expires_at.unwrap_or(OffsetDateTime::UNIX_EPOCH + time::Duration::days(2_900_000));
        Ok(Record { id, data: self.data()?, expiry_date })
    }

    pub(super) fn data(&self) -> Result<HashMap<String, Value>, Error> {
        serde_json::from_str(&self.data).map_err(Error::Encoding)
    }

    /// Returns the digest for the visitor's cookie.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let text = format!("{}\n{}\n{}", self.name, self.expires_at, self.data);
        let quarter = Sha256::digest(text)[..8].try_into().expect("a digest has 32 bytes");
        Seen(u64::from_be_bytes(quarter))
    }

    pub(super) fn is_expired(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Returns how long the session has to live.
    pub(super) fn remaining(&self) -> Duration {
        let expires_at = u64::try_from(self.expires_at).unwrap_or_default();
        Duration::from_millis(expires_at.saturating_sub(unix_millis()))
    }

    pub(super) fn ttl(&self) -> Ttl {
        Ttl::After(self.remaining())
    }
}

/// Hides name and data.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("expires_at", &self.expires_at).finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pairs: &[(&str, u64)]) -> Record {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        Record { id: Id(7), data, expiry_date: OffsetDateTime::UNIX_EPOCH + time::Duration::weeks(3000) }
    }

    #[test]
    fn equal_sessions_have_equal_digests_and_others_have_not() {
        let pairs: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().zip(0..).collect();
        let reversed: Vec<_> = pairs.iter().copied().rev().collect();
        let stored = Stored::of(&record(&pairs)).unwrap();
        assert_eq!(stored.seen(), Stored::of(&record(&reversed)).unwrap().seen());
        assert_eq!(stored.seen().to_string().parse(), Ok(stored.seen()));
        let others = [
            Stored { data: stored.data.replace('4', "5"), ..stored.clone() },
            Stored { expires_at: stored.expires_at + 1, ..stored.clone() },
            Stored { name: Stored::name_of(&Id(8)), ..stored.clone() },
        ];
        for other in others {
            assert_ne!(stored.seen(), other.seen(), "{}", other.data);
        }
    }

    #[test]
    fn a_decoded_session_is_the_encoded_one() {
        let record = record(&[("a", 1)]);
        let stored = Stored::of(&record).unwrap();
        assert_eq!(stored.name, Stored::name_of(&Id(7)));
        assert_eq!(stored.record(Id(7)).unwrap(), record);
        let for_ever = Stored { expires_at: i64::MAX, ..stored.clone() };
        assert!(for_ever.record(Id(7)).is_ok() && !for_ever.is_expired());
        let damaged = Stored { data: "[1]".into(), ..stored };
        assert!(matches!(damaged.record(Id(7)), Err(Error::Encoding(_))));
    }

    #[test]
    fn debug_shows_neither_id_nor_content() {
        let stored = Stored::of(&record(&[("card", 4711)])).unwrap();
        let shown = format!("{stored:?} {}", stored.name);
        assert!(!shown.contains("4711") && !shown.contains(&Id(7).to_string()), "{shown}");
    }
}
