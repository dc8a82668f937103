//! The database: SQLite or Postgres, with the same SQL and one time limit for both.

pub mod cache;
mod change_token;
mod connection;
mod error;
mod file_identity;
mod migrations;
mod pool;
mod postgres;
mod reserved;
pub mod sessions;
mod sqlite;
mod statement;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::sync::OnceCell;
use tokio::time::timeout;

pub use self::change_token::ChangeToken;
use self::change_token::ChangeTokens;
use self::connection::Connection;
pub use self::error::Error;
use self::file_identity::FileIdentity;
use self::pool::Pool;
use self::postgres::{Connector, PostgresConnection};
use self::reserved::Reserved;
use self::statement::only_reads;
pub use self::statement::{Arg, Row};
pub use self::url::{DatabaseUrl, InvalidUrl, PostgresServer};

/// How long an operation may take, waiting for a connection included: with the cache's timeout before it, a lost
/// database is a page that says so within five seconds.
const TIMEOUT: Duration = Duration::from_secs(4);

/// How long SQLite waits for another writer; below [`TIMEOUT`], so that it is SQLite that says so.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long Postgres works on a statement; below [`TIMEOUT`], so that a statement we gave up on does not happen after.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(3500);

/// How long to open the files of SQLite may take.
const CHANGE_TOKENS_TIMEOUT: Duration = Duration::from_millis(500);

/// Connections of one process, beside the reserved one. The smallest hosted Postgres has 20 for all.
const CONNECTIONS: usize = 8;

/// Pooled connections, and a reserved one for statements that must not wait for them. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    engine: Arc<Engine>,
    slow_query: Duration,
}

enum Engine {
    Sqlite {
        connections: Connections<SqliteConnection>,
        file: FileIdentity,
        change_tokens: OnceCell<Option<ChangeTokens>>,
    },
    Postgres(Connections<PostgresConnection>),
}

struct Connections<C: Connection> {
    reads: Arc<Pool<C>>,
    /// In Postgres the same as for reads. SQLite has one writer at a time and lets others poll, so they queue here.
    writes: Arc<Pool<C>>,
    reserved: Box<Reserved<C>>,
}

impl Database {
    /// Prepares a pool; connects when it is first used.
    #[must_use]
    pub fn new(url: &DatabaseUrl) -> Self {
        let engine = match url {
            DatabaseUrl::Sqlite(file) => {
                let options = || sqlite::options(file, BUSY_TIMEOUT);
                let reserved = Reserved::new(sqlite::options(file, reserved::STATEMENT_TIMEOUT));
                let (reads, writes) = (Pool::new(options(), CONNECTIONS), Pool::new(options(), 1));
                Engine::Sqlite {
                    connections: Connections { reads, writes, reserved: Box::new(reserved) },
                    file: FileIdentity::of(file.get_filename()),
                    change_tokens: OnceCell::new(),
                }
            }
            DatabaseUrl::Postgres(server) => {
                let connector = Connector::new(server, STATEMENT_TIMEOUT);
                let reserved = Reserved::new(connector.with_statement_timeout(reserved::STATEMENT_TIMEOUT));
                let reads = Pool::new(connector, CONNECTIONS);
                Engine::Postgres(Connections {
                    writes: Arc::clone(&reads),
                    reads,
                    reserved: Box::new(reserved),
                })
            }
        };
        Self { engine: Arc::new(engine), slow_query: Duration::ZERO }
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

    /// Returns how long a visitor waits for the database, which is less than five seconds: one operation, after a cache
    /// that hangs has been given up, or after the operation of other visitors. A query that pretends to be slow may be
    /// both theirs and the visitor's own.
    #[must_use]
    pub fn max_wait(&self) -> Duration {
        2 * self.slow_query + TIMEOUT + Duration::from_millis(900)
    }

    /// Returns how much of [`max_wait`](Self::max_wait) may be spent on waiting for the operation of others.
    #[must_use]
    pub fn max_wait_for_others(&self) -> Duration {
        self.slow_query + Duration::from_millis(2500)
    }

    /// Returns whether statements of this process run on all connections for reads, so that another one waits.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        match &*self.engine {
            Engine::Sqlite { connections, .. } => connections.reads.is_congested(),
            Engine::Postgres(connections) => connections.reads.is_congested(),
        }
    }

    /// Returns whether statements of this process run on all connections for writes, so that another one waits.
    #[must_use]
    pub fn is_congested_for_writes(&self) -> bool {
        match &*self.engine {
            Engine::Sqlite { connections, .. } => connections.writes.is_congested(),
            Engine::Postgres(connections) => connections.writes.is_congested(),
        }
    }

    /// Opens a connection outside the pool and closes it. Its error is the cause that the pool hides by trying again.
    ///
    /// # Errors
    ///
    /// The cause, such as a refused connection or a wrong password.
    pub async fn knock(&self) -> Result<(), Error> {
        let connect = async {
            match &*self.engine {
                Engine::Sqlite { connections, .. } => connections.connect().await,
                Engine::Postgres(connections) => connections.connect().await,
            }
        };
        timeout(TIMEOUT, connect).await.map_err(|_| Error::Timeout)?.map_err(Error::from)
    }

    /// Returns the name and version of the database, and whether there is a pooler in front of it.
    ///
    /// So it can be reached, which shows also while all connections of the pool are in use.
    ///
    /// # Errors
    ///
    /// As [`fetch_reserved`](Self::fetch_reserved).
    pub async fn version(&self) -> Result<String, Error> {
        let sql = self.choose(
            "select 'SQLite ' || sqlite_version()",
            "select 'Postgres ' || current_setting('server_version')",
        );
        let (version,): (String,) = self.fetch_reserved(sql).await?;
        match &*self.engine {
            Engine::Postgres(connections) if connections.reads.options().is_pooled() => {
                Ok(format!("{version} behind a pooler"))
            }
            _ => Ok(version),
        }
    }

    /// Returns the one of two that is meant for this database, such as a statement that only one of them knows.
    #[must_use]
    pub fn choose<T>(&self, sqlite: T, postgres: T) -> T {
        match *self.engine {
            Engine::Sqlite { .. } => sqlite,
            Engine::Postgres(_) => postgres,
        }
    }

    /// Runs a statement and returns its rows. Arguments are `$1`, `$2`, … in both databases.
    ///
    /// A statement that was certainly not executed, since the connection or a prepared statement was gone, is tried
    /// once more. In SQLite, statements of this process that write run one after the other.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and [`Error::Timeout`] pass with time; the others do not.
    ///
    /// # Cancel safety
    ///
    /// A statement that is dropped before its end costs its connection; whether a write happened is open.
    pub async fn fetch_all<T: Row>(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<T>, Error> {
        let rows = async {
            match &*self.engine {
                Engine::Sqlite { connections, .. } => connections.fetch(sql, args).await,
                Engine::Postgres(connections) => connections.fetch(sql, args).await,
            }
        };
        self.on_the_same_file(TIMEOUT, rows).await
    }

    /// As [`fetch_all`](Self::fetch_all), for a statement with one row.
    ///
    /// # Errors
    ///
    /// Those of [`fetch_all`](Self::fetch_all), and [`Error::Refused`] without a row.
    pub async fn fetch_one<T: Row>(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<T, Error> {
        self.fetch_optional(sql, args).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// As [`fetch_all`](Self::fetch_all), for a statement with one row or none.
    ///
    /// # Errors
    ///
    /// Those of [`fetch_all`](Self::fetch_all).
    pub async fn fetch_optional<T: Row>(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Option<T>, Error> {
        self.fetch_all(sql, args).await.map(|rows| rows.into_iter().next())
    }

    /// Returns the first row of a small statement, on the connection that is reserved for such.
    ///
    /// It waits for other small statements only, and for two seconds at most. It is sent after the call, outside any
    /// transaction. It must only read, since it may run twice.
    ///
    /// # Errors
    ///
    /// Those of [`fetch_one`](Self::fetch_one).
    ///
    /// # Cancel safety
    ///
    /// That of [`fetch_all`](Self::fetch_all).
    pub async fn fetch_reserved<T: Row>(&self, sql: &'static str) -> Result<T, Error> {
        let rows = async {
            match &*self.engine {
                Engine::Sqlite { connections, .. } => connections.reserved.fetch(sql).await,
                Engine::Postgres(connections) => connections.reserved.fetch(sql).await,
            }
        };
        let rows: Vec<T> = self.on_the_same_file(reserved::TIMEOUT, rows).await?;
        rows.into_iter().next().ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// Runs an operation within a limit, if the database has the file that it had before.
    async fn on_the_same_file<T>(
        &self,
        limit: Duration,
        operation: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, Error> {
        if let Engine::Sqlite { file, .. } = &*self.engine {
            file.check()?;
        }
        let outcome = timeout(limit, operation).await.map_err(|_| Error::Timeout)??;
        if let Engine::Sqlite { file, .. } = &*self.engine {
            file.note();
        }
        Ok(outcome)
    }

    /// Opens the files from which [`change_token`](Self::change_token) is read; only SQLite has such.
    ///
    /// Done once: where the files cannot be read then, there never is a token.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the next call to do it.
    pub async fn open_change_tokens(&self) {
        let Engine::Sqlite { connections, file, change_tokens, .. } = &*self.engine else { return };
        let open = async {
            let opened =
                timeout(CHANGE_TOKENS_TIMEOUT, ChangeTokens::open(connections.reads.options())).await;
            let tokens = opened.ok().flatten().filter(|_| file.check().is_ok());
            if tokens.is_none() {
                tracing::debug!("the database's files have no change tokens: each version check is a query");
            }
            tokens
        };
        change_tokens.get_or_init(|| open).await;
    }

    /// Returns the current change token of the database: each commit of any process has changed it before the commit is
    /// acknowledged. None where the files show none. Waits for nothing.
    #[must_use]
    pub fn change_token(&self) -> Option<ChangeToken> {
        match &*self.engine {
            Engine::Sqlite { change_tokens, .. } => change_tokens.get()?.as_ref()?.current(),
            Engine::Postgres(_) => None,
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.choose("Database(SQLite)", "Database(Postgres)"))
    }
}

impl<C: Connection> Connections<C> {
    async fn fetch<T: Row>(&self, sql: &'static str, args: &[Arg<'_>]) -> sqlx::Result<Vec<T>> {
        let pool = if only_reads(sql) { &self.reads } else { &self.writes };
        pool.fetch(sql, args).await
    }

    async fn connect(&self) -> sqlx::Result<()> {
        C::open(self.reads.options()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_write_to_sqlite_waits_for_the_one_before_and_reads_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/db.sqlite3", directory.path().display());
        let db = Database::new(&url.parse().unwrap());
        db.migrate().await.unwrap();
        let Engine::Sqlite { connections, .. } = &*db.engine else { panic!("{db:?}") };
        let tasks = async || db.fetch_one::<(i64,)>("select count(*) from tasks", &[]).await.unwrap().0;
        let first = connections.writes.lease().await.unwrap();
        let mut second = pin!(db.fetch_all::<()>("insert into tasks (name) values ('second')", &[]));
        for _ in 0..20 {
            assert!(second.as_mut().now_or_never().is_none());
            assert_eq!(tasks().await, 0);
        }
        first.give_back();
        second.await.unwrap();
        assert_eq!(tasks().await, 1);
    }
}
