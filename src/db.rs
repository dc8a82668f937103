//! The database: SQLite or Postgres, with the same SQL and one time limit for both.

mod ahead;
mod lease;
mod mark;
mod migrations;
mod place;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgPoolOptions, PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow};
use sqlx::{
    Connection, Encode, Executor, FromRow, IntoArguments, PgConnection, Pool, SqliteConnection, Type,
};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::rustls::Error as TlsError;

use self::ahead::Ahead;
use self::lease::Lease;
pub use self::mark::Mark;
use self::mark::Marks;
use self::place::Place;
use crate::config::database::{DatabaseConfig, DatabaseUrl};

/// How long an operation may take, waiting for a connection included: with the cache's timeout before it, a lost
/// database is a page that says so within five seconds.
const TIMEOUT: Duration = Duration::from_secs(4);

/// How long SQLite waits for another writer; below [`TIMEOUT`], so that it is SQLite that says so.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait for a connection; below [`TIMEOUT`], so that it is the pool that says so.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long Postgres works on a statement; below [`TIMEOUT`], so that a statement we gave up on does not happen after.
const STATEMENT_TIMEOUT: &str = "set statement_timeout = '3500ms'";

/// Connections of one process, beside the one for what goes ahead. The smallest hosted Postgres has 20 for all.
const CONNECTIONS: u32 = 8;

/// A pool of connections, and one for what must not wait for them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    pool: AnyPool,
    ahead: Ahead,
    place: Place,
    marks: Arc<OnceCell<Option<Marks>>>,
    /// Connections of the pool that a statement runs on.
    in_use: Arc<AtomicU32>,
    slow_query: Duration,
}

#[derive(Clone, Debug)]
enum AnyPool {
    Sqlite(Pool<Sqlite>),
    Postgres(Pool<Postgres>),
}

/// Why the database did not do what it was asked. Cheap to clone, for all whom it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or is too busy, for now.
    #[error("database is not available")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// It did not answer in time. A write may have happened.
    #[error("database did not answer in time")]
    Timeout,
    /// It answered with an error.
    #[error("database refused")]
    Refused(#[source] Arc<sqlx::Error>),
    /// Its disk is full. It can be read, and a write has not happened.
    #[error("database has no room left on its disk")]
    NoRoom(#[source] Arc<sqlx::Error>),
    /// Its file may only be read, and a write has not happened.
    #[error("database can only be read; may this user write to its file and directory?")]
    ReadOnly(#[source] Arc<sqlx::Error>),
    /// Its file is not the one that was opened. Nothing was asked of either.
    #[error(
        "database file {0} was removed or replaced while it was in use; put it back as it was, \
         or stop, put the right file there without -wal and -shm of another, and start again"
    )]
    Moved(String),
    /// A migration cannot be applied.
    #[error("migrations cannot be applied")]
    Migrate(#[source] Arc<sqlx::migrate::MigrateError>),
}

impl Error {
    /// Returns whether it is worth trying again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout)
    }

    /// Returns whether the server showed a certificate that is not trusted.
    #[must_use]
    pub fn is_untrusted(&self) -> bool {
        let Self::Refused(error) = self else { return false };
        matches!(&**error, sqlx::Error::Io(error) if is_untrusted(error))
    }

    /// Returns whether the database itself has said no to this very statement: nothing of it has happened, and another
    /// may well be done.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(error) if matches!(**error, sqlx::Error::Database(_)))
    }
}

/// An argument of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// A number.
    Int(i64),
    /// A number or null.
    OptionalInt(Option<i64>),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// What both databases can read a row into.
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}
impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl Database {
    /// Prepares a pool; connects when it is first used.
    #[must_use]
    pub fn new(config: &DatabaseConfig) -> Self {
        let (pool, ahead, place) = match &config.url {
            DatabaseUrl::Sqlite(options) => {
                let place = Place::of_file(options.get_filename());
                let options = sqlite_options(options);
                let pool =
                    SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
                (AnyPool::Sqlite(pool.connect_lazy_with(options.clone())), Ahead::sqlite(options), place)
            }
            DatabaseUrl::Postgres(server) => {
                let options = server.options.clone().application_name("tasklist");
                let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
                let pool = pool.after_connect(|connection, _| {
                    Box::pin(async { connection.execute(STATEMENT_TIMEOUT).await.map(drop) })
                });
                let pool = AnyPool::Postgres(pool.connect_lazy_with(options.clone()));
                (pool, Ahead::postgres(options), Place::elsewhere())
            }
        };
        Self {
            pool,
            ahead,
            place,
            marks: Arc::default(),
            in_use: Arc::default(),
            slow_query: config.slow_query,
        }
    }

    /// Returns how slow the list query pretends to be.
    #[must_use]
    pub fn slow_query(&self) -> Duration {
        self.slow_query
    }

    /// Returns how long a visitor waits for what the database must be asked for, which is less than five seconds: one
    /// operation, after a cache that hangs has been given up, or after others who asked before. A query that pretends
    /// to be slow may be both theirs and the visitor's own.
    #[must_use]
    pub fn patience(&self) -> Duration {
        2 * self.slow_query + TIMEOUT + Duration::from_millis(900)
    }

    /// Returns how much of that may be spent on waiting for others.
    #[must_use]
    pub fn patience_with_others(&self) -> Duration {
        self.slow_query + Duration::from_millis(2500)
    }

    /// Returns whether statements of this process run on all connections of the pool, so that another one waits.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.in_use.load(Ordering::Relaxed) >= CONNECTIONS
    }

    /// Opens a connection outside the pool and closes it: the pool, which goes on trying, hides why there is none.
    ///
    /// # Errors
    ///
    /// The cause, such as a refused connection or a wrong password.
    pub async fn knock(&self) -> Result<(), Error> {
        let connect = async {
            match &self.pool {
                AnyPool::Sqlite(pool) => {
                    SqliteConnection::connect_with(&pool.connect_options()).await?.close().await
                }
                AnyPool::Postgres(pool) => {
                    PgConnection::connect_with(&pool.connect_options()).await?.close().await
                }
            }
        };
        timeout(TIMEOUT, connect).await.map_err(|_| Error::Timeout)?.map_err(Error::from)
    }

    /// Returns what the database calls itself, and so whether it can be reached: also while all connections of the pool
    /// are in use, since [`fetch_ahead`](Self::fetch_ahead) waits for none.
    ///
    /// # Errors
    ///
    /// As [`fetch_ahead`](Self::fetch_ahead).
    pub async fn version(&self) -> Result<String, Error> {
        let sql = self.choose(
            "select 'SQLite ' || sqlite_version()",
            "select 'Postgres ' || current_setting('server_version')",
        );
        self.fetch_ahead(sql).await.map(|(version,): (String,)| version)
    }

    /// Returns the one of two that is meant for this database, such as a statement that only one of them knows.
    #[must_use]
    pub fn choose<T>(&self, sqlite: T, postgres: T) -> T {
        match self.pool {
            AnyPool::Sqlite(_) => sqlite,
            AnyPool::Postgres(_) => postgres,
        }
    }

    /// Runs a statement and returns its rows. Arguments are `$1`, `$2`, … in both databases.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and [`Error::Timeout`] pass with time; the others do not.
    ///
    /// # Cancel safety
    ///
    /// A statement that is dropped before its end costs its connection; whether a write happened is open.
    pub async fn fetch_all<T: Row>(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<T>, Error> {
        self.place.check()?;
        let rows = async {
            match &self.pool {
                AnyPool::Sqlite(pool) => fetch_all(pool, &self.in_use, sql, args).await,
                AnyPool::Postgres(pool) => fetch_all(pool, &self.in_use, sql, args).await,
            }
        };
        let rows = timeout(TIMEOUT, rows).await.map_err(|_| Error::Timeout)??;
        self.place.note();
        Ok(rows)
    }

    /// As [`fetch_all`](Self::fetch_all), for a statement with one row.
    ///
    /// # Errors
    ///
    /// As there, and [`Error::Refused`] without a row.
    pub async fn fetch_one<T: Row>(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<T, Error> {
        self.fetch_optional(sql, args).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// As [`fetch_all`](Self::fetch_all), for a statement with one row or none.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn fetch_optional<T: Row>(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Option<T>, Error> {
        self.fetch_all(sql, args).await.map(|rows| rows.into_iter().next())
    }

    /// Returns the first row that a small statement finds, on a connection kept for such: it waits for none but them,
    /// and for two seconds at most. It is sent after the call, outside any transaction; it must only read, since it may
    /// run twice.
    ///
    /// # Errors
    ///
    /// As [`fetch_one`](Self::fetch_one).
    ///
    /// # Cancel safety
    ///
    /// As [`fetch_all`](Self::fetch_all).
    pub async fn fetch_ahead<T: Row>(&self, sql: &'static str) -> Result<T, Error> {
        self.place.check()?;
        let rows = async {
            match &self.ahead {
                Ahead::Sqlite(kept) => kept.fetch(sql).await,
                Ahead::Postgres(kept) => kept.fetch(sql).await,
            }
        };
        let rows: Vec<T> = timeout(ahead::TIMEOUT, rows).await.map_err(|_| Error::Timeout)??;
        self.place.note();
        rows.into_iter().next().ok_or_else(|| sqlx::Error::RowNotFound.into())
    }
}

fn sqlite_options(options: &SqliteConnectOptions) -> SqliteConnectOptions {
    options.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal).busy_timeout(BUSY_TIMEOUT)
}

async fn fetch_all<DB, T>(
    pool: &Pool<DB>,
    in_use: &Arc<AtomicU32>,
    sql: &'static str,
    args: &[Arg<'_>],
) -> sqlx::Result<Vec<T>>
where
    DB: sqlx::Database,
    DB::Arguments: IntoArguments<DB>,
    T: for<'r> FromRow<'r, DB::Row> + Send + Unpin,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> Option<i64>: Encode<'q, DB> + Type<DB>,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    let mut query = sqlx::query_as(sql);
    for arg in args {
        query = match *arg {
            Arg::Int(number) => query.bind(number),
            Arg::OptionalInt(number) => query.bind(number),
            Arg::Text(text) => query.bind(text.to_owned()),
            Arg::Bytes(bytes) => query.bind(bytes.to_vec()),
        };
    }
    let mut lease = Lease::new(pool.acquire().await?, in_use);
    let rows = query.fetch_all(lease.connection()).await?;
    lease.give_back();
    Ok(rows)
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(error) => error.code().unwrap_or_default(),
            _ => "".into(),
        };
        let (kind, is_transport, error) = (kind_of(&code), is_transport(&error), Arc::new(error));
        match kind {
            _ if is_transport => Self::Unavailable(error),
            Kind::Passing => Self::Unavailable(error),
            Kind::NoRoom => Self::NoRoom(error),
            Kind::ReadOnly => Self::ReadOnly(error),
            Kind::Other => Self::Refused(error),
        }
    }
}

/// Returns whether there is no connection, or none any more.
fn is_transport(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => !is_untrusted(error),
        sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        _ => false,
    }
}

fn is_untrusted(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>());
    matches!(cause, Some(TlsError::InvalidCertificate(_)))
}

/// What a database's own code says of an error.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// It is busy, starting or stopping: the same statement can be expected to work later.
    Passing,
    NoRoom,
    ReadOnly,
    Other,
}

/// Tells codes of Postgres (PostgreSQL, "Error Codes"), which have five letters and digits, and those of SQLite
/// ("Result and Error Codes").
fn kind_of(code: &str) -> Kind {
    // Class 08 connection exception, 53 insufficient resources, 57P0x operator intervention, 57014 statement timeout,
    // 25006 read-only (a standby after failover).
    let passing = ["08", "53", "57P0", "57014", "25006"];
    match (code.len(), code.parse::<u16>()) {
        (5, _) if code == "53100" => Kind::NoRoom,
        (5, _) if passing.iter().any(|class| code.starts_with(class)) => Kind::Passing,
        (5, _) | (_, Err(_)) => Kind::Other,
        // IOERR_SHMSIZE: a full disk has no room for what a new connection needs.
        (_, Ok(4874)) => Kind::Passing,
        // The higher bits only say more: BUSY, LOCKED; READONLY; FULL.
        (_, Ok(code)) => match code & 0xff {
            5 | 6 => Kind::Passing,
            8 => Kind::ReadOnly,
            13 => Kind::NoRoom,
            _ => Kind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_with_time_is_told_from_what_somebody_must_mend() {
        let passing = ["08006", "53300", "57P01", "57P03", "57014", "25006", "5", "261", "517", "6", "4874"];
        assert_eq!(passing.map(kind_of), [const { Kind::Passing }; 11]);
        assert_eq!(["53100", "13"].map(kind_of), [Kind::NoRoom, Kind::NoRoom]);
        assert_eq!(["8", "264", "776", "1544"].map(kind_of), [const { Kind::ReadOnly }; 4]);
        // A code of Postgres is no number, though 22021 would be a BUSY.
        assert_eq!(["22021", "23505", "42P01", "1", "10", "14", ""].map(kind_of), [const { Kind::Other }; 7]);
    }
}
