//! The table within its limits: the time of an operation, what happens when one fails, and how many rows there are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::NAME;
use super::table::Table;
use crate::cache::backend::breaker::{Breaker, Opened};
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
        found.unwrap_or(Err(db::Error::Timeout)).map_err(|cause| self.leave_out(&[], to_kind(cause)))
    }

    /// Runs an operation that changes something. If it fails, `keys` are deleted before anything is asked again.
    ///
    /// It is never dropped, since the database might do it all the same, and later than what comes next. Nobody waits
    /// for it longer than for any other; but what is owed is deleted only after it has ended.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        keys: &[String],
        operation: impl Future<Output = Result<T, db::Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        if self.breaker.refuses(keys) {
            return Err(error(ErrorKind::LeftOut));
        }
        let Ok(turn) = timeout_at(deadline, Arc::clone(&self.writing).lock_owned()).await else {
            // Too many callers are no fault of the database's; but what they could not write is owed all the same.
            let is_owed = !keys.is_empty();
            return Err(if is_owed { self.leave_out(keys, ErrorKind::Busy) } else { error(ErrorKind::Busy) });
        };
        if self.breaker.refuses(keys) {
            return Err(error(ErrorKind::LeftOut));
        }
        let (store, owed) = (Arc::clone(self), keys.to_vec());
        let work = tokio::spawn(async move {
            let _turn = turn;
            operation.await.map_err(|cause| store.leave_out(&owed, to_kind(cause)))
        });
        match timeout_at(deadline, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(end)) => Err(self.leave_out(keys, ErrorKind::Unreachable(end.to_string()))),
            Err(_) => Err(self.leave_out(keys, ErrorKind::Timeout(OPERATION_TIMEOUT))),
        }
    }

    pub(super) fn table(&self) -> Table {
        self.table.clone()
    }

    fn leave_out(self: &Arc<Self>, owed: &[String], cause: ErrorKind) -> Error {
        if self.breaker.open(owed) == Opened::Now {
            tracing::warn!("the cache in the database is left out: {cause}");
            tokio::spawn(recover(Arc::downgrade(self)));
        }
        error(cause)
    }

    /// Removes what is owed, and returns whether the database is asked again.
    async fn try_again(&self) -> Result<bool, ErrorKind> {
        let _turn = self.writing.lock().await;
        let pending = self.breaker.pending(DELETES_AT_ONCE);
        let keys: Vec<_> = pending.iter().map(|delete| delete.key.clone()).collect();
        let deleted = timeout(OPERATION_TIMEOUT, self.table.delete_many(&keys)).await;
        deleted.unwrap_or(Err(db::Error::Timeout)).map_err(to_kind)?;
        let Some(forgotten) = self.breaker.close(&pending) else { return Ok(false) };
        tracing::info!(deleted = keys.len(), forgotten, "the cache in the database answers again");
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

/// Tries a database that is left out until it answers. Ends with the backend.
async fn recover(store: Weak<Store>) {
    loop {
        sleep(RETRY).await;
        let Some(store) = store.upgrade() else { return };
        while let Ok(is_asked_again) = store.try_again().await {
            if is_asked_again {
                return;
            }
        }
    }
}

pub(super) fn error(kind: ErrorKind) -> Error {
    Error { server: NAME.into(), kind }
}

/// Says what an error means for the cache: whatever it is, the next operation can be expected to meet it as well.
fn to_kind(cause: db::Error) -> ErrorKind {
    match cause {
        db::Error::Timeout => ErrorKind::Timeout(OPERATION_TIMEOUT),
        db::Error::Unavailable(source)
        | db::Error::Refused(source)
        | db::Error::NoRoom(source)
        | db::Error::ReadOnly(source) => ErrorKind::Unreachable(source.to_string()),
        db::Error::Migrate(source) => ErrorKind::Unreachable(source.to_string()),
        cause @ db::Error::Moved(_) => ErrorKind::Unreachable(cause.to_string()),
    }
}
