//! A cache in files below a directory, for several processes on one machine that have no memcached.
//!
//! Every key has a file, named by the key's hash. Files are read and written on the runtime's blocking threads, a
//! multi-key operation on one of them. Of a write that took too long the caller learns so, and the thread gives it up
//! before it could undo a later one.
//!
//! Changes of all processes wait for each other; reads wait for nothing. A process that is stopped in the middle of a
//! change keeps the lock: until it goes on or ends, values can be read and not changed.

mod directory;
mod entry;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use self::directory::{Locked, Size};
use self::entry::Entry;
use self::store::{Change, Failed, Store, Turn};
use super::{Backend, Error, ErrorKind, ServerCheck, ServerStats, only, parse_number, size_stats};
use crate::Ttl;

/// The backend over files.
pub struct Files {
    name: String,
    store: Arc<Store>,
    most: Size,
}

impl Files {
    /// Names the directory; it is made, for this user alone, when it is first used.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        let name = directory.display().to_string();
        let most = Size { entries: 10_000, bytes: 256 * 1024 * 1024 };
        Self { name, store: Arc::new(Store::new(directory)), most }
    }

    /// Limits the number of entries, 10,000 by default. A directory of so many is looked through in a fraction of a
    /// second. Entries that are written between two looks come on top.
    #[must_use]
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.most.entries = entries;
        self
    }

    /// Limits the bytes of all entries, 256 MiB by default.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.most.bytes = bytes;
        self
    }

    async fn read(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        let asked = keys.to_vec();
        let found = self.store.read(move |store, directory| {
            let value = |key: &String| match store.breaker.is_pending(key) {
                true => Ok(Err(ErrorKind::PendingDelete(Box::new(ErrorKind::Busy)))),
                false => Ok(Ok(directory.read(key)?.map(|entry| entry.value))),
            };
            asked.iter().map(value).collect()
        });
        self.tell_all(keys.len(), found.await)
    }

    /// Changes entries, each with what goes with its key.
    async fn change_all<I: Send + 'static, T: Clone + Send + 'static>(
        &self,
        items: Vec<(String, I)>,
        failed: Failed,
        change: impl Fn(I, Option<Entry>) -> Result<(Change, T), ErrorKind> + Send + 'static,
    ) -> Vec<Result<T, Error>> {
        let changed = items.len();
        let written: Vec<_> = match failed {
            Failed::LeavesNothing => items.iter().map(|(key, _)| key.clone()).collect(),
            Failed::LeavesOld => vec![],
        };
        let outcome = self.store.write(&written, move |store, lock, turn| {
            let change =
                |(key, item): (String, I)| store.change(&key, lock, turn, failed, |old| change(item, old));
            Ok(items.into_iter().map(change).collect())
        });
        let outcome = self.tell_all(changed, outcome.await);
        self.store.recover();
        self.store.note_changed(changed, self.most);
        outcome
    }

    async fn change<T: Clone + Send + 'static>(
        &self,
        key: &str,
        failed: Failed,
        change: impl Fn(Option<Entry>) -> Result<(Change, T), ErrorKind> + Send + 'static,
    ) -> Result<T, Error> {
        only(self.change_all(vec![(key.to_owned(), ())], failed, move |(), old| change(old)).await)
    }

    /// Changes an entry if there is one, and returns whether there was.
    async fn change_if_there(
        &self,
        key: &str,
        change: impl Fn(Entry) -> Change + Send + 'static,
    ) -> Result<bool, Error> {
        self.change(key, Failed::LeavesNothing, move |old| match old {
            None => Ok((Change::Keep, false)),
            Some(old) => Ok((change(old), true)),
        })
        .await
    }

    async fn count(
        &self,
        key: &str,
        count: impl Fn(u64) -> u64 + Send + 'static,
    ) -> Result<Option<u64>, Error> {
        let change = move |old: Option<Entry>| {
            let Some(old) = old else { return Ok((Change::Keep, None)) };
            let number = count(parse_number(&old.value).ok_or(ErrorKind::NotANumber)?);
            Ok((Change::Put(old.with_value(number.to_string().into())), Some(number)))
        };
        self.change(key, Failed::LeavesOld, change).await
    }

    /// Writes, reads and deletes; returns how many entries there are.
    async fn probe(&self) -> Result<String, Error> {
        let (key, value) = (format!("probe {:016x}", fastrand::u64(..)), Bytes::from_static(b"probe"));
        self.set(&key, value.clone(), Ttl::After(Duration::from_secs(60))).await?;
        let found = self.get(&key).await?;
        self.delete(&key).await?;
        if found != Some(value) {
            return Err(self.error(ErrorKind::Unreachable("what was written cannot be read".into())));
        }
        let size = self.store.read(|_, directory| directory.measure()).await;
        let size = size.map_err(|kind| self.error(kind))?;
        Ok(format!("writes, reads and deletes, {} entries", size.entries))
    }

    fn tell_all<T: Clone>(
        &self,
        number: usize,
        outcome: Result<Vec<Result<T, ErrorKind>>, ErrorKind>,
    ) -> Vec<Result<T, Error>> {
        let outcomes = outcome.unwrap_or_else(|kind| vec![Err(kind); number]);
        outcomes.into_iter().map(|outcome| outcome.map_err(|kind| self.error(kind))).collect()
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { server: self.name.clone(), kind }
    }
}

#[async_trait]
impl Backend for Files {
    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        if keys.is_empty() { vec![] } else { self.read(keys).await }
    }

    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>> {
        if values.is_empty() {
            return vec![];
        }
        self.change_all(values.to_vec(), Failed::LeavesNothing, move |value, _| {
            Ok((Change::put(value, ttl), ()))
        })
        .await
    }

    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.change(key, Failed::LeavesOld, move |old| match old {
            None => Ok((Change::put(value.clone(), ttl), true)),
            Some(_) => Ok((Change::Keep, false)),
        })
        .await
    }

    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.change_if_there(key, move |_| Change::put(value.clone(), ttl)).await
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        if keys.is_empty() {
            return vec![];
        }
        let items = keys.iter().map(|key| (key.clone(), ())).collect();
        self.change_all(items, Failed::LeavesNothing, |(), old| Ok((Change::Remove, old.is_some()))).await
    }

    async fn touch(&self, key: &str, ttl: Ttl) -> Result<bool, Error> {
        self.change_if_there(key, move |old| Change::put(old.value, ttl)).await
    }

    async fn incr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, move |number| number.wrapping_add(delta)).await
    }

    async fn decr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, move |number| number.saturating_sub(delta)).await
    }

    async fn clear(&self) -> Result<(), Error> {
        let clear = |store: &Store, lock: &Locked<'_>, turn: &Turn| {
            let pending = store.breaker.pending(usize::MAX);
            lock.clear(|| turn.is_given_up())?;
            pending.iter().for_each(|pending| store.breaker.confirm(pending));
            Ok(())
        };
        self.store.write(&[], clear).await.map_err(|kind| self.error(kind))
    }

    async fn stats(&self) -> Vec<ServerStats> {
        let measured = self.store.read(|_, directory| directory.measure()).await;
        let stats = measured.map(|size| size_stats(size.entries, size.bytes));
        let stats = stats.map_err(|kind| self.error(kind));
        vec![ServerStats { server: self.name.clone(), stats, link: None }]
    }

    async fn check(&self) -> Vec<ServerCheck> {
        let started = Instant::now();
        let outcome = self.probe().await;
        vec![ServerCheck { server: self.name.clone(), outcome, took: started.elapsed() }]
    }

    async fn close(&self, limit: Duration) {
        let _ = timeout(limit, self.store.breaker.recovered()).await;
    }

    fn server_of(&self, _: &str) -> String {
        self.name.clone()
    }

    fn describe(&self) -> String {
        format!("in files below {}", self.name)
    }
}
