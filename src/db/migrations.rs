//! The steps of `migrations/`, embedded, and what is still missing of them.

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use super::{AnyPool, Database, Error};

/// Tries for a SQLite file that another process migrates at the same time; Postgres has a lock for it.
const ATTEMPTS: usize = 5;

/// Between them.
const PAUSE: Duration = Duration::from_millis(100);

impl Database {
    /// Applies the migrations that are missing and returns their names. Safe to run in several processes at once.
    /// Takes as long as it takes.
    ///
    /// # Errors
    ///
    /// [`Error::Migrate`] with the cause, among them a file that was edited after it was applied.
    pub async fn migrate(&self) -> Result<Vec<String>, Error> {
        let pending = self.pending_migrations().await?;
        let mut result = self.apply().await;
        for _ in 1..ATTEMPTS {
            if !matches!((&result, &self.pool), (Err(MigrateError::ExecuteMigration(..)), AnyPool::Sqlite(_)))
            {
                break;
            }
            sleep(PAUSE).await;
            result = self.apply().await;
        }
        result.map(|()| pending).map_err(|error| Error::Migrate(Arc::new(error)))
    }

    /// Runs on a connection of its own, which has no time limit for statements.
    async fn apply(&self) -> Result<(), MigrateError> {
        let migrator = migrator(&self.pool);
        match &self.pool {
            AnyPool::Sqlite(pool) => migrator.run(pool).await,
            AnyPool::Postgres(pool) => {
                let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
                migrator.run(&mut connection).await?;
                Ok(connection.close().await?)
            }
        }
    }

    /// Returns the names of the migrations that have not been applied, none if the database is up to date.
    ///
    /// # Errors
    ///
    /// As any statement.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, Error> {
        let migrator = migrator(&self.pool);
        let table = match self.pool {
            AnyPool::Sqlite(_) => "select count(*) from sqlite_master where name = $1",
            AnyPool::Postgres(_) => "select count(*) from pg_class where oid = to_regclass($1)",
        };
        let (tables,): (i64,) = self.fetch_one(table, &[super::Arg::Text(&migrator.table_name)]).await?;
        let applied: Vec<(i64,)> = match tables {
            0 => vec![],
            _ => self.fetch_all("select version from _sqlx_migrations where success", &[]).await?,
        };
        let missing = migrator.iter().filter(|migration| !applied.contains(&(migration.version,)));
        Ok(missing.map(|migration| format!("{:04} {}", migration.version, migration.description)).collect())
    }
}

fn migrator(pool: &AnyPool) -> Migrator {
    let mut migrator = match pool {
        AnyPool::Sqlite(_) => sqlx::migrate!("migrations/sqlite"),
        AnyPool::Postgres(_) => sqlx::migrate!("migrations/postgres"),
    };
    // A release that is rolled back meets a database that is ahead of it.
    migrator.set_ignore_missing(true);
    migrator
}
