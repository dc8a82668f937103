//! A cache in files below a directory, for several processes on one machine that have no memcached.
//!
//! Every key has a file, named by the key's hash. Files are read and written on the runtime's blocking threads, a
//! multi-key operation on one of them. A change that has taken too long, or whose caller has left, is given up before
//! it could undo a later one.
//!
//! Changes of all processes wait for each other; reads wait for nothing. A process that is stopped in the middle of a
//! change keeps the lock: until it goes on or ends, values can be read and not changed.

mod directory;
mod entry;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use self::directory::{Directory, Locked, Size, Turn};
use self::entry::Entry;
use super::breaker::{Breaker, PendingDelete};
use super::recovery::Recover;
use super::seldom::Seldom;
use super::{
    Backend, Error, ErrorKind, OPERATION_TIMEOUT, ServerCheck, ServerStats, parse_number, size_stats,
};
use crate::Ttl;

/// Threads at work at once.
const THREADS: u32 = 8;

/// The part of an operation's time that is left when its thread gives up, so that it is back before its caller has
/// gone: 50 ms by default.
const MARGIN: u32 = 15;

/// Of so many changed keys one has its process look whether there are too many, which costs as much as some ten writes.
const CULL_EVERY: usize = 100;

/// The backend over files.
pub struct Files {
    store: Arc<Store>,
    most: Size,
}

struct Store {
    name: String,
    directory: Directory,
    /// How long an operation may take.
    timeout: Duration,
    breaker: Breaker,
    permits: Arc<Semaphore>,
    /// Changes queue here before they wait for the lock of all processes, which so costs one thread and not all.
    changing: Arc<Mutex<()>>,
    warned: Seldom,
}

impl Files {
    /// Names the directory; it is made, for this user alone, when it is first used.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self::with_timeout(directory, OPERATION_TIMEOUT)
    }

    /// As [`new`](Self::new), for operations that may take so long: 750 ms by default.
    #[must_use]
    pub fn with_timeout(directory: PathBuf, timeout: Duration) -> Self {
        let store = Store {
            name: directory.display().to_string(),
            directory: Directory::new(directory),
            timeout,
            breaker: Breaker::default(),
            permits: Arc::new(Semaphore::new(THREADS as usize)),
            changing: Arc::default(),
            warned: Seldom::default(),
        };
        Self { store: Arc::new(store), most: Size { entries: 10_000, bytes: 256 * 1024 * 1024 } }
    }

    /// Limits the number of entries, 10,000 by default. A directory of so many is looked through in a fraction of a
    /// second. Entries that are written between two looks, about a hundred, come on top.
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

    /// Runs a change of keys, and makes room in the background now and then. If it fails, `written` are deleted before
    /// they are read again.
    async fn change<T: Send + 'static>(
        &self,
        keys: usize,
        written: &[String],
        change: impl FnOnce(&Locked<'_>) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.store.check_up(written)?;
        let changed = self.store.run_locked(change).await.map_err(|cause| self.store.fail(written, cause))?;
        if fastrand::usize(..CULL_EVERY) < keys {
            let (store, most) = (Arc::clone(&self.store), self.most);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = store.directory.cull(most) {
                    tracing::warn!(cache.directory = store.name, "failed to cull the cache: {error}");
                }
            });
        }
        Ok(changed)
    }

    /// Changes an entry if there is one, and returns whether there was.
    async fn change_if_there(
        &self,
        key: &str,
        written: &[String],
        change: impl FnOnce(Entry) -> Entry + Send + 'static,
    ) -> Result<bool, Error> {
        self.store.check_readable(key)?;
        let name = key.to_owned();
        let change = move |locked: &Locked<'_>| match locked.directory.read(&name)? {
            None => Ok(false),
            Some(old) => locked.write(&name, &change(old)).map(|()| true),
        };
        self.change(1, written, change).await
    }

    async fn count(
        &self,
        key: &str,
        count: impl FnOnce(u64) -> u64 + Send + 'static,
    ) -> Result<Option<u64>, Error> {
        self.store.check_readable(key)?;
        let name = key.to_owned();
        let change = move |locked: &Locked<'_>| {
            let Some(old) = locked.directory.read(&name)? else { return Ok(Ok(None)) };
            let Some(number) = parse_number(&old.value) else { return Ok(Err(ErrorKind::NotANumber)) };
            let number = count(number);
            locked.write(&name, &old.with_value(number.to_string().into()))?;
            Ok(Ok(Some(number)))
        };
        self.change(1, &[], change).await?.map_err(|kind| self.store.error(kind))
    }

    /// Writes, reads and deletes; returns how many entries there are.
    async fn probe(&self) -> Result<String, Error> {
        let (key, value) = (format!("probe {:016x}", fastrand::u64(..)), Bytes::from_static(b"probe"));
        self.set(&key, value.clone(), Ttl::After(Duration::from_secs(60))).await?;
        let found = self.get(&key).await?;
        self.delete(&key).await?;
        if found != Some(value) {
            let cause = ErrorKind::Unreachable("what was written cannot be read".into());
            return Err(self.store.error(cause));
        }
        let size = self.store.read(Directory::measure).await?;
        Ok(format!("writes, reads and deletes, {} entries", size.entries))
    }
}

impl Store {
    /// Runs work that needs no lock.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.check_up(&[])?;
        let work = async { self.run(self.ends()?, work).await };
        work.await.map_err(|cause| self.fail(&[], cause))
    }

    /// Runs work under the lock of all processes.
    async fn run_locked<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Locked<'_>) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ErrorKind> {
        let ends = self.ends()?;
        let queued = timeout_at(ends, Arc::clone(&self.changing).lock_owned()).await;
        let queued = queued.map_err(|_| ErrorKind::Busy)?;
        let caller = Arc::new(());
        let turn = Turn { until: ends - self.timeout / MARGIN, caller: Arc::downgrade(&caller) };
        let locked = move |directory: &Directory| {
            let _queued = queued;
            work(&directory.lock(turn)?)
        };
        self.run(ends, locked).await
    }

    /// Runs work on a thread, which keeps a permit while it hangs.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        ends: Instant,
        work: impl FnOnce(&Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ErrorKind> {
        let permit = timeout_at(ends, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| ErrorKind::Busy)?;
        let store = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            store.directory.make().and_then(|()| work(&store.directory))
        });
        match timeout_at(ends, work).await {
            Ok(Ok(done)) => done.map_err(|error| match error.kind() {
                // Another process has kept the lock.
                io::ErrorKind::TimedOut => ErrorKind::Busy,
                _ => ErrorKind::Unreachable(error.to_string()),
            }),
            Ok(Err(panic)) => Err(ErrorKind::Unreachable(panic.to_string())),
            Err(_) => Err(ErrorKind::Timeout(self.timeout)),
        }
    }

    /// Returns when an operation that begins now has to end.
    fn ends(&self) -> Result<Instant, ErrorKind> {
        Handle::try_current().map_err(|error| ErrorKind::Unreachable(error.to_string()))?;
        Ok(Instant::now() + self.timeout)
    }

    /// Notes a failure. While a thread hangs, so does the file system, and nothing else is run; any other failure
    /// concerns `written` alone, which are deleted before they are read again.
    fn fail(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> Error {
        if matches!(cause, ErrorKind::Timeout(_)) {
            return self.mark_down(written, cause);
        }
        if self.warned.is_due() {
            tracing::warn!(cache.directory = self.name, "the cache's files cannot be used: {cause}");
        }
        self.defer(written, cause)
    }
}

impl Recover for Store {
    const WHAT: &str = "the cache in files";
    const DELETES_AT_ONCE: usize = 100;

    fn name(&self) -> &str {
        &self.name
    }

    fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn retry_interval(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn send_deletes(self: &Arc<Self>, deletes: &[PendingDelete]) -> Result<usize, Error> {
        // Once all threads are back none hangs, and no earlier write can follow the deletes.
        drop(self.permits.acquire_many(THREADS).await);
        let keys: Vec<_> = deletes.iter().map(|delete| delete.key.clone()).collect();
        let delete = move |locked: &Locked<'_>| keys.iter().try_for_each(|key| locked.remove(key));
        self.run_locked(delete).await.map_err(|cause| self.fail(&[], cause))?;
        deletes.iter().for_each(|delete| self.breaker.confirm(delete));
        Ok(deletes.len())
    }
}

#[async_trait]
impl Backend for Files {
    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        if keys.is_empty() {
            return vec![];
        }
        // Before they are read: a delete that is received meanwhile may come after that.
        let readable: Vec<_> = keys.iter().map(|key| self.store.check_readable(key)).collect();
        let names = keys.to_vec();
        let read = move |directory: &Directory| names.iter().map(|key| directory.read(key)).collect();
        match self.store.read::<Vec<Option<Entry>>>(read).await {
            Ok(found) => {
                let value = |(readable, entry): (Result<(), Error>, Option<Entry>)| {
                    readable.map(|()| entry.map(|entry| entry.value))
                };
                readable.into_iter().zip(found).map(value).collect()
            }
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>> {
        if values.is_empty() {
            return vec![];
        }
        let keys: Vec<_> = values.iter().map(|(key, _)| key.clone()).collect();
        let values = values.to_vec();
        let set = move |locked: &Locked<'_>| {
            values.into_iter().try_for_each(|(key, value)| locked.write(&key, &Entry::new(value, ttl)))
        };
        vec![self.change(keys.len(), &keys, set).await; keys.len()]
    }

    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.store.check_readable(key)?;
        let name = key.to_owned();
        let add = move |locked: &Locked<'_>| match locked.directory.read(&name)? {
            Some(_) => Ok(false),
            None => locked.write(&name, &Entry::new(value, ttl)).map(|()| true),
        };
        self.change(1, &[], add).await
    }

    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.change_if_there(key, &[key.to_owned()], move |_| Entry::new(value, ttl)).await
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        if keys.is_empty() {
            return vec![];
        }
        let names = keys.to_vec();
        let delete = |key: &String, locked: &Locked<'_>| {
            let was_there = locked.directory.read(key)?.is_some();
            locked.remove(key).map(|()| was_there)
        };
        let delete_all = move |locked: &Locked<'_>| {
            names.iter().map(|key| delete(key, locked)).collect::<io::Result<Vec<_>>>()
        };
        match self.change(keys.len(), keys, delete_all).await {
            Ok(deleted) => deleted.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    async fn touch(&self, key: &str, ttl: Ttl) -> Result<bool, Error> {
        // A value that was to end at once must not stay because that failed.
        let ended = if ttl.is_over() { vec![key.to_owned()] } else { vec![] };
        self.change_if_there(key, &ended, move |old| Entry::new(old.value, ttl)).await
    }

    async fn incr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, move |number| number.wrapping_add(delta)).await
    }

    async fn decr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, move |number| number.saturating_sub(delta)).await
    }

    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method is not general enough")]
    async fn clear(&self) -> Result<(), Error> {
        self.change(0, &[], |locked| locked.clear()).await
    }

    async fn stats(&self) -> Vec<ServerStats> {
        let stats = self.store.read(Directory::measure).await;
        let stats = stats.map(|size| size_stats(size.entries, size.bytes));
        vec![ServerStats { server: self.store.name.clone(), stats, link: None }]
    }

    async fn check(&self) -> Vec<ServerCheck> {
        let started = Instant::now();
        let outcome = self.probe().await;
        vec![ServerCheck { server: self.store.name.clone(), outcome, took: started.elapsed() }]
    }

    async fn close(&self, limit: Duration) {
        let _ = timeout(limit, self.store.breaker.recovered()).await;
    }

    fn server_of(&self, _: &str) -> String {
        self.store.name.clone()
    }

    fn describe(&self) -> String {
        format!("in files below {}", self.store.name)
    }
}
