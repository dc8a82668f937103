//! The database: SQLite or Postgres, with the same SQL and one time limit for both.

mod ahead;
pub mod cache;
mod error;
mod lease;
mod mark;
mod migrations;
mod place;
mod pool;
mod postgres;
pub mod sessions;
mod statement;
mod url;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Connection, Pool, SqliteConnection};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use self::ahead::Ahead;
pub use self::error::Error;
use self::lease::Lease;
pub use self::mark::Mark;
use self::mark::Marks;
use self::place::Place;
use self::pool::Connections;
use self::postgres::Connector;
pub use self::statement::{Arg, Row};
use self::statement::{only_reads, with_args};
pub use self::url::{DatabaseUrl, InvalidUrl, PostgresServer};

/// How long an operation may take, waiting for a connection included: with the cache's timeout before it, a lost
/// database is a page that says so within five seconds.
const TIMEOUT: Duration = Duration::from_secs(4);

/// How long SQLite waits for another writer; below [`TIMEOUT`], so that it is SQLite that says so.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait for a connection; below [`TIMEOUT`], so that it is the pool that says so.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long Postgres works on a statement; below [`TIMEOUT`], so that a statement we gave up on does not happen after.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(3500);

/// How long to open the files of SQLite may take.
const MARKS_TIMEOUT: Duration = Duration::from_millis(500);

/// Connections of one process, beside the one for what goes ahead. The smallest hosted Postgres has 20 for all.
const CONNECTIONS: u32 = 8;

/// A pool of connections, and one for what must not wait for them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    pool: AnyPool,
    ahead: Ahead,
    place: Place,
    marks: Arc<OnceCell<Option<Marks>>>,
    /// Connections of SQLite's pool that a statement runs on. The other pool counts its own.
    in_use: Arc<AtomicU32>,
    slow_query: Duration,
}

#[derive(Clone, Debug)]
enum AnyPool {
    Sqlite(Pool<Sqlite>),
    Postgres(Connections),
}

impl Database {
    /// Prepares a pool; connects when it is first used.
    #[must_use]
    pub fn new(url: &DatabaseUrl) -> Self {
        let (pool, ahead, place) = match url {
            DatabaseUrl::Sqlite(options) => {
                let place = Place::of_file(options.get_filename());
                let options = sqlite_options(options);
                let pool =
                    SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
                (AnyPool::Sqlite(pool.connect_lazy_with(options.clone())), Ahead::sqlite(options), place)
            }
            DatabaseUrl::Postgres(server) => {
                let connector = Connector::new(server.options.clone(), server.has_pooler, STATEMENT_TIMEOUT);
                let ahead = Ahead::postgres(&connector);
                (AnyPool::Postgres(Connections::new(connector, CONNECTIONS)), ahead, Place::elsewhere())
            }
        };
        Self { pool, ahead, place, marks: Arc::default(), in_use: Arc::default(), slow_query: Duration::ZERO }
    }

    /// Makes the list query pretend to be slow.
    #[must_use]
    pub fn with_slow_query(self, slow_query: Duration) -> Self {
        Self { slow_query, ..self }
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
        match &self.pool {
            AnyPool::Sqlite(_) => self.in_use.load(Ordering::Relaxed) >= CONNECTIONS,
            AnyPool::Postgres(pool) => pool.is_congested(),
        }
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
                AnyPool::Postgres(pool) => pool.connector().connect().await?.close().await,
            }
        };
        timeout(TIMEOUT, connect).await.map_err(|_| Error::Timeout)?.map_err(Error::from)
    }

    /// Returns what the database calls itself, and so whether it can be reached: also while all connections of the pool
    /// are in use, since [`fetch_ahead`](Self::fetch_ahead) waits for none. Says so if a pooler was met on the way.
    ///
    /// # Errors
    ///
    /// As [`fetch_ahead`](Self::fetch_ahead).
    pub async fn version(&self) -> Result<String, Error> {
        let sql = self.choose(
            "select 'SQLite ' || sqlite_version()",
            "select 'Postgres ' || current_setting('server_version')",
        );
        let (version,): (String,) = self.fetch_ahead(sql).await?;
        match &self.pool {
            AnyPool::Postgres(pool) if pool.connector().is_pooled() => {
                Ok(format!("{version} behind a pooler"))
            }
            _ => Ok(version),
        }
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
    /// A statement that was certainly not executed, since the connection or a prepared statement was gone, is tried
    /// once more.
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
                AnyPool::Postgres(pool) => pool.fetch(sql, args, only_reads(sql)).await,
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

    /// Begins to look at the files of a database that can be used, so that there are [`mark`](Self::mark)s from now on.
    /// Only SQLite has such. Done once; where they cannot be looked at then, there never are any.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the next one to do it.
    pub async fn watch(&self) {
        let AnyPool::Sqlite(pool) = &self.pool else { return };
        let open = async {
            let opened = timeout(MARKS_TIMEOUT, Marks::open(&pool.connect_options())).await;
            let marks = opened.ok().flatten().filter(|_| self.place.check().is_ok());
            if marks.is_none() {
                tracing::debug!("the database's files cannot be looked at: each read is a query");
            }
            marks
        };
        self.marks.get_or_init(|| open).await;
    }

    /// Returns what is to be seen of the database's state: another mark for each commit, whoever makes it, from before
    /// that is acknowledged. None where there is nothing to be seen. Waits for nothing.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.marks.get()?.as_ref()?.look()
    }
}

fn sqlite_options(options: &SqliteConnectOptions) -> SqliteConnectOptions {
    options.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal).busy_timeout(BUSY_TIMEOUT)
}

async fn fetch_all<T: Row>(
    pool: &Pool<Sqlite>,
    in_use: &Arc<AtomicU32>,
    sql: &'static str,
    args: &[Arg<'_>],
) -> sqlx::Result<Vec<T>> {
    let mut lease = Lease::new(pool.acquire().await?, in_use);
    let rows = with_args::<Sqlite, T>(sql, args).fetch_all(lease.connection()).await?;
    lease.give_back();
    Ok(rows)
}
