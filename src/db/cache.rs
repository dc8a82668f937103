//! A cache in a table of the app's own database: no other server to run, and shared by the database's processes.
//!
//! A get takes about as long as any other query of one row, so it pays for values that take longer. A process sends one
//! write at a time. In SQLite each write waits for the disk, together with the tasks' own; in Postgres the table is
//! unlogged.
//!
//! Each process compares lifetimes with its own clock, so the clocks of several machines must agree.
//!
//! A database that fails is marked down for two seconds, and longer if it goes on failing. A key whose write failed is
//! deleted before anything is read again, and not before the statement of that write has ended. One case remains: a
//! database that hangs for longer than a statement may take can do such a write as it goes on, at the same time as the
//! delete.

mod statements;
mod store;
mod table;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use self::store::{NAME, Store};
use self::table::Table;
use crate::db::Database;
use neverstale::Ttl;
use neverstale::backend::recovery::Recover;
use neverstale::backend::{Backend, Error, OPERATION_TIMEOUT, ServerCheck, ServerStats, size_stats};

/// The backend over a table.
pub struct DatabaseCache {
    store: Arc<Store>,
}

impl DatabaseCache {
    /// Prepares the cache in a database, which must be migrated before its first use.
    #[must_use]
    pub fn new(db: Database) -> Self {
        Self::with_timeout(db, OPERATION_TIMEOUT)
    }

    /// As [`new`](Self::new), for operations that may take so long.
    #[must_use]
    pub fn with_timeout(db: Database, timeout: Duration) -> Self {
        Self { store: Store::new(Table::new(db), timeout) }
    }

    /// Stores values that fit.
    async fn put(&self, values: Vec<(String, Bytes)>, ttl: Ttl) -> Result<(), Error> {
        let keys: Vec<_> = values.iter().map(|(key, _)| key.clone()).collect();
        if keys.is_empty() || ttl.is_over() {
            return self.remove(&keys).await.map(drop);
        }
        let bytes = values.iter().map(|(_, value)| value.len()).sum();
        let table = self.store.table();
        self.store.write(&keys, async move { table.set_many(&values, ttl).await }).await?;
        self.store.note_stored(keys.len(), bytes);
        Ok(())
    }

    /// Removes keys, and returns for each whether it was there.
    async fn remove(&self, keys: &[String]) -> Result<Vec<bool>, Error> {
        if keys.is_empty() {
            return Ok(vec![]);
        }
        let (table, sent) = (self.store.table(), keys.to_vec());
        let removed = self.store.write(keys, async move { table.delete_many(&sent).await }).await?;
        Ok(keys.iter().map(|key| removed.get(key).is_some_and(|was_there| *was_there)).collect())
    }

    async fn count(
        &self,
        key: &str,
        change: impl Fn(u64) -> u64 + Send + Sync + 'static,
    ) -> Result<Option<u64>, Error> {
        self.store.check_readable(key)?;
        let (table, name) = (self.store.table(), key.to_owned());
        let counted = self.store.write(&[], async move { table.count(&name, change).await });
        counted.await?.map_err(|kind| self.store.error(kind))
    }
}

#[async_trait]
impl Backend for DatabaseCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.store.check_readable(key)?;
        self.store.read(self.store.table().get(key)).await
    }

    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        if keys.is_empty() {
            return vec![];
        }
        // Before they are read: a delete that is received meanwhile may come after that.
        let readable: Vec<_> = keys.iter().map(|key| self.store.check_readable(key)).collect();
        let found = self.store.read(self.store.table().get_many(keys)).await;
        let outcome = |(key, readable): (&String, Result<(), Error>)| {
            readable?;
            found.as_ref().map(|found| found.get(key).cloned()).map_err(Clone::clone)
        };
        keys.iter().zip(readable).map(outcome).collect()
    }

    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>> {
        vec![self.put(values.to_vec(), ttl).await; values.len()]
    }

    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.store.check_readable(key)?;
        let (table, name) = (self.store.table(), key.to_owned());
        let bytes = value.len();
        let is_stored = self.store.write(&[], async move { table.add(&name, &value, ttl).await }).await?;
        if is_stored {
            self.store.note_stored(1, bytes);
        }
        Ok(is_stored)
    }

    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        let (table, name) = (self.store.table(), key.to_owned());
        let keys = [key.to_owned()];
        self.store.check_readable(key).map_err(|error| self.store.defer(&keys, error.kind))?;
        self.store.write(&keys, async move { table.replace(&name, &value, ttl).await }).await
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        match self.remove(keys).await {
            Ok(removed) => removed.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    async fn touch(&self, key: &str, ttl: Ttl) -> Result<bool, Error> {
        self.store.check_readable(key)?;
        let (table, name) = (self.store.table(), key.to_owned());
        // A value that was to end at once must not stay because that failed.
        let ended = if ttl.is_over() { vec![name.clone()] } else { vec![] };
        self.store.write(&ended, async move { table.touch(&name, ttl).await }).await
    }

    async fn incr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, move |number| number.wrapping_add(delta)).await
    }

    async fn decr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, move |number| number.saturating_sub(delta)).await
    }

    async fn clear(&self) -> Result<(), Error> {
        let table = self.store.table();
        self.store.write(&[], async move { table.clear().await }).await
    }

    async fn stats(&self) -> Vec<ServerStats> {
        let size = self.store.read(self.store.table().size()).await;
        let stats = size.map(|size| size_stats(size.entries, size.bytes));
        vec![ServerStats { server: NAME.into(), stats, link: None }]
    }

    async fn check(&self) -> Vec<ServerCheck> {
        let (started, table) = (Instant::now(), self.store.table());
        let asked = async {
            let (version, size) = (table.db().version().await?, table.size().await?);
            Ok(format!("{version}, {} entries", size.entries))
        };
        let outcome = self.store.read(asked).await;
        vec![ServerCheck { server: NAME.into(), outcome, took: started.elapsed() }]
    }

    fn server_of(&self, _: &str) -> String {
        NAME.into()
    }

    fn describe(&self) -> String {
        format!("in {NAME}, table cache")
    }
}
