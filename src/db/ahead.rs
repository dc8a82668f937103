//! A connection kept for small statements that must not wait behind large ones.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::postgres::{Client, Connector, is_full};
use super::statement::Row;

/// How long a statement may take, connecting included. Who waits for one under way and then for the next still has an
/// answer, or an error, within five seconds.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the kept connection is given of that: it may have been cut, which nobody is told.
const KEPT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long SQLite waits for what has the file to itself; below [`TIMEOUT`], so that it is SQLite that says so.
const BUSY_TIMEOUT: Duration = Duration::from_millis(900);

/// So that what we gave up on ends on the server too, and its connection with it.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(900);

/// Between attempts to connect to a server that has no connection left: one that was closed may still count.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(300)];

/// One connection, opened when it is first used. Cheap to clone.
#[derive(Clone)]
pub(super) enum Ahead {
    Sqlite(Arc<Kept<SqliteConnection>>),
    Postgres(Arc<Kept<Client>>),
}

/// Who uses the connection takes it out; it is put back only after a statement that has ended well.
pub(super) struct Kept<C: Reader> {
    options: C::Options,
    connection: Mutex<Option<C>>,
}

/// A connection on which small statements run.
pub(super) trait Reader: Sized + Send {
    type Options: Send + Sync;

    fn open(options: &Self::Options) -> impl Future<Output = sqlx::Result<Self>> + Send;

    fn read<T: Row>(&mut self, sql: &'static str) -> impl Future<Output = sqlx::Result<Vec<T>>> + Send;
}

impl Ahead {
    pub(super) fn sqlite(options: SqliteConnectOptions) -> Self {
        Self::Sqlite(Kept::new(options.busy_timeout(BUSY_TIMEOUT)))
    }

    pub(super) fn postgres(connector: &Connector) -> Self {
        Self::Postgres(Kept::new(connector.with_statement_timeout(STATEMENT_TIMEOUT)))
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ahead")
    }
}

impl Reader for SqliteConnection {
    type Options = SqliteConnectOptions;

    async fn open(options: &SqliteConnectOptions) -> sqlx::Result<Self> {
        options.connect().await
    }

    async fn read<T: Row>(&mut self, sql: &'static str) -> sqlx::Result<Vec<T>> {
        sqlx::query_as(sql).fetch_all(self).await
    }
}

impl Reader for Client {
    type Options = Connector;

    async fn open(connector: &Connector) -> sqlx::Result<Self> {
        for pause in PAUSES {
            match connector.connect().await {
                Err(error) if is_full(&error) => sleep(pause).await,
                connected => return connected,
            }
        }
        connector.connect().await
    }

    async fn read<T: Row>(&mut self, sql: &'static str) -> sqlx::Result<Vec<T>> {
        Self::read(self, sql).await
    }
}

impl<C: Reader> Kept<C> {
    fn new(options: C::Options) -> Arc<Self> {
        Arc::new(Self { options, connection: Mutex::new(None) })
    }

    /// Runs a statement on the connection that is kept, or else on a new one: an error or silence on the one says
    /// nothing about the other. It is sent no earlier than this is called.
    pub(super) async fn fetch<T: Row>(&self, sql: &'static str) -> sqlx::Result<Vec<T>> {
        let mut place = self.connection.lock().await;
        if let Some(mut connection) = place.take() {
            match timeout(KEPT_TIMEOUT, connection.read(sql)).await {
                Ok(Ok(rows)) => {
                    *place = Some(connection);
                    return Ok(rows);
                }
                Ok(Err(error)) => tracing::debug!("tried again on a new connection: {error}"),
                Err(_) => tracing::debug!("tried again on a new connection: no answer"),
            }
        }
        let mut connection = C::open(&self.options).await?;
        let rows = connection.read(sql).await?;
        *place = Some(connection);
        Ok(rows)
    }
}
