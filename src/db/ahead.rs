//! A connection kept for small statements that must not wait behind large ones.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteRow};
use sqlx::{
    ConnectOptions, Connection, Database, Executor, FromRow, IntoArguments, PgConnection, SqliteConnection,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a statement may take, connecting included. Who waits for one under way and then for the next still has an
/// answer, or an error, within five seconds.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the kept connection is given of that: it may have been cut, which nobody is told.
const KEPT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long SQLite waits for what has the file to itself; below [`TIMEOUT`], so that it is SQLite that says so.
const BUSY_TIMEOUT: Duration = Duration::from_millis(900);

/// So that what we gave up on ends on the server too, and its connection with it.
const STATEMENT_TIMEOUT: &str = "set statement_timeout = '900ms'";

/// One connection, opened when it is first used. Cheap to clone.
#[derive(Clone)]
pub(super) enum Ahead {
    Sqlite(Arc<Kept<SqliteConnection>>),
    Postgres(Arc<Kept<PgConnection>>),
}

/// Who uses the connection takes it out; it is put back only after a statement that has ended well.
pub(super) struct Kept<C: Connection> {
    options: C::Options,
    connection: Mutex<Option<C>>,
}

impl Ahead {
    pub(super) fn sqlite(options: SqliteConnectOptions) -> Self {
        Self::Sqlite(Kept::new(options.busy_timeout(BUSY_TIMEOUT)))
    }

    pub(super) fn postgres(options: PgConnectOptions) -> Self {
        Self::Postgres(Kept::new(options))
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ahead")
    }
}

impl<C: Connection> Kept<C> {
    fn new(options: C::Options) -> Arc<Self> {
        Arc::new(Self { options, connection: Mutex::new(None) })
    }
}

impl Kept<SqliteConnection> {
    pub(super) async fn fetch<T>(&self, sql: &'static str) -> sqlx::Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        fetch::<Sqlite, _>(self, sql, async || self.options.connect().await).await
    }
}

impl Kept<PgConnection> {
    pub(super) async fn fetch<T>(&self, sql: &'static str) -> sqlx::Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let connect = async || {
            let mut connection = self.options.connect().await?;
            connection.execute(STATEMENT_TIMEOUT).await?;
            Ok(connection)
        };
        fetch::<Postgres, _>(self, sql, connect).await
    }
}

/// Runs a statement on the connection that is kept, or else on a new one: an error or silence on the one says nothing
/// about the other. It is sent no earlier than this is called.
async fn fetch<DB, T>(
    kept: &Kept<DB::Connection>,
    sql: &'static str,
    connect: impl AsyncFnOnce() -> sqlx::Result<DB::Connection>,
) -> sqlx::Result<Vec<T>>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
    T: for<'r> FromRow<'r, DB::Row> + Send + Unpin,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let mut place = kept.connection.lock().await;
    if let Some(mut connection) = place.take() {
        match timeout(KEPT_TIMEOUT, sqlx::query_as(sql).fetch_all(&mut connection)).await {
            Ok(Ok(rows)) => {
                *place = Some(connection);
                return Ok(rows);
            }
            Ok(Err(error)) => tracing::debug!("tried again on a new connection: {error}"),
            Err(_) => tracing::debug!("tried again on a new connection: no answer"),
        }
    }
    let mut connection = connect().await?;
    let rows = sqlx::query_as(sql).fetch_all(&mut connection).await?;
    *place = Some(connection);
    Ok(rows)
}
