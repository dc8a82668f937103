//! One memcached server: its connections, the time limit of an operation, and what happens when one fails.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memcache::{Client, MemcacheError};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::connector::{CONNECTIONS, Connector};
use neverstale::backend::breaker::{Breaker, PendingDelete};
use neverstale::backend::recovery::Recover;
use neverstale::backend::{Error, ErrorKind};

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

    /// Returns whether connections are authenticated.
    pub(super) fn is_authenticated(&self) -> bool {
        self.connector.is_authenticated()
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
        self.run(&[], Connection::Kept, self.deadline(), operation).await
    }

    /// Runs an operation that changes `keys`. If it fails, they are deleted before they are read again.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        keys: &[String],
        operation: impl Fn(&Client) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, Error> {
        self.run(keys, Connection::Kept, self.deadline(), operation).await
    }

    /// Runs an operation that must not happen twice: on a connection that cannot have been closed meanwhile.
    pub(super) async fn once<T: Send + 'static>(
        self: &Arc<Self>,
        operation: impl Fn(&Client) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, Error> {
        self.run(&[], Connection::New, self.deadline(), operation).await
    }

    /// Runs an operation that changes items, one after the other since the crate has no quiet writes.
    ///
    /// After half of an operation's time no more items are written, which is not the server's fault; they are deleted
    /// before they are read again.
    pub(super) async fn write_each<I, T>(
        self: &Arc<Self>,
        items: &[I],
        operation: impl Fn(&Client, &I) -> Result<T, MemcacheError> + Clone + Send + 'static,
    ) -> Vec<Result<T, Error>>
    where
        I: AsRef<str> + Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        let deadline = self.deadline();
        let until = deadline - self.connector.operation_timeout() / 2;
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            let (key, item, operation) = ([item.as_ref().to_owned()], item.clone(), operation.clone());
            results.push(if results.is_empty() || Instant::now() < until {
                self.run(&key, Connection::Kept, deadline, move |client| operation(client, &item)).await
            } else {
                Err(self.defer(&key, ErrorKind::Busy))
            });
        }
        results
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        written: &[String],
        connection: Connection,
        deadline: Instant,
        operation: impl Fn(&Client) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, Error> {
        self.check_up(written)?;
        self.attempt(connection, deadline, operation).await.map_err(|cause| self.fail(written, cause))
    }

    async fn attempt<T: Send + 'static>(
        self: &Arc<Self>,
        connection: Connection,
        deadline: Instant,
        operation: impl Fn(&Client) -> Result<T, MemcacheError> + Send + 'static,
    ) -> Result<T, ErrorKind> {
        let limit = self.connector.operation_timeout();
        // The permit goes along to the thread, so that callers who gave up still count. Half of the time is left for
        // the server.
        let permit = timeout_at(deadline - limit / 2, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| ErrorKind::Busy)?;
        let server = Arc::clone(self);
        let work = spawn_blocking(move || {
            let _permit = permit;
            server.blocking(connection, deadline, operation)
        });
        match timeout_at(deadline, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(ErrorKind::Protocol(panic.to_string())),
            Err(_) => Err(ErrorKind::Timeout(limit)),
        }
    }

    /// Runs an operation on a connection of its own, and keeps the connection only if all went well.
    fn blocking<T>(
        &self,
        connection: Connection,
        deadline: Instant,
        operation: impl Fn(&Client) -> Result<T, MemcacheError>,
    ) -> Result<T, ErrorKind> {
        let run = |client: &Client| operation(client).map_err(|error| self.connector.classify(&error));
        self.check_time(deadline)?;
        let idle = if connection == Connection::Kept { self.idle().pop() } else { None };
        if let Some(client) = idle {
            match run(&client) {
                Ok(value) => return Ok(self.keep(client, value)),
                // Closed by the server since it was last used: not an outage yet.
                Err(ErrorKind::Unreachable(_)) => self.idle().clear(),
                Err(other) => return Err(other),
            }
        }
        let client = self.connector.connect()?;
        self.check_time(deadline)?;
        let value = run(&client)?;
        Ok(self.keep(client, value))
    }

    /// Returns an error once the caller has left. A write could then undo one that has been done since.
    fn check_time(&self, deadline: Instant) -> Result<(), ErrorKind> {
        let is_over = Instant::now() >= deadline;
        if is_over { Err(ErrorKind::Timeout(self.connector.operation_timeout())) } else { Ok(()) }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.connector.operation_timeout()
    }

    fn keep<T>(&self, client: Client, value: T) -> T {
        self.idle().push(client);
        value
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(self: &Arc<Self>, written: &[String], cause: ErrorKind) -> Error {
        // This process was busy, or the server is well and refused.
        if cause == ErrorKind::Busy || !cause.is_outage() {
            return self.defer(written, cause);
        }
        self.idle().clear();
        self.mark_down(written, cause)
    }
}

impl Recover for Server {
    const WHAT: &str = "memcached";
    const DELETES_AT_ONCE: usize = 50;

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
        Duration::from_secs(1)
    }

    async fn send_deletes(self: &Arc<Self>, deletes: &[PendingDelete]) -> Result<usize, Error> {
        let fail = |cause| self.fail(&[], cause);
        self.attempt(Connection::Kept, self.deadline(), greet).await.map_err(fail)?;
        for delete in deletes {
            let key = delete.key.clone();
            let delete_it = move |client: &Client| client.delete(&key);
            self.attempt(Connection::Kept, self.deadline(), delete_it).await.map_err(fail)?;
            self.breaker.confirm(delete);
        }
        Ok(deletes.len())
    }
}

/// Returns the server's version, after a `get`: a server that wants authentication refuses only the latter.
pub(super) fn greet(client: &Client) -> Result<String, MemcacheError> {
    client.get::<Vec<u8>>("greeting")?;
    let versions = client.version()?;
    Ok(versions.into_iter().map(|(_, version)| version).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_memcached::Options;

    #[tokio::test(start_paused = true)]
    async fn an_operation_that_waits_in_vain_for_a_permit_costs_its_own_key_only() {
        // Nothing listens there: an operation that was sent would mark the server down.
        let options = Options::new(["127.0.0.1:9".parse().unwrap()]).unwrap();
        let server = Server::new(Connector::new(&options.servers()[0], &options).unwrap());
        let permits = Arc::clone(&server.permits)
            .acquire_many_owned(u32::try_from(CONNECTIONS).unwrap())
            .await
            .unwrap();
        let key = ["k".to_owned()];
        for written in [&[][..], &key] {
            let failed = server.write(written, Client::version).await.unwrap_err();
            assert_eq!(failed.kind, ErrorKind::Busy);
            assert!(!server.breaker.refuses(&[]), "the server is up");
        }
        assert_eq!(
            server.check_readable("k").unwrap_err().kind,
            ErrorKind::Busy,
            "its old value is not read"
        );
        assert!(server.check_readable("other").is_ok());
        drop(permits);
        assert_ne!(server.read(Client::version).await.unwrap_err().kind, ErrorKind::Busy);
        assert!(server.breaker.refuses(&[]), "a failure of the server's marks it down");
    }
}
