//! The migrations of `migrations/`, embedded: which are missing, and how they are applied.

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use sqlx::{Connection as _, Executor, PgConnection, SqliteConnection};

use super::pool::Pool;
use super::postgres::PostgresConnection;
use super::{Arg, Database, Engine, Error};

impl Database {
    /// Applies the migrations that are missing and returns their names. Safe to run in several processes at once.
    /// Takes as long as it takes.
    ///
    /// # Errors
    ///
    /// [`Error::Migrate`] with the cause, among them a file that was edited after it was applied.
    pub async fn migrate(&self) -> Result<Vec<String>, Error> {
        let migrator = self.migrator();
        let migrated = match &*self.engine {
            Engine::Sqlite { connections, .. } => migrate_sqlite(&migrator, &connections.writes).await,
            Engine::Postgres(connections) => migrate_postgres(&migrator, &connections.writes).await,
        };
        migrated.map_err(|error| match error {
            MigrateError::Execute(error) => Error::from(error),
            error => Error::Migrate(Arc::new(error)),
        })
    }

    /// Returns the names of the migrations that have not been applied, none if the database is up to date.
    ///
    /// # Errors
    ///
    /// Those of [`fetch_all`](Self::fetch_all).
    pub async fn pending_migrations(&self) -> Result<Vec<String>, Error> {
        let migrator = self.migrator();
        let table = self.choose(
            "select count(*) from sqlite_master where name = $1",
            "select count(*) from pg_class where oid = to_regclass($1)",
        );
        let (tables,): (i64,) = self.fetch_one(table, &[Arg::Text(&migrator.table_name)]).await?;
        let applied: Vec<(i64,)> = match tables {
            0 => vec![],
            _ => self.fetch_all("select version from _sqlx_migrations where success", &[]).await?,
        };
        let applied: Vec<_> = applied.into_iter().map(|(version,)| version).collect();
        Ok(names_of_missing(&migrator, &applied))
    }

    /// Returns the names of migrations that were edited after they were applied: [`migrate`](Self::migrate) would fail.
    ///
    /// # Errors
    ///
    /// Those of [`fetch_all`](Self::fetch_all), also without the table of the applied migrations.
    pub async fn altered_migrations(&self) -> Result<Vec<String>, Error> {
        let applied: Vec<(i64, Vec<u8>)> =
            self.fetch_all("select version, checksum from _sqlx_migrations", &[]).await?;
        let migrator = self.migrator();
        let is_altered = |migration: &&Migration| {
            let is_other = |(version, checksum): &(i64, Vec<u8>)| {
                *version == migration.version && checksum[..] != migration.checksum[..]
            };
            applied.iter().any(is_other)
        };
        let altered = migrator.iter().filter(is_altered);
        Ok(altered.map(name_of).collect())
    }

    fn migrator(&self) -> Migrator {
        let mut migrator = match *self.engine {
            Engine::Sqlite { .. } => sqlx::migrate!("migrations/sqlite"),
            Engine::Postgres(_) => sqlx::migrate!("migrations/postgres"),
        };
        // A release that is rolled back meets a database that is ahead of it.
        migrator.set_ignore_missing(true);
        migrator
    }
}

/// Applies what is missing in one transaction, which locks the file, and returns the names.
async fn migrate_sqlite(
    migrator: &Migrator,
    pool: &Arc<Pool<SqliteConnection>>,
) -> Result<Vec<String>, MigrateError> {
    let mut lease = pool.lease().await?;
    let mut transaction = lease.connection().begin_with("begin immediate").await?;
    transaction.ensure_migrations_table(&migrator.table_name).await?;
    let applied = transaction.list_applied_migrations(&migrator.table_name).await?;
    let applied: Vec<_> = applied.iter().map(|migration| migration.version).collect();
    migrator.run(&mut *transaction).await?;
    transaction.commit().await?;
    lease.give_back();
    Ok(names_of_missing(migrator, &applied))
}

/// Applies what is missing in one transaction, under a lock that ends with it, and returns the names.
///
/// sqlx itself keeps a session's lock and prepares statements by name, and neither works through a pooler.
async fn migrate_postgres(
    migrator: &Migrator,
    pool: &Arc<Pool<PostgresConnection>>,
) -> Result<Vec<String>, MigrateError> {
    let mut lease = pool.lease().await?;
    // Without a limit: a migration takes as long as it takes.
    lease.connection().begin(Duration::ZERO).await?;
    let connection = lease.connection().within();
    lock(connection).await?;
    connection.ensure_migrations_table(&migrator.table_name).await?;
    let sql = "select version, success, checksum from _sqlx_migrations";
    let applied: Vec<(i64, bool, Vec<u8>)> =
        sqlx::query_as(sql).persistent(false).fetch_all(&mut *connection).await?;
    if let Some((version, ..)) = applied.iter().find(|(_, success, _)| !success) {
        return Err(MigrateError::Dirty(*version));
    }
    for migration in migrator.iter() {
        match applied.iter().find(|(version, ..)| *version == migration.version) {
            Some((_, _, checksum)) if *checksum == *migration.checksum => {}
            Some((version, ..)) => return Err(MigrateError::VersionMismatch(*version)),
            None => apply(migration, connection)
                .await
                .map_err(|error| MigrateError::ExecuteMigration(error, migration.version))?,
        }
    }
    connection.execute("commit").await?;
    lease.give_back();
    let applied: Vec<_> = applied.iter().map(|(version, ..)| *version).collect();
    Ok(names_of_missing(migrator, &applied))
}

/// Waits until no other process migrates this database. sqlx has a lock of the same number, for one session, which the
/// release before may hold.
async fn lock(connection: &mut PgConnection) -> sqlx::Result<()> {
    let sql = "select current_database()::text";
    let (database,): (String,) = sqlx::query_as(sql).persistent(false).fetch_one(&mut *connection).await?;
    let number = 0x3d32_ad9e * i64::from(crc32fast::hash(database.as_bytes()));
    let lock = sqlx::query("select pg_advisory_xact_lock($1)").persistent(false).bind(number);
    lock.execute(connection).await.map(drop)
}

async fn apply(migration: &Migration, connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(migration.sql.clone()).execute(&mut *connection).await?;
    let sql = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
               values ($1, $2, true, $3, -1)";
    let note = sqlx::query(sql).persistent(false).bind(migration.version).bind(&*migration.description);
    note.bind(&*migration.checksum).execute(connection).await.map(drop)
}

fn names_of_missing(migrator: &Migrator, applied: &[i64]) -> Vec<String> {
    migrator.iter().filter(|migration| !applied.contains(&migration.version)).map(name_of).collect()
}

fn name_of(migration: &Migration) -> String {
    format!("{:04} {}", migration.version, migration.description)
}
