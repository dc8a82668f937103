//! The table `cache`: one statement for each operation, without time limits.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::json;

use super::statements::{self as sql, Statement};
use crate::db::{Arg, Database, Error, Row};
use neverstale::Ttl;
use neverstale::backend::{ErrorKind, end_of, parse_number, unix_millis};

/// How often a number is read again because another process has changed it meanwhile. Each time one of the processes
/// that count at once gets through.
const MOST_TRIES: usize = 100;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Table {
    db: Database,
}

/// A number of entries, and how many bytes their keys and values have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) entries: i64,
    pub(super) bytes: i64,
}

impl Size {
    pub(super) fn fits(self, limit: Self) -> bool {
        self.entries <= limit.entries && self.bytes <= limit.bytes
    }
}

impl Table {
    pub(super) fn new(db: Database) -> Self {
        Self { db }
    }

    pub(super) fn db(&self) -> &Database {
        &self.db
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let found: Vec<(Vec<u8>,)> = self.run(&sql::GET, &[Arg::Text(key), now()]).await?;
        Ok(found.into_iter().next().map(|(value,)| value.into()))
    }

    pub(super) async fn get_many(&self, keys: &[String]) -> Result<HashMap<String, Bytes>, Error> {
        let found: Vec<(String, Vec<u8>)> =
            self.run(&sql::GET_MANY, &[Arg::Text(&json!(keys).to_string()), now()]).await?;
        Ok(found.into_iter().map(|(key, value)| (key, value.into())).collect())
    }

    pub(super) async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Result<(), Error> {
        // In the order of their keys, which Postgres keeps.
        let values: BTreeMap<_, _> = values.iter().map(|(key, value)| (key, value)).collect();
        let mut bytes = Vec::with_capacity(values.values().map(|value| value.len()).sum());
        let mut entries = Vec::with_capacity(values.len());
        for (key, value) in values {
            entries.push((key, bytes.len() + 1, value.len()));
            bytes.extend_from_slice(value);
        }
        let entries = json!(entries).to_string();
        self.run::<()>(&sql::SET_MANY, &[Arg::Text(&entries), Arg::Bytes(&bytes), end(ttl)]).await.map(drop)
    }

    pub(super) async fn add(&self, key: &str, value: &[u8], ttl: Ttl) -> Result<bool, Error> {
        self.is_done(&sql::ADD, &[Arg::Text(key), Arg::Bytes(value), end(ttl), now()]).await
    }

    pub(super) async fn replace(&self, key: &str, value: &[u8], ttl: Ttl) -> Result<bool, Error> {
        self.is_done(&sql::REPLACE, &[Arg::Text(key), Arg::Bytes(value), end(ttl), now()]).await
    }

    pub(super) async fn touch(&self, key: &str, ttl: Ttl) -> Result<bool, Error> {
        self.is_done(&sql::TOUCH, &[Arg::Text(key), end(ttl), now()]).await
    }

    /// Changes a number; none if there is no such key. Neither database has numbers of 64 bits without a sign, so it is
    /// computed here and stored if it has not changed meanwhile.
    pub(super) async fn count(
        &self,
        key: &str,
        change: impl Fn(u64) -> u64,
    ) -> Result<Result<Option<u64>, ErrorKind>, Error> {
        for _ in 0..MOST_TRIES {
            let Some(old) = self.get(key).await? else { return Ok(Ok(None)) };
            let Some(number) = parse_number(&old) else { return Ok(Err(ErrorKind::NotANumber)) };
            let number = change(number);
            let new = number.to_string();
            let args = [Arg::Text(key), Arg::Bytes(&old), Arg::Bytes(new.as_bytes()), now()];
            if self.is_done(&sql::SWAP, &args).await? {
                return Ok(Ok(Some(number)));
            }
        }
        Ok(Err(ErrorKind::Busy))
    }

    /// Removes keys and returns, for each that had a row, whether it was there: an expired one was not.
    pub(super) async fn delete_many(&self, keys: &[String]) -> Result<HashMap<String, bool>, Error> {
        let removed: Vec<(String, bool)> =
            self.run(&sql::DELETE_MANY, &[Arg::Text(&json!(keys).to_string()), now()]).await?;
        Ok(removed.into_iter().collect())
    }

    pub(super) async fn clear(&self) -> Result<(), Error> {
        self.run::<()>(&sql::CLEAR, &[]).await.map(drop)
    }

    /// Returns how much there is that is not expired.
    pub(super) async fn size(&self) -> Result<Size, Error> {
        let counted: Vec<(i64, i64)> = self.run(&sql::SIZE, &[now()]).await?;
        let (entries, bytes) = counted.into_iter().next().unwrap_or_default();
        Ok(Size { entries, bytes })
    }

    /// Removes at most so many expired rows, and returns how many.
    pub(super) async fn remove_expired(&self, most: i64) -> Result<i64, Error> {
        self.run::<()>(&sql::REMOVE_EXPIRED, &[now(), Arg::Int(most)]).await.map(|removed| count(&removed))
    }

    /// Removes at most so many rows, and returns how many and their bytes: those without a lifetime first, then those
    /// that expire next.
    pub(super) async fn remove_first(&self, most: i64) -> Result<Size, Error> {
        let removed: Vec<(i64,)> = self.run(&sql::REMOVE_FIRST, &[Arg::Int(most)]).await?;
        let bytes = removed.iter().map(|(bytes,)| bytes).sum();
        Ok(Size { entries: i64::try_from(removed.len()).unwrap_or(i64::MAX), bytes })
    }

    /// Returns whether a statement found its row.
    async fn is_done(&self, statement: &Statement, args: &[Arg<'_>]) -> Result<bool, Error> {
        self.run::<()>(statement, args).await.map(|rows| !rows.is_empty())
    }

    async fn run<T: Row>(&self, statement: &Statement, args: &[Arg<'_>]) -> Result<Vec<T>, Error> {
        self.db.fetch_all(self.db.choose(statement.sqlite, statement.postgres), args).await
    }
}

fn count(rows: &[()]) -> i64 {
    i64::try_from(rows.len()).unwrap_or(i64::MAX)
}

fn now() -> Arg<'static> {
    Arg::Int(to_signed(unix_millis()))
}

/// Returns when a lifetime that begins now is over; null if never.
fn end(ttl: Ttl) -> Arg<'static> {
    Arg::OptionalInt(end_of(ttl).map(to_signed))
}

fn to_signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
