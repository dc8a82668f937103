//! The table within its limits: the time of an operation, what happens when one fails, and how many rows there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::table::{Size, Table};
use crate::db;
use neverstale::backend::breaker::{Breaker, PendingDelete};
use neverstale::backend::recovery::Recover;
use neverstale::backend::{Error, ErrorKind};

pub(super) const NAME: &str = "the database";

/// How much may be there, besides what was written since the last culling: more rows than a busy site has in use, and
/// few enough to be counted in some milliseconds; bytes of keys and values.
const MOST: Size = Size { entries: 100_000, bytes: 256 * 1024 * 1024 };

/// How much is left when there was more than [`MOST`]: two thirds, as with Django's `CULL_FREQUENCY`.
const LEFT: Size = Size { entries: MOST.entries / 3 * 2, bytes: MOST.bytes / 3 * 2 };

/// After how many values stored by this process, or how many bytes, the rows are counted.
const CULL_EVERY: usize = 1_000;
const CULL_EVERY_BYTES: usize = 32 * 1024 * 1024;

/// Rows removed by one statement, so that other writes need not wait long for it.
const CULLED_AT_ONCE: i64 = 1_000;

pub(super) struct Store {
    table: Table,
    /// How long an operation may take.
    timeout: Duration,
    breaker: Breaker,
    /// Held by the write under way. One at a time, so that an earlier write never comes after a later one, though its
    /// caller may have left.
    writing: Arc<Mutex<()>>,
    stored: AtomicUsize,
    stored_bytes: AtomicUsize,
    culling: Mutex<()>,
}

impl Store {
    pub(super) fn new(table: Table, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            table,
            timeout,
            breaker: Breaker::default(),
            writing: Arc::default(),
            stored: AtomicUsize::default(),
            stored_bytes: AtomicUsize::default(),
            culling: Mutex::default(),
        })
    }

    /// Runs an operation that changes nothing. If it takes too long, it is dropped and costs its connection.
    pub(super) async fn read<T>(
        self: &Arc<Self>,
        operation: impl Future<Output = Result<T, db::Error>>,
    ) -> Result<T, Error> {
        self.check_up(&[])?;
        let found = timeout(self.timeout, operation).await;
        let found = found.unwrap_or(Err(db::Error::Timeout));
        found.map_err(|cause| self.fail(&[], self.kind_of(cause), self.table.db().is_congested()))
    }

    /// Runs an operation that changes `keys`. If it fails, they are deleted before they are read again.
    ///
    /// It is never dropped, since the database might do it all the same, and later than what comes next. No caller
    /// waits for it longer than for any other; but pending deletes are sent only after it has ended.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        keys: &[String],
        operation: impl Future<Output = Result<T, db::Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.timeout;
        self.check_up(keys)?;
        // The other half is left for the database.
        let Ok(turn) = timeout(self.timeout / 2, Arc::clone(&self.writing).lock_owned()).await else {
            return Err(self.defer(keys, ErrorKind::Busy));
        };
        self.check_up(keys)?;
        let (store, written) = (Arc::clone(self), keys.to_vec());
        let work = tokio::spawn(async move {
            let _turn = turn;
            operation.await.map_err(|cause| store.fail_write(&written, store.kind_of(cause)))
        });
        match timeout_at(deadline, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(end)) => Err(self.fail_write(keys, ErrorKind::Unreachable(end.to_string()))),
            Err(_) => Err(self.fail_write(keys, ErrorKind::Timeout(self.timeout))),
        }
    }

    pub(super) fn table(&self) -> Table {
        self.table.clone()
    }

    /// Returns the kind of a failure, which the next operation can be expected to meet as well.
    fn kind_of(&self, cause: db::Error) -> ErrorKind {
        match cause {
            db::Error::Timeout => ErrorKind::Timeout(self.timeout),
            cause if cause.is_pool_timeout() => ErrorKind::Timeout(self.timeout),
            db::Error::Unavailable(source)
            | db::Error::Refused(source)
            | db::Error::NoRoom(source)
            | db::Error::ReadOnly(source) => ErrorKind::Unreachable(source.to_string()),
            db::Error::Migrate(source) => ErrorKind::Unreachable(source.to_string()),
            cause @ db::Error::Moved(_) => ErrorKind::Unreachable(cause.to_string()),
        }
    }

    fn fail_write(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> Error {
        self.fail(written, cause, self.table.db().is_congested_for_writes())
    }

    /// Marks the database down, unless the other work of this process has all connections: then nothing was sent.
    fn fail(self: &Arc<Self>, written: &[String], cause: ErrorKind, is_congested: bool) -> Error {
        if matches!(cause, ErrorKind::Timeout(_)) && is_congested {
            return self.defer(written, ErrorKind::Busy);
        }
        self.mark_down(written, cause)
    }

    /// Counts values that were stored, and now and then looks whether the table is too large.
    pub(super) fn note_stored(self: &Arc<Self>, values: usize, bytes: usize) {
        let is_due = |counter: &AtomicUsize, count: usize, every: usize| {
            let before = counter.fetch_add(count, Ordering::Relaxed);
            before / every != before.wrapping_add(count) / every
        };
        let is_due_by_bytes = is_due(&self.stored_bytes, bytes, CULL_EVERY_BYTES);
        if is_due(&self.stored, values, CULL_EVERY) || is_due_by_bytes {
            let store = Arc::clone(self);
            tokio::spawn(async move { store.cull().await });
        }
    }

    /// Removes expired rows and, if there is still too much, others until [`LEFT`]: values without a lifetime first,
    /// which can be made again, then those that would expire next. So a session, which lives for two weeks, outlives
    /// the pages. Ends early if the database fails, which has been logged then.
    async fn cull(self: &Arc<Self>) {
        let Ok(_alone) = self.culling.try_lock() else { return };
        loop {
            let table = self.table();
            let removed = self.write(&[], async move { table.remove_expired(CULLED_AT_ONCE).await }).await;
            match removed {
                Ok(CULLED_AT_ONCE) => {}
                Ok(_) => break,
                Err(_) => return,
            }
        }
        let Ok(mut size) = self.read(self.table.size()).await else { return };
        if size.fits(MOST) {
            return;
        }
        while !size.fits(LEFT) {
            // A part of the rows, since a few large ones may be too much.
            let (table, most) = (self.table(), (size.entries / 50).clamp(1, CULLED_AT_ONCE));
            match self.write(&[], async move { table.remove_first(most).await }).await {
                Ok(removed) if removed.entries > 0 => {
                    size.entries -= removed.entries;
                    size.bytes -= removed.bytes;
                }
                _ => return,
            }
        }
    }
}

impl Recover for Store {
    const WHAT: &str = "the cache in the database";
    const DELETES_AT_ONCE: usize = 1_000;

    fn name(&self) -> &str {
        NAME
    }

    fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn retry_interval(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn send_deletes(self: &Arc<Self>, deletes: &[PendingDelete]) -> Result<usize, Error> {
        let _turn = self.writing.lock().await;
        let keys: Vec<_> = deletes.iter().map(|delete| delete.key.clone()).collect();
        let deleted = timeout(self.timeout, self.table.delete_many(&keys)).await;
        deleted
            .unwrap_or(Err(db::Error::Timeout))
            .map_err(|cause| self.fail_write(&[], self.kind_of(cause)))?;
        deletes.iter().for_each(|delete| self.breaker.confirm(delete));
        Ok(deletes.len())
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;

    use bytes::Bytes;

    use super::*;
    use crate::db::cache::DatabaseCache;
    use crate::db::{Database, Engine};
    use neverstale::Ttl;
    use neverstale::backend::Backend;

    /// Returns a cache in a database of its own, in which `k` and `other` are stored.
    async fn cache(directory: &tempfile::TempDir) -> DatabaseCache {
        let url = format!("sqlite://{}/db.sqlite3", directory.path().display());
        let db = Database::new(&url.parse().unwrap());
        db.migrate().await.unwrap();
        let cache = DatabaseCache::new(db);
        for key in ["k", "other"] {
            cache.set(key, Bytes::from_static(b"old"), Ttl::Never).await.unwrap();
        }
        cache
    }

    #[tokio::test]
    async fn a_write_that_waits_in_vain_for_another_costs_its_own_key_only() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(&directory).await;
        let Engine::Sqlite { connections, .. } = &*cache.store.table.db().engine else { panic!("no SQLite") };
        let operations = ["set", "delete", "replace", "ended", "many"];
        for (operation, is_of_cache) in operations.map(|name| [(name, true), (name, false)]).concat() {
            cache.set("k", Bytes::from_static(b"old"), Ttl::Never).await.unwrap();
            let other_write: Box<dyn Any> = match is_of_cache {
                true => Box::new(Arc::clone(&cache.store.writing).lock_owned().await),
                false => Box::new(connections.writes.lease().await.unwrap()),
            };
            let (keys, new) = (["k".to_owned()], Bytes::from_static(b"new"));
            // The waiting write meets nothing but its deadline.
            tokio::time::pause();
            let failed = match operation {
                "set" => cache.set("k", new, Ttl::Never).await.unwrap_err(),
                "delete" => cache.delete("k").await.unwrap_err(),
                "replace" => cache.replace("k", new, Ttl::Never).await.unwrap_err(),
                "ended" => cache.touch("k", Ttl::After(Duration::ZERO)).await.unwrap_err(),
                _ => cache.delete_many(&keys).await.remove(0).unwrap_err(),
            };
            tokio::time::resume();
            assert_eq!(failed.kind, ErrorKind::Busy, "{operation}");
            assert_eq!(cache.get("other").await.unwrap().as_deref(), Some(&b"old"[..]), "{operation}");
            let both = cache.get_many(&["k".into(), "other".into()]).await;
            assert!(both[0].is_err() && both[1].is_ok(), "{operation}: the old value is not read");
            assert_eq!(cache.get("k").await.unwrap_err().kind, ErrorKind::Busy, "{operation}");
            assert_eq!(cache.add("k", Bytes::new(), Ttl::Never).await.unwrap_err().kind, ErrorKind::Busy);
            drop(other_write);
            while cache.store.breaker.is_pending("k") {
                tokio::task::yield_now().await;
            }
            assert_eq!(cache.get("k").await.unwrap(), None, "{operation}");
        }
    }
}
