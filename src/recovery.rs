//! What the backends over the database and over the `memcache` crate do about a store that fails.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use neverstale::backend::breaker::{Breaker, Closed, Opened, PendingDelete};
use neverstale::backend::{Error, ErrorKind};

/// A store that is marked down when it fails, and that receives pending deletes before it is up again.
pub(crate) trait Recover: Send + Sync + Sized + 'static {
    /// The store as the log calls it.
    const WHAT: &str;

    /// How often a store that is marked down is tried again.
    const RETRY: Duration;

    /// How many pending deletes are sent at once.
    const DELETES_AT_ONCE: usize;

    fn name(&self) -> &str;

    /// Returns the memcached server, for the log.
    fn server(&self) -> Option<&str> {
        None
    }

    fn breaker(&self) -> &Breaker;

    /// Sends deletes, and returns how many of them the store has received, from the first on. A failure is noted
    /// before it is returned.
    fn send_deletes(
        self: &Arc<Self>,
        deletes: &[PendingDelete],
    ) -> impl Future<Output = Result<usize, Error>> + Send;

    fn error(&self, kind: ErrorKind) -> Error {
        Error { server: self.name().into(), kind }
    }

    /// Returns an error if the store is marked down. The deletes of `written` are pending then.
    fn check_up(&self, written: &[String]) -> Result<(), Error> {
        if self.breaker().refuses(written) { Err(self.error(self.breaker().refusal())) } else { Ok(()) }
    }

    /// Returns an error if the value of a key must not be looked at, since its delete is pending.
    fn check_readable(&self, key: &str) -> Result<(), Error> {
        if self.breaker().is_pending(key) { Err(self.error(ErrorKind::Busy)) } else { Ok(()) }
    }

    /// Notes a failure that is not the store's: it stays up, and `written` are deleted before they are read again.
    fn defer(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> Error {
        self.breaker().defer(written);
        recover(self, Duration::ZERO);
        self.error(cause)
    }

    /// Marks the store down; `written` are deleted before it is up again.
    fn mark_down(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> Error {
        if self.breaker().open(written, &cause) == Opened::Now {
            tracing::warn!(memcached.server = self.server(), "{} is left out: {cause}", Self::WHAT);
        }
        recover(self, Self::RETRY);
        self.error(cause)
    }
}

/// Starts the task that tries a store until it has received all pending deletes, unless it runs already.
fn recover<S: Recover>(store: &Arc<S>, first_pause: Duration) {
    if store.breaker().begin_recovery() {
        tokio::spawn(try_until_up(Arc::downgrade(store), first_pause));
    }
}

/// Ends with the store itself, too.
async fn try_until_up<S: Recover>(store: Weak<S>, first_pause: Duration) {
    let mut pause = first_pause;
    loop {
        sleep(pause).await;
        let Some(store) = store.upgrade() else { return };
        let mut deleted = 0;
        loop {
            let deletes = store.breaker().pending(S::DELETES_AT_ONCE);
            let Ok(received) = store.send_deletes(&deletes).await else { break };
            deleted += received;
            if let Some(Closed { was_open, forgotten }) = store.breaker().close(&deletes[..received]) {
                if was_open {
                    let server = store.server();
                    tracing::info!(
                        memcached.server = server,
                        deleted,
                        forgotten,
                        "{} answers again",
                        S::WHAT
                    );
                }
                return;
            }
        }
        pause = S::RETRY;
    }
}
