//! The client, the pending deletes of each server, and what is done about a write whose outcome is uncertain.
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
//! - The server may execute the uncertain write late, after its delete. The client sends commands in the order of their
//!   calls, on one connection at a time. A delete is therefore behind the write on the same connection, or on a later
//!   one, after a handshake there; the old one has then been closed such that nothing more of it is sent. Only a worker
//!   of memcached that stands still for that long, while another one works, or a proxy that keeps what it has received,
//!   can bring the write behind its delete. What it stores then stays until the next write or its end of life, as with
//!   any delayed write of any client.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::backend::breaker::{Breaker, PendingDelete};
use crate::backend::recovery::Recover;
use crate::backend::seldom::Seldom;
use crate::backend::{Error, ErrorKind};
use tokio_memcached::{Client, Options, Ring, ServerAddress, is_valid_key};

/// Writes that may go on in the background at once, since their callers have gone.
const BACKGROUND_WRITES: u32 = 1000;

/// How long pending deletes wait for a server that is down before they see whether the backend is still there.
const LOOK: Duration = Duration::from_secs(10);

/// What the backend and its background tasks share.
pub(super) struct Shared {
    pub(super) client: Client,
    ring: Ring,
    pub(super) servers: Vec<Arc<Server>>,
    warned: Seldom,
    background_writes: Arc<Semaphore>,
}

/// One server, and its pending deletes.
pub(super) struct Server {
    client: Client,
    pub(super) name: String,
    pub(super) breaker: Breaker,
    retry_interval: Duration,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        // An interval of zero must not keep the processor busy.
        let retry_interval = options.get_retry_interval().max(Duration::from_millis(10));
        let (ring, addresses) = (Ring::new(options.servers()), options.servers().to_vec());
        let client = Client::new(options);
        let server = |address: &ServerAddress| Server {
            client: client.clone(),
            name: address.to_string(),
            breaker: Breaker::default(),
            retry_interval,
        };
        Self {
            ring,
            servers: addresses.iter().map(server).map(Arc::new).collect(),
            warned: Seldom::default(),
            background_writes: Arc::new(Semaphore::new(BACKGROUND_WRITES as usize)),
            client,
        }
    }

    /// Returns the server that has a key.
    pub(super) fn server_of(&self, key: &str) -> &Arc<Server> {
        &self.servers[self.ring.server_of(key.as_bytes())]
    }

    pub(super) fn background_writes(&self) -> &Arc<Semaphore> {
        &self.background_writes
    }

    /// Returns the pending delete of a key, if it has one.
    pub(super) fn pending_delete(&self, key: &str) -> Option<PendingDelete> {
        self.server_of(key).breaker.pending_delete(key)
    }

    pub(super) fn pending_deletes(&self, keys: &[String]) -> Vec<Option<PendingDelete>> {
        keys.iter().map(|key| self.pending_delete(key)).collect()
    }

    fn confirm(&self, received: &PendingDelete) {
        self.server_of(&received.key).breaker.confirm(received);
    }

    /// Has keys deleted in the background, before which they are not read.
    pub(super) fn add_pending(&self, keys: &[String]) {
        for key in keys {
            self.server_of(key).defer(std::slice::from_ref(key), ErrorKind::Busy);
        }
    }

    /// Waits for writes in the background and for pending deletes.
    pub(super) async fn finish(&self) {
        let _writes = self.background_writes.acquire_many(BACKGROUND_WRITES).await;
        join_all(self.servers.iter().map(|server| server.breaker.recovered())).await;
    }

    /// Draws the consequences from the outcomes of a write. `before` are the pending deletes of the keys when it
    /// began.
    ///
    /// A server that has answered is asked at once to delete what it did not overwrite, so that the key can be read
    /// again. One that has not is asked in the background.
    pub(super) async fn settle<T>(
        &self,
        keys: &[String],
        before: &[Option<PendingDelete>],
        outcomes: &[Result<T, Error>],
    ) {
        let mut refused = vec![];
        for ((key, before), outcome) in keys.iter().zip(before).zip(outcomes) {
            let Err(error) = outcome else {
                before.iter().for_each(|before| self.confirm(before));
                continue;
            };
            // What is no key is on no server.
            if is_valid_key(key.as_bytes()) {
                let breaker = &self.server_of(key).breaker;
                breaker.defer(std::slice::from_ref(key));
                if has_answered(&error.kind) {
                    refused.extend(breaker.pending_delete(key));
                    self.warn(error);
                }
            }
        }
        delete(&self.client, &refused, |deleted| self.confirm(deleted)).await;
        self.servers.iter().for_each(|server| server.recover(Duration::ZERO));
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
        let deleted = delete(&self.client, keys, |deleted| self.confirm(deleted)).await;
        deleted.into_iter().map(|deleted| deleted.map_err(pending)).collect()
    }

    /// As [`clean`](Self::clean), for one key. Returns whether it had a pending delete.
    pub(super) async fn clean_one(&self, key: &str) -> Result<bool, Error> {
        match self.pending_delete(key) {
            None => Ok(false),
            Some(pending) => self.clean(&[pending]).await.remove(0).map(|()| true),
        }
    }
}

impl Recover for Server {
    const WHAT: &str = "memcached";
    const DELETES_AT_ONCE: usize = 500;

    fn name(&self) -> &str {
        &self.name
    }

    fn server(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn retry_interval(&self) -> Duration {
        self.retry_interval
    }

    async fn send_deletes(self: &Arc<Self>, deletes: &[PendingDelete]) -> Result<usize, Error> {
        let Some(PendingDelete { key, .. }) = deletes.first() else { return Ok(0) };
        if timeout(LOOK, self.client.until_up(key)).await.is_err() {
            return Err(self.error(ErrorKind::Down(None)));
        }
        let deleted = delete(&self.client, deletes, |deleted| self.breaker.confirm(deleted)).await;
        let (deleted, failed): (Vec<_>, Vec<_>) = deleted.into_iter().partition(Result::is_ok);
        // One that is refused does not keep the others waiting.
        match failed.into_iter().filter_map(Result::err).find(|error| !has_answered(&error.kind)) {
            Some(outage) => Err(outage),
            None => Ok(deleted.len()),
        }
    }
}

/// Deletes keys, and confirms those that were.
async fn delete(
    client: &Client,
    pending: &[PendingDelete],
    confirm: impl Fn(&PendingDelete),
) -> Vec<Result<(), Error>> {
    let keys: Vec<_> = pending.iter().map(|pending| &pending.key).collect();
    let deleted = client.delete_many(&keys).await.into_iter().zip(pending);
    deleted.map(|(deleted, pending)| Ok(deleted.map(|_| confirm(pending))?)).collect()
}

/// Returns whether the server has answered, or would have been asked if the value had been shorter.
fn has_answered(kind: &ErrorKind) -> bool {
    use ErrorKind::{Down, Protocol, Timeout, Unreachable};
    !matches!(kind, Down(_) | Protocol(_) | Timeout(_) | Unreachable(_))
}
