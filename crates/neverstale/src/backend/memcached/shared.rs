//! The client, what each server still has to delete, and what is done about a write whose outcome is uncertain.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::pending::{Number, Pending};
use crate::backend::{Error, ErrorKind};
use tokio_memcached::{Client, Options, Ring, is_valid_key};

/// Deletes sent at once.
const DELETED_AT_ONCE: usize = 500;

/// Writes that may go on in the background at once, since their callers have gone.
const BACKGROUND_WRITES: usize = 1000;

/// How long a delivery waits for a server that is down before it looks whether the backend is still there.
const LOOK: Duration = Duration::from_secs(1);

/// How often at most it is logged that a server refuses writes.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// What the backend and its background tasks share.
pub(super) struct Shared {
    pub(super) client: Client,
    names: Vec<String>,
    ring: Ring,
    pending: Vec<Pending>,
    retry_interval: Duration,
    background_writes: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            names: options.servers().iter().map(ToString::to_string).collect(),
            ring: Ring::new(options.servers()),
            pending: options.servers().iter().map(|_| Pending::default()).collect(),
            // An interval of zero must not keep the processor busy.
            retry_interval: options.get_retry_interval().max(Duration::from_millis(10)),
            background_writes: Arc::new(Semaphore::new(BACKGROUND_WRITES)),
            client: Client::new(options),
        })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the name of the server that has a key.
    pub(super) fn server_of(&self, key: &str) -> &str {
        self.names.get(self.ring.server_of(key.as_bytes())).map_or("memcached", String::as_str)
    }

    pub(super) fn background_writes(&self) -> &Arc<Semaphore> {
        &self.background_writes
    }

    /// Returns the pending deletes of the server that has a key; none for what is no key.
    fn pending(&self, key: &str) -> Option<&Pending> {
        if !is_valid_key(key.as_bytes()) {
            return None;
        }
        self.pending.get(self.ring.server_of(key.as_bytes()))
    }

    /// Returns the number of a key that has a pending delete.
    pub(super) fn number_of(&self, key: &str) -> Option<Number> {
        self.pending(key)?.number_of(key)
    }

    pub(super) fn numbers_of(&self, keys: &[String]) -> Vec<Option<Number>> {
        keys.iter().map(|key| self.number_of(key)).collect()
    }

    /// Returns every pending delete there is.
    pub(super) fn all_pending(&self) -> Vec<(String, Number)> {
        self.pending.iter().flat_map(|pending| pending.behind(None, usize::MAX)).collect()
    }

    pub(super) fn confirm(&self, key: &str, number: Option<Number>) {
        if let Some(pending) = self.pending(key) {
            pending.confirm(key, number);
        }
    }

    /// Has keys deleted in the background, before which they are not read.
    pub(super) fn add_pending<'a>(self: &Arc<Self>, keys: impl IntoIterator<Item = &'a str>) {
        for key in keys {
            if let Some(pending) = self.pending(key) {
                pending.add(key);
            }
        }
        self.deliver_in_background();
    }

    /// Draws the consequences from the outcomes of a write. `numbers` are those of the keys when it began.
    ///
    /// A server that has answered is asked at once to delete what it did not overwrite, so that the key can be read
    /// again. One that has not is asked in the background.
    pub(super) async fn settle<T>(
        self: &Arc<Self>,
        keys: &[String],
        numbers: &[Option<Number>],
        outcomes: &[Result<T, Error>],
    ) {
        let mut refused = vec![];
        for ((key, number), outcome) in keys.iter().zip(numbers).zip(outcomes) {
            let (Some(pending), Err(error)) = (self.pending(key), outcome) else {
                self.confirm(key, *number);
                continue;
            };
            pending.add(key);
            if has_answered(&error.kind) {
                refused.extend(pending.number_of(key).map(|number| (key.clone(), number)));
                self.warn(pending, error);
            }
        }
        self.delete(&refused).await;
        self.deliver_in_background();
    }

    fn warn(&self, pending: &Pending, error: &Error) {
        // What is wrong with a single value is logged by the cache.
        if error.kind.is_outage() && pending.is_warning_due(WARNING_INTERVAL) {
            tracing::warn!(
                memcached.server = error.server,
                "memcached refused a write: {}; such keys are not read before they are deleted",
                error.kind
            );
        }
    }

    /// Sees that none of these keys has a pending delete. Returns for each whether it may be read, and is missing if
    /// it had one.
    pub(super) async fn clean(&self, keys: &[(String, Number)]) -> Vec<Result<(), Error>> {
        let pending = |error: Error| Error { kind: ErrorKind::PendingDelete(Box::new(error.kind)), ..error };
        self.delete(keys).await.into_iter().map(|deleted| deleted.map_err(pending)).collect()
    }

    /// As [`clean`](Self::clean), for one key. Returns whether it had a pending delete.
    pub(super) async fn clean_one(&self, key: &str) -> Result<bool, Error> {
        match self.number_of(key) {
            None => Ok(false),
            Some(number) => self.clean(&[(key.to_owned(), number)]).await.remove(0).map(|()| true),
        }
    }

    async fn delete(&self, keys: &[(String, Number)]) -> Vec<Result<(), Error>> {
        let names: Vec<_> = keys.iter().map(|(key, _)| key).collect();
        let deleted = self.client.delete_many(&names).await.into_iter().zip(keys);
        let confirm = |(deleted, (key, number)): (Result<bool, _>, &(String, Number))| {
            deleted?;
            self.confirm(key, Some(*number));
            Ok(())
        };
        deleted.map(confirm).collect()
    }

    /// Starts a task for each server that has pending deletes and has no such task.
    fn deliver_in_background(self: &Arc<Self>) {
        for (index, pending) in self.pending.iter().enumerate() {
            if pending.begin_delivery() {
                tokio::spawn(deliver(Arc::downgrade(self), index));
            }
        }
    }

    /// Deletes all keys that are pending on a server. Returns whether all of them were.
    async fn deliver_round(&self, pending: &Pending) -> bool {
        let (mut last, mut are_all_deleted) = (None::<String>, true);
        loop {
            let keys = pending.behind(last.as_deref(), DELETED_AT_ONCE);
            let Some((key, _)) = keys.last() else { return are_all_deleted };
            last = Some(key.clone());
            let failures = self.delete(&keys).await.into_iter().filter_map(Result::err);
            let failures: Vec<_> = failures.map(|error| error.kind).collect();
            are_all_deleted &= failures.is_empty();
            if failures.iter().any(|kind| !has_answered(kind)) {
                return false;
            }
        }
    }
}

/// Has a server delete its pending keys until none is left. Ends with the backend.
async fn deliver(shared: Weak<Shared>, index: usize) {
    let mut pause = Duration::ZERO;
    loop {
        sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        let pending = &shared.pending[index];
        if let Some(forgotten) = pending.end_delivery() {
            if forgotten > 0 {
                tracing::warn!(
                    memcached.server = shared.names[index],
                    forgotten,
                    "too many keys to delete: older values of some may be read until they expire"
                );
            }
            return;
        }
        pause = Duration::ZERO;
        let first = pending.behind(None, 1);
        let is_up = join_all(first.iter().map(|(key, _)| shared.client.until_up(key)));
        if timeout(LOOK, is_up).await.is_ok() && !shared.deliver_round(pending).await {
            pause = shared.retry_interval;
        }
    }
}

/// Returns whether the server has answered, or would have been asked if the value had been shorter.
fn has_answered(kind: &ErrorKind) -> bool {
    use ErrorKind::{Down, LeftOut, Protocol, Timeout, Unreachable};
    !matches!(kind, Down(_) | LeftOut | Protocol(_) | Timeout(_) | Unreachable(_))
}
