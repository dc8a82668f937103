//! A cache in files below a directory, for several processes on one machine that have no memcached.
//!
//! Every key has a file, named by the key's hash. Files are read and written on the runtime's blocking threads, a
//! multi-key operation on one of them. Of a write that took too long the caller learns so, and the thread gives it up
//! before it could undo a later one.
//!
//! A process that is stopped in the middle of a change keeps a lock. The keys that share it, one in sixteen, can be
//! read and not changed until it goes on or ends.

mod directory;
mod entry;
mod store;
mod sweep;
mod threads;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use self::directory::Name;
use self::entry::Entry;
use self::store::{Change, Failed, Store};
use self::threads::LOCKS;
use self::threads::{Threads, Turn};
use super::{Backend, Error, ErrorKind, ServerCheck, ServerStats, fitting, parse_number, size_stats};
use crate::Ttl;

/// An outage is logged when it begins, and so often while it lasts.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The backend over files.
pub struct Files {
    name: String,
    store: Arc<Store>,
    threads: Threads,
    logged: Mutex<Option<Instant>>,
}

impl Files {
    /// Names the directory; it is made, for this user alone, when it is first used.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            name: directory.display().to_string(),
            store: Arc::new(Store::new(directory)),
            threads: Threads::new(),
            logged: Mutex::default(),
        }
    }

    /// Runs work in the directory, once that is prepared.
    async fn run<T: Send + 'static>(
        &self,
        locks: &BTreeSet<usize>,
        work: impl FnOnce(&Store, &Turn) -> Result<T, ErrorKind> + Send + 'static,
    ) -> Result<T, ErrorKind> {
        let store = Arc::clone(&self.store);
        let prepared = move |turn: &Turn| store.prepare().and_then(|()| work(&store, turn));
        self.threads.run(locks, prepared).await.flatten()
    }

    async fn read(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        let names: Vec<_> = keys.iter().map(Name::new).collect();
        let work = move |store: &Store, _: &Turn| Ok(names.iter().map(|name| store.read(name)).collect());
        self.tell_all(keys.len(), self.run(&BTreeSet::new(), work).await)
    }

    /// Changes entries, each with what goes with its key.
    async fn change_all<I: Send + 'static, T: Clone + Send + 'static>(
        &self,
        items: Vec<(Name, I)>,
        failed: Failed,
        change: impl Fn(I, Option<Entry>) -> Result<(Change, T), ErrorKind> + Send + 'static,
    ) -> Vec<Result<T, Error>> {
        let names: Vec<_> = items.iter().map(|(name, _)| name.clone()).collect();
        let locks = names.iter().map(Name::lock).collect();
        let work = move |store: &Store, turn: &Turn| {
            let items = items.into_iter();
            Ok(items.map(|(name, item)| store.change(&name, turn, failed, |old| change(item, old))).collect())
        };
        let (changed, outcome) = (names.len(), self.run(&locks, work).await);
        if outcome.is_err() && failed == Failed::LeavesNothing {
            self.store.owe(names);
        }
        if self.store.is_cull_due(changed) {
            let store = Arc::clone(&self.store);
            self.threads.run_aside(move || store.cull());
        }
        self.tell_all(changed, outcome)
    }

    async fn change<T: Clone + Send + 'static>(
        &self,
        key: &str,
        failed: Failed,
        change: impl Fn(Option<Entry>) -> Result<(Change, T), ErrorKind> + Send + 'static,
    ) -> Result<T, Error> {
        let changed = self.change_all(vec![(Name::new(key), ())], failed, move |(), old| change(old)).await;
        only(changed)
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

    fn tell_all<T: Clone>(
        &self,
        number: usize,
        outcome: Result<Vec<Result<T, ErrorKind>>, ErrorKind>,
    ) -> Vec<Result<T, Error>> {
        let outcomes = outcome.unwrap_or_else(|kind| vec![Err(kind); number]);
        outcomes.into_iter().map(|outcome| outcome.map_err(|kind| self.error(kind))).collect()
    }

    fn error(&self, kind: ErrorKind) -> Error {
        if kind.is_outage() && kind != ErrorKind::LeftOut && self.is_log_due() {
            tracing::warn!(cache.directory = self.name, "the cache's files cannot be used: {kind}");
        }
        Error { server: self.name.clone(), kind }
    }

    fn is_log_due(&self) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY);
        if is_due {
            *logged = Some(Instant::now());
        }
        is_due
    }
}

fn only<T>(mut results: Vec<T>) -> T {
    results.pop().expect("one key has one result")
}

#[async_trait]
impl Backend for Files {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        only(self.read(&[key.to_owned()]).await)
    }

    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        if keys.is_empty() { vec![] } else { self.read(keys).await }
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<(), Error> {
        only(self.set_many(&[(key.to_owned(), value)], ttl).await)
    }

    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>> {
        if values.is_empty() {
            return vec![];
        }
        let items = values.iter().map(|(key, value)| (Name::new(key), fitting(value.clone(), &self.name)));
        // A value that is too long leaves no older one behind.
        let stored = self.change_all(items.collect(), Failed::LeavesNothing, move |value, _| match value {
            Ok(value) => Ok((Change::put(value, ttl), Ok(()))),
            Err(error) => Ok((Change::Remove, Err(error))),
        });
        stored.await.into_iter().map(Result::flatten).collect()
    }

    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        let value = fitting(value, &self.name)?;
        self.change(key, Failed::LeavesOld, move |old| match old {
            None => Ok((Change::put(value.clone(), ttl), true)),
            Some(_) => Ok((Change::Keep, false)),
        })
        .await
    }

    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        let value = fitting(value, &self.name)?;
        self.change_if_there(key, move |_| Change::put(value.clone(), ttl)).await
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.change(key, Failed::LeavesNothing, |old| Ok((Change::Remove, old.is_some()))).await
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        if keys.is_empty() {
            return vec![];
        }
        let items = keys.iter().map(|key| (Name::new(key), ())).collect();
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
        self.run(&(0..LOCKS).collect(), Store::clear).await.map_err(|kind| self.error(kind))
    }

    async fn stats(&self) -> Vec<ServerStats> {
        let measured = self.run(&BTreeSet::new(), |store, _| store.measure()).await;
        let stats = measured.map(|size| size_stats(size.entries, size.bytes));
        vec![ServerStats {
            server: self.name.clone(),
            stats: stats.map_err(|kind| self.error(kind)),
            link: None,
        }]
    }

    async fn check(&self) -> Vec<ServerCheck> {
        let started = Instant::now();
        // No key of a value has a blank.
        let probe = Name::new(format!("probe {:016x}", fastrand::u64(..)));
        let locks = [probe.lock()].into();
        let entries = self.run(&locks, move |store, turn| store.probe(&probe, turn)).await;
        let entries = entries.map_err(|kind| self.error(kind));
        let outcome = entries.map(|entries| format!("writes, reads and deletes, {entries} entries"));
        vec![ServerCheck { server: self.name.clone(), outcome, took: started.elapsed() }]
    }

    fn server_of(&self, _: &str) -> String {
        self.name.clone()
    }

    fn describe(&self) -> String {
        format!("in files below {}", self.name)
    }
}
