//! The client, what each server still has to delete, and what is done about a write whose outcome is uncertain.
//!
//! The outcome of a write is uncertain if it was not answered, was refused, or was not sent at all: in each case the
//! server may hold an older value. Its key then has a *pending delete*. It is not read in this process until the
//! server has confirmed a delete, or a later write of the same key. The client itself marks servers down, so the
//! [`Breaker`] of a server stays closed here and only keeps its pending deletes.
//!
//! # Which confirmation counts
//!
//! - A write of the key may become uncertain while a delete for it is on its way. A delete confirms only the pending
//!   delete that the key had when the delete was called.
//! - A read may begin before the write has failed, and end after it. The two then ran at the same time, and either
//!   order is right.
//! - The server may execute the uncertain write late, on the old connection.
//!
//! For the last of these, this is what bounds it.
//!
//! The client executes commands for a server in the order of their calls, on one connection at a time. A delete that is
//! called after the write has failed is therefore either behind it on the same connection, or on a later connection.
//! The old one has then been closed such that the client's system sends nothing more of it. What the server's system
//! had received by then memcached still executes, as soon as the worker thread of that connection runs. A delete
//! on a new connection comes after a handshake and a round trip there, and after an unanswered write also
//! after the client's retry interval; so only a worker that stands still for longer than that, while another one works,
//! or a proxy that keeps what it has received, can bring the old write behind its delete. What it stores then stays
//! until the next write or its end of life, as with any delayed write of any client.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::backend::breaker::{Breaker, Closed, PendingDelete};
use crate::backend::seldom::Seldom;
use crate::backend::{Error, ErrorKind};
use tokio_memcached::{Client, Options, Ring, is_valid_key};

/// Deletes sent at once.
const DELETED_AT_ONCE: usize = 500;

/// Writes that may go on in the background at once, since their callers have gone.
const BACKGROUND_WRITES: u32 = 1000;

/// How long a delivery waits for a server that is down before it looks whether the backend is still there.
const LOOK: Duration = Duration::from_secs(1);

/// What the backend and its background tasks share.
pub(super) struct Shared {
    pub(super) client: Client,
    names: Vec<String>,
    ring: Ring,
    /// Of each server.
    pending: Vec<Breaker>,
    warned: Seldom,
    retry_interval: Duration,
    background_writes: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        Self {
            names: options.servers().iter().map(ToString::to_string).collect(),
            ring: Ring::new(options.servers()),
            pending: options.servers().iter().map(|_| Breaker::default()).collect(),
            warned: Seldom::default(),
            // An interval of zero must not keep the processor busy.
            retry_interval: options.get_retry_interval().max(Duration::from_millis(10)),
            background_writes: Arc::new(Semaphore::new(BACKGROUND_WRITES as usize)),
            client: Client::new(options),
        }
    }

    /// Begins anew with this limit on the pending deletes of each server.
    pub(super) fn limit_pending(&mut self, most: usize) {
        self.pending.fill_with(|| Breaker::new(most));
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
    fn pending(&self, key: &str) -> Option<&Breaker> {
        if !is_valid_key(key.as_bytes()) {
            return None;
        }
        self.pending.get(self.ring.server_of(key.as_bytes()))
    }

    /// Returns the pending delete of a key, if it has one.
    pub(super) fn pending_delete(&self, key: &str) -> Option<PendingDelete> {
        self.pending(key)?.pending_delete(key)
    }

    pub(super) fn pending_deletes(&self, keys: &[String]) -> Vec<Option<PendingDelete>> {
        keys.iter().map(|key| self.pending_delete(key)).collect()
    }

    /// Returns every pending delete there is.
    pub(super) fn all_pending(&self) -> Vec<PendingDelete> {
        self.pending.iter().flat_map(|pending| pending.pending(usize::MAX)).collect()
    }

    pub(super) fn confirm(&self, received: &PendingDelete) {
        if let Some(pending) = self.pending(&received.key) {
            pending.confirm(received);
        }
    }

    /// Has keys deleted in the background, before which they are not read.
    pub(super) fn add_pending(self: &Arc<Self>, keys: &[String]) {
        for key in keys {
            if let Some(pending) = self.pending(key) {
                pending.defer(std::slice::from_ref(key));
            }
        }
        self.deliver_in_background();
    }

    /// Waits for writes in the background and for pending deletes.
    pub(super) async fn finish(&self) {
        let _writes = self.background_writes.acquire_many(BACKGROUND_WRITES).await;
        join_all(self.pending.iter().map(Breaker::recovered)).await;
    }

    /// Draws the consequences from the outcomes of a write. `before` are the pending deletes of the keys when it
    /// began.
    ///
    /// A server that has answered is asked at once to delete what it did not overwrite, so that the key can be read
    /// again. One that has not is asked in the background.
    pub(super) async fn settle<T>(
        self: &Arc<Self>,
        keys: &[String],
        before: &[Option<PendingDelete>],
        outcomes: &[Result<T, Error>],
    ) {
        let mut refused = vec![];
        for ((key, before), outcome) in keys.iter().zip(before).zip(outcomes) {
            let (Some(pending), Err(error)) = (self.pending(key), outcome) else {
                before.iter().for_each(|before| self.confirm(before));
                continue;
            };
            pending.defer(std::slice::from_ref(key));
            if has_answered(&error.kind) {
                refused.extend(pending.pending_delete(key));
                self.warn(error);
            }
        }
        self.delete(&refused).await;
        self.deliver_in_background();
    }

    fn warn(&self, error: &Error) {
        // What is wrong with a single value is logged by the cache.
        if error.kind.is_outage() && self.warned.is_due() {
            tracing::warn!(
                memcached.server = error.server,
                "memcached refused a write: {}; such keys are not read before they are deleted",
                error.kind
            );
        }
    }

    /// Sees that none of these keys has a pending delete. Returns for each whether it may be read, and is missing if
    /// it had one.
    pub(super) async fn clean(&self, keys: &[PendingDelete]) -> Vec<Result<(), Error>> {
        let pending = |error: Error| Error { kind: ErrorKind::PendingDelete(Box::new(error.kind)), ..error };
        self.delete(keys).await.into_iter().map(|deleted| deleted.map_err(pending)).collect()
    }

    /// As [`clean`](Self::clean), for one key. Returns whether it had a pending delete.
    pub(super) async fn clean_one(&self, key: &str) -> Result<bool, Error> {
        match self.pending_delete(key) {
            None => Ok(false),
            Some(pending) => self.clean(&[pending]).await.remove(0).map(|()| true),
        }
    }

    async fn delete(&self, pending: &[PendingDelete]) -> Vec<Result<(), Error>> {
        let keys: Vec<_> = pending.iter().map(|pending| &pending.key).collect();
        let deleted = self.client.delete_many(&keys).await.into_iter().zip(pending);
        let confirm = |(deleted, pending): (Result<bool, _>, &PendingDelete)| {
            deleted?;
            self.confirm(pending);
            Ok(())
        };
        deleted.map(confirm).collect()
    }

    /// Starts a task for each server that has pending deletes and has no such task.
    fn deliver_in_background(self: &Arc<Self>) {
        for (index, pending) in self.pending.iter().enumerate() {
            if pending.begin_recovery() {
                tokio::spawn(deliver(Arc::downgrade(self), index));
            }
        }
    }

    /// Deletes all keys that are pending on a server. Returns whether all of them were.
    async fn deliver_round(&self, pending: &Breaker) -> bool {
        let (mut last, mut are_all_deleted) = (None::<String>, true);
        loop {
            let deletes = pending.pending_after(last.as_deref(), DELETED_AT_ONCE);
            let Some(end) = deletes.last() else { return are_all_deleted };
            last = Some(end.key.clone());
            let failures = self.delete(&deletes).await.into_iter().filter_map(Result::err);
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
        if let Some(Closed { forgotten, .. }) = pending.close(&[]) {
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
        let first = pending.pending(1);
        let is_up = join_all(first.iter().map(|pending| shared.client.until_up(&pending.key)));
        if timeout(LOOK, is_up).await.is_ok() && !shared.deliver_round(pending).await {
            pause = shared.retry_interval;
        }
    }
}

/// Returns whether the server has answered, or would have been asked if the value had been shorter.
fn has_answered(kind: &ErrorKind) -> bool {
    use ErrorKind::{Down, Protocol, Timeout, Unreachable};
    !matches!(kind, Down(_) | Protocol(_) | Timeout(_) | Unreachable(_))
}
