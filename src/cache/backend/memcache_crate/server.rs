//! One memcached server: its connections, the time limit of an operation, and what happens when one fails.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use memcache::{Client, MemcacheError};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connector::Connector;
use crate::cache::backend::breaker::{Breaker, Opened};
use crate::cache::backend::{Error, ErrorKind};

/// Connections to one server, and so operations under way on it at once.
pub(super) const CONNECTIONS: usize = 8;

/// How often a server that is left out is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How many pending deletes a recovering server is sent at once, so that they fit into one operation's time.
const DELETES_AT_ONCE: usize = 50;

/// What an operation runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// One that is idle, if there is one. Where the server has closed it meanwhile, the operation runs again.
    Kept,
    /// One of its own.
    New,
}

pub(super) struct Server {
    name: String,
    connector: Connector,
    idle: Mutex<Vec<Client>>,
    permits: Arc<Semaphore>,
    breaker: Breaker,
}

impl Server {
    pub(super) fn new(connector: Connector) -> Arc<Self> {
        Arc::new(Self {
            name: connector.address().to_string(),
            connector,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            breaker: Breaker::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the server asks for a login and got one.
    pub(super) fn is_authenticated(&self) -> bool {
        self.connector.is_authenticated()
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error { server: self.name.clone(), kind }
    }

    /// Returns an error of the crate as the server's, if it concerns one value only and the server is well.
    pub(super) fn refusal(&self, error: MemcacheError) -> Result<Error, MemcacheError> {
        let kind = self.connector.classify(&error);
        if kind.is_outage() { Err(error) } else { Ok(self.error(kind)) }
    }

    /// Runs an operation that changes nothing.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        operation: impl Fn(&Client) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, Error> {
        self.run(&[], Connection::Kept, operation).await
    }

    /// Runs an operation that changes `keys`. If it fails, they are deleted before the server is asked again.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        keys: &[String],
        operation: impl Fn(&Client) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, Error> {
        self.run(keys, Connection::Kept, operation).await
    }

    /// Runs an operation that must not happen twice: on a connection that cannot have been closed meanwhile.
    pub(super) async fn once<T: Send + 'static>(
        self: &Arc<Self>,
        operation: impl Fn(&Client) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, Error> {
        self.run(&[], Connection::New, operation).await
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        written: &[String],
        connection: Connection,
        operation: impl Fn(&Client) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, Error> {
        if self.breaker.refuses(written) {
            return Err(self.error(ErrorKind::LeftOut));
        }
        self.attempt(connection, operation).await.map_err(|kind| {
            // Too many callers are no fault of the server's; but what they could not write is owed all the same.
            if kind.is_outage() && (kind != ErrorKind::Busy || !written.is_empty()) {
                self.leave_out(written, &kind);
            }
            self.error(kind)
        })
    }

    async fn attempt<T: Send + 'static>(
        self: &Arc<Self>,
        connection: Connection,
        operation: impl Fn(&Client) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, ErrorKind> {
        // The permit goes along to the thread, so that callers who gave up still count.
        let limit = self.connector.operation_timeout();
        let permit = timeout(limit, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| ErrorKind::Busy)?;
        let (server, deadline) = (Arc::clone(self), Instant::now() + limit);
        let work = spawn_blocking(move || {
            let _permit = permit;
            server.blocking(deadline, connection, operation)
        });
        match timeout_at(deadline, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(ErrorKind::Protocol(panic.to_string())),
            Err(_) => Err(ErrorKind::Timeout(limit)),
        }
    }

    /// Runs an operation on a connection that is nobody else's, and keeps the connection only if all went well.
    fn blocking<T>(
        &self,
        deadline: Instant,
        connection: Connection,
        operation: impl Fn(&Client) -> Result<T, MemcacheError>,
    ) -> Result<T, ErrorKind> {
        let idle = if connection == Connection::Kept { self.idle().pop() } else { None };
        if let Some(client) = idle {
            match operation(&client).map_err(|error| self.connector.classify(&error)) {
                Ok(value) => return Ok(self.keep(client, value)),
                // Closed by the server since it was last used: not an outage yet.
                Err(ErrorKind::Unreachable(_)) => self.idle().clear(),
                Err(other) => return Err(other),
            }
        }
        let client = self.connector.connect()?;
        if Instant::now() >= deadline {
            // Nobody waits any more. What would be written now could undo what has been written since.
            return Err(ErrorKind::Timeout(self.connector.operation_timeout()));
        }
        let value = operation(&client).map_err(|error| self.connector.classify(&error))?;
        Ok(self.keep(client, value))
    }

    fn keep<T>(&self, client: Client, value: T) -> T {
        self.idle().push(client);
        value
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave_out(self: &Arc<Self>, owed: &[String], cause: &ErrorKind) {
        if self.breaker.open(owed) == Opened::Now {
            tracing::warn!(memcached.server = self.name, "memcached is left out: {cause}");
            self.idle().clear();
            tokio::spawn(recover(Arc::downgrade(self)));
        }
    }

    /// Sends a server that is left out the deletes it is owed; returns whether it is asked again.
    async fn try_again(self: &Arc<Self>) -> Result<bool, ErrorKind> {
        let pending = self.breaker.pending(DELETES_AT_ONCE);
        let sent = pending.clone();
        self.attempt(Connection::Kept, move |client| {
            greet(client)?;
            sent.iter().try_for_each(|delete| client.delete(&delete.key).map(drop))
        })
        .await?;
        let Some(forgotten) = self.breaker.close(&pending) else {
            return Ok(false);
        };
        tracing::info!(
            memcached.server = self.name,
            deleted = pending.len(),
            forgotten,
            "memcached answers again"
        );
        Ok(true)
    }
}

/// Returns the server's version once it has answered a `get`: without a login it answers only the question for that.
pub(super) fn greet(client: &Client) -> Result<String, MemcacheError> {
    client.get::<Vec<u8>>("greeting")?;
    let versions = client.version()?;
    Ok(versions.into_iter().map(|(_, version)| version).next().unwrap_or_default())
}

/// Tries a server that is left out until it answers. Ends with the server itself.
async fn recover(server: Weak<Server>) {
    loop {
        sleep(RETRY).await;
        let Some(server) = server.upgrade() else { return };
        while let Ok(asked_again) = server.try_again().await {
            if asked_again {
                return;
            }
        }
    }
}
