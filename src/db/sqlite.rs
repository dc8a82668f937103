//! A connection to a SQLite file.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, SqliteConnection};

use super::connection::{Connection, Failure};
use super::statement::{Arg, Row, with_args};

/// Returns how the file is opened. `busy_timeout` is how long it waits for another writer.
pub(super) fn options(file: &SqliteConnectOptions, busy_timeout: Duration) -> SqliteConnectOptions {
    file.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal).busy_timeout(busy_timeout)
}

impl Connection for SqliteConnection {
    type Options = SqliteConnectOptions;

    fn open(options: &SqliteConnectOptions) -> BoxFuture<'_, sqlx::Result<Self>> {
        Box::pin(options.connect())
    }

    async fn is_usable(&mut self) -> bool {
        true
    }

    async fn fetch<T: Row>(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<T>, Failure> {
        with_args::<Sqlite, T>(sql, args).fetch_all(self).await.map_err(Failure::from)
    }
}
