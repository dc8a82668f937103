//! The table within its limits: the time of an operation, what happens when one fails, and how many rows there are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::NAME;
use super::table::Table;
use crate::cache::backend::breaker::{Breaker, Closed, Opened};
use crate::cache::backend::{Error, ErrorKind, OPERATION_TIMEOUT};
use crate::db;

/// How often a database that is left out is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Pending deletes sent at once to a database that is back.
const DELETES_AT_ONCE: usize = 1_000;

/// How many rows may be there, besides those written since the last culling: more than a busy site has in use, and few
/// enough to be counted in some milliseconds.
const MOST_ENTRIES: i64 = 100_000;

/// After how many values stored by this process the rows are counted.
const CULL_EVERY: usize = 1_000;

/// The part of the rows that goes when there are too many: one of so many, as with Django's `CULL_FREQUENCY`.
const CULLED_PART: i64 = 3;

/// Rows removed by one statement, so that others need not wait long for it.
const CULLED_AT_ONCE: i64 = 1_000;

pub(super) struct Store {
    table: Table,
    breaker: Breaker,
    /// Held by the write under way. One at a time, so that what was asked for first never comes last, though its
    /// caller may have left; and in SQLite, which has one writer, the others queue instead of polling.
    writing: Arc<Mutex<()>>,
    stored: AtomicUsize,
    culling: Mutex<()>,
}

impl Store {
    pub(super) fn new(table: Table) -> Arc<Self> {
        Arc::new(Self {
            table,
            breaker: Breaker::default(),
            writing: Arc::default(),
            stored: AtomicUsize::default(),
            culling: Mutex::default(),
        })
    }

    /// Runs an operation that changes nothing. If it takes too long, it is dropped and costs its connection.
    pub(super) async fn read<T>(
        self: &Arc<Self>,
        operation: impl Future<Output = Result<T, db::Error>>,
    ) -> Result<T, Error> {
        if self.breaker.refuses(&[]) {
            return Err(error(ErrorKind::LeftOut));
        }
        let found = timeout(OPERATION_TIMEOUT, operation).await;
        found.unwrap_or(Err(db::Error::Timeout)).map_err(|cause| self.fail(&[], to_kind(cause)))
    }

    /// Returns an error if the value of a key must not be looked at, since its delete is pending.
    pub(super) fn check_readable(&self, key: &str) -> Result<(), Error> {
        if self.breaker.is_pending(key) { Err(error(ErrorKind::Busy)) } else { Ok(()) }
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
        let started = Instant::now();
        let deadline = started + OPERATION_TIMEOUT;
        if self.breaker.refuses(keys) {
            return Err(error(ErrorKind::LeftOut));
        }
        let Ok(turn) = timeout_at(deadline, Arc::clone(&self.writing).lock_owned()).await else {
            return Err(self.defer(keys, ErrorKind::Busy));
        };
        let waited = started.elapsed();
        if self.breaker.refuses(keys) {
            return Err(error(ErrorKind::LeftOut));
        }
        let (store, written) = (Arc::clone(self), keys.to_vec());
        let work = tokio::spawn(async move {
            let _turn = turn;
            operation.await.map_err(|cause| store.fail(&written, to_kind(cause)))
        });
        match timeout_at(deadline, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(end)) => Err(self.fail(keys, ErrorKind::Unreachable(end.to_string()))),
            // The other writes of this process took the time, and the database had too little of it.
            Err(_) if waited > OPERATION_TIMEOUT / 2 => {
                Err(self.defer(keys, ErrorKind::Timeout(OPERATION_TIMEOUT)))
            }
            Err(_) => Err(self.fail(keys, ErrorKind::Timeout(OPERATION_TIMEOUT))),
        }
    }

    pub(super) fn table(&self) -> Table {
        self.table.clone()
    }

    /// Marks the database down, unless the other work of this process has all connections: then nothing was sent.
    fn fail(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> Error {
        if matches!(cause, ErrorKind::Timeout(_)) && self.table.db().is_congested() {
            return self.defer(written, ErrorKind::Busy);
        }
        if self.breaker.open(written) == Opened::Now {
            tracing::warn!("the cache in the database is left out: {cause}");
        }
        self.recover(RETRY);
        error(cause)
    }

    /// Notes a failure that is not the database's: others are not refused because of it, and `written` are deleted
    /// before they are read again.
    pub(super) fn defer(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> Error {
        self.breaker.defer(written);
        self.recover(Duration::ZERO);
        error(cause)
    }

    fn recover(self: &Arc<Self>, pause: Duration) {
        if self.breaker.begin_recovery() {
            tokio::spawn(recover(Arc::downgrade(self), pause));
        }
    }

    /// Sends pending deletes, and returns whether the database has received all of them.
    async fn try_again(self: &Arc<Self>) -> Result<bool, Error> {
        let _turn = self.writing.lock().await;
        let pending = self.breaker.pending(DELETES_AT_ONCE);
        let keys: Vec<_> = pending.iter().map(|delete| delete.key.clone()).collect();
        let deleted = timeout(OPERATION_TIMEOUT, self.table.delete_many(&keys)).await;
        deleted.unwrap_or(Err(db::Error::Timeout)).map_err(|cause| self.fail(&[], to_kind(cause)))?;
        let Some(Closed { was_open, forgotten }) = self.breaker.close(&pending) else { return Ok(false) };
        if was_open {
            tracing::info!(deleted = keys.len(), forgotten, "the cache in the database answers again");
        }
        Ok(true)
    }

    /// Counts values that were stored, and now and then the rows.
    pub(super) fn note_stored(self: &Arc<Self>, values: usize) {
        let before = self.stored.fetch_add(values, Ordering::Relaxed);
        if before / CULL_EVERY != before.wrapping_add(values) / CULL_EVERY {
            let store = Arc::clone(self);
            tokio::spawn(async move { store.cull().await });
        }
    }

    /// Removes expired rows and, if there are still too many, a part of the others by lowest key, as Django's
    /// `DatabaseCache._cull` does. Ends early if the database fails, which has been logged then.
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
        let rows = self.read(self.table.rows()).await.unwrap_or_default();
        let mut surplus = if rows > MOST_ENTRIES { rows / CULLED_PART } else { 0 };
        while surplus > 0 {
            let (table, most) = (self.table(), surplus.min(CULLED_AT_ONCE));
            match self.write(&[], async move { table.remove_lowest(most).await }).await {
                Ok(removed @ 1..) => surplus -= removed,
                _ => return,
            }
        }
    }
}

/// Tries the database until it has received all pending deletes. Ends with the backend.
async fn recover(store: Weak<Store>, first_pause: Duration) {
    let mut pause = first_pause;
    loop {
        sleep(pause).await;
        let Some(store) = store.upgrade() else { return };
        while let Ok(is_done) = store.try_again().await {
            if is_done {
                return;
            }
        }
        pause = RETRY;
    }
}

pub(super) fn error(kind: ErrorKind) -> Error {
    Error { server: NAME.into(), kind }
}

/// Says what an error means for the cache: whatever it is, the next operation can be expected to meet it as well.
fn to_kind(cause: db::Error) -> ErrorKind {
    match cause {
        db::Error::Timeout => ErrorKind::Timeout(OPERATION_TIMEOUT),
        db::Error::Unavailable(source) if matches!(*source, sqlx::Error::PoolTimedOut) => {
            ErrorKind::Timeout(OPERATION_TIMEOUT)
        }
        db::Error::Unavailable(source)
        | db::Error::Refused(source)
        | db::Error::NoRoom(source)
        | db::Error::ReadOnly(source) => ErrorKind::Unreachable(source.to_string()),
        db::Error::Migrate(source) => ErrorKind::Unreachable(source.to_string()),
        cause @ db::Error::Moved(_) => ErrorKind::Unreachable(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cache::Ttl;
    use crate::cache::backend::Backend;
    use crate::cache::backend::database::DatabaseCache;
    use crate::config::{Config, Variables};
    use crate::db::Database;

    /// Returns a cache in a database of its own, in which `k` and `other` are stored.
    async fn cache(directory: &tempfile::TempDir) -> DatabaseCache {
        let url = format!("sqlite://{}/db.sqlite3", directory.path().display());
        let config = Config::from_variables(&Variables::from([("DATABASE_URL", url.as_str())])).unwrap();
        let db = Database::new(&config.database);
        db.migrate().await.unwrap();
        let cache = DatabaseCache::new(db);
        for key in ["k", "other"] {
            cache.set(key, Bytes::from_static(b"old"), Ttl::Never).await.unwrap();
        }
        cache
    }

    #[tokio::test]
    async fn a_write_that_waits_in_vain_for_the_one_before_costs_its_own_key_only() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(&directory).await;
        for operation in ["set", "delete", "replace", "ended", "many"] {
            cache.set("k", Bytes::from_static(b"old"), Ttl::Never).await.unwrap();
            let other_write = Arc::clone(&cache.store.writing).lock_owned().await;
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
