//! What a backend does about a store that fails: it is marked down, retried, and sent its pending deletes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::breaker::{Breaker, Closed, Opened, PendingDelete};
use super::{Error, ErrorKind};

/// A store that receives its pending deletes before their keys are read, and before it is up again.
pub trait Recover: Send + Sync + Sized + 'static {
    /// The store as the log calls it.
    const WHAT: &str;

    /// How many pending deletes are sent at once.
    const DELETES_AT_ONCE: usize;

    /// Returns the name of the store, for errors.
    fn name(&self) -> &str;

    /// Returns the memcached server, for the log.
    fn server(&self) -> Option<&str> {
        None
    }

    /// Returns what is known of the store's state.
    fn breaker(&self) -> &Breaker;

    /// Returns how long a store that has failed is left alone before it is tried again.
    fn retry_interval(&self) -> Duration;

    /// Sends deletes, [confirms](Breaker::confirm) those that the store has received, and returns how many those are.
    /// Without deletes the store is tried.
    ///
    /// # Errors
    ///
    /// If the store cannot be used. The failure is noted before it is returned.
    fn send_deletes(
        self: &Arc<Self>,
        deletes: &[PendingDelete],
    ) -> impl Future<Output = Result<usize, Error>> + Send;

    /// Returns an error of the store.
    fn error(&self, kind: ErrorKind) -> Error {
        Error { server: self.name().into(), kind }
    }

    /// Checks that the store is not marked down.
    ///
    /// # Errors
    ///
    /// If it is. The deletes of `written` are pending then.
    fn check_up(&self, written: &[String]) -> Result<(), Error> {
        if self.breaker().refuses(written) { Err(self.error(self.breaker().refusal())) } else { Ok(()) }
    }

    /// Checks that the value of a key may be looked at.
    ///
    /// # Errors
    ///
    /// If the delete of the key is pending.
    fn check_readable(&self, key: &str) -> Result<(), Error> {
        if self.breaker().is_pending(key) { Err(self.error(ErrorKind::Busy)) } else { Ok(()) }
    }

    /// Notes a failure that is not the store's: it stays up, and `written` are deleted before they are read again.
    fn defer(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> Error {
        self.breaker().defer(written);
        self.recover(Duration::ZERO);
        self.error(cause)
    }

    /// Marks the store down; `written` are deleted before it is up again.
    fn mark_down(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> Error {
        if self.breaker().open(written, &cause) == Opened::Now {
            tracing::warn!(memcached.server = self.server(), "{} is left out: {cause}", Self::WHAT);
        }
        self.recover(self.retry_interval());
        self.error(cause)
    }

    /// Starts the task that sends pending deletes until there are none, if there are any and it does not run already.
    fn recover(self: &Arc<Self>, first_pause: Duration) {
        if let Ok(runtime) = Handle::try_current()
            && self.breaker().begin_recovery()
        {
            runtime.spawn(until_recovered(Arc::downgrade(self), first_pause));
        }
    }
}

/// Ends with the store itself, too.
async fn until_recovered<S: Recover>(store: Weak<S>, mut pause: Duration) {
    let mut deleted = 0;
    loop {
        sleep(pause).await;
        let Some(store) = store.upgrade() else { return };
        pause = store.retry_interval();
        let Ok(received) = send_all(&store).await else { continue };
        deleted += received;
        if let Some(Closed { was_open, forgotten }) = store.breaker().close() {
            let server = store.server();
            if was_open {
                tracing::info!(memcached.server = server, deleted, "{} answers again", S::WHAT);
            }
            if forgotten > 0 {
                tracing::warn!(
                    memcached.server = server,
                    forgotten,
                    "too many keys to delete: older values of some may be read until they expire"
                );
            }
            return;
        }
        // Other writes have failed meanwhile.
        if received > 0 {
            pause = Duration::ZERO;
        }
    }
}

/// Sends all deletes that are pending once, and returns how many the store has received.
async fn send_all<S: Recover>(store: &Arc<S>) -> Result<usize, Error> {
    let (mut last, mut received) = (None::<String>, 0);
    loop {
        let deletes = store.breaker().pending(last.as_deref(), S::DELETES_AT_ONCE);
        received += store.send_deletes(&deletes).await?;
        let Some(end) = deletes.last() else { return Ok(received) };
        last = Some(end.key.clone());
    }
}
