//! A connection to Postgres, or to a pooler such as PgBouncer that stands in front of it.
//!
//! A pooler in transaction mode lends a server connection for one transaction at a time. What outlives a transaction
//! then belongs to somebody else: a prepared statement with a name, `set`, a session's advisory lock. A statement that
//! is prepared by name could even run another program's statement of the same name. So through a pooler each statement
//! runs unnamed, in a transaction of its own, with `set local`.
//!
//! A pooler is detected, not asked for. Each connection sends a setting with a random value as a startup parameter and
//! then reads it back. Only a server connection of its own has the value: a pooler refuses such a parameter or leaves
//! it out. Without that proof named statements are never used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow, Postgres};
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, FromRow, PgConnection, Row};

use super::error::{code_of, is_transport};
use super::statement::{Arg, with_args};

/// The setting that shows whether a connection has a server connection of its own.
const PROOF: &str = "tasklist.connection";

/// How long an idle connection may take to show that it is still there.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens connections with one limit for their statements. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgConnectOptions,
    statement_timeout: Duration,
    /// Set once a pooler has been met, by any of the connectors of a database.
    is_pooled: Arc<AtomicBool>,
}

/// One connection.
pub(super) struct Client {
    connection: PgConnection,
    is_direct: bool,
    statement_timeout: Duration,
}

/// A statement that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: sqlx::Error,
    /// Whether it is certain that the statement was not executed, and it can work on another connection.
    pub(super) can_be_repeated: bool,
}

impl Connector {
    pub(super) fn new(options: PgConnectOptions, has_pooler: bool, statement_timeout: Duration) -> Self {
        // Poolers refuse startup parameters that they do not know, this one too. No floats are read here.
        let options = options.application_name("tasklist").extra_float_digits(None);
        Self { options, statement_timeout, is_pooled: Arc::new(AtomicBool::new(has_pooler)) }
    }

    /// The same server with another limit.
    pub(super) fn with_statement_timeout(&self, statement_timeout: Duration) -> Self {
        Self { statement_timeout, ..self.clone() }
    }

    /// Returns whether statements go through a pooler, as far as is known.
    pub(super) fn is_pooled(&self) -> bool {
        self.is_pooled.load(Ordering::SeqCst)
    }

    /// Uses no named statements from now on.
    pub(super) fn suspect_pooler(&self) {
        if !self.is_pooled.swap(true, Ordering::SeqCst) {
            tracing::info!(
                "the database is behind a connection pooler: each statement is a transaction of its own"
            );
        }
    }

    pub(super) async fn connect(&self) -> sqlx::Result<Client> {
        if self.is_pooled() {
            return self.connect_plain().await;
        }
        let proof = format!("{:016x}", fastrand::u64(..));
        let timeout = self.statement_timeout.as_millis().to_string();
        let options = self.options.clone().options([("statement_timeout", &timeout), (PROOF, &proof)]);
        let mut connection = match options.connect().await {
            Err(sqlx::Error::Database(error)) if may_refuse_parameters(&error.code().unwrap_or_default()) => {
                let client = self.connect_plain().await?;
                self.suspect_pooler();
                return Ok(client);
            }
            connected => connected?,
        };
        let is_direct = has_proof(&mut connection, &proof).await?;
        if !is_direct {
            self.suspect_pooler();
        }
        Ok(Client { is_direct, ..self.client(connection) })
    }

    async fn connect_plain(&self) -> sqlx::Result<Client> {
        self.options.connect().await.map(|connection| self.client(connection))
    }

    fn client(&self, connection: PgConnection) -> Client {
        Client { connection, is_direct: false, statement_timeout: self.statement_timeout }
    }
}

async fn has_proof(connection: &mut PgConnection, proof: &str) -> sqlx::Result<bool> {
    let sql = format!("select current_setting('{PROOF}', true)");
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok(row.try_get::<Option<String>, _>(0)?.as_deref() == Some(proof))
}

/// Returns whether a connection was refused with a code that says nothing of the startup parameters: the user, the
/// database, the server's resources and its state have codes of their own.
fn may_refuse_parameters(code: &str) -> bool {
    !["28", "3D", "53", "57", "42501"].iter().any(|class| code.starts_with(class))
}

impl Client {
    /// Returns whether the connection is still there. Through a pooler the beginning of a transaction shows it.
    pub(super) async fn is_alive(&mut self) -> bool {
        !self.is_direct
            || tokio::time::timeout(PING_TIMEOUT, self.connection.ping()).await.is_ok_and(|ping| ping.is_ok())
    }

    /// Returns whether named statements can be used.
    pub(super) fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Runs a statement in a transaction of its own. After a failure the connection must be closed.
    pub(super) async fn fetch<T>(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<T>, Failure>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let query = with_args::<Postgres, T>(sql, args);
        if self.is_direct {
            return query.fetch_all(&mut self.connection).await.map_err(Failure::of_statement);
        }
        let rows = self.run_unnamed(query).await.map_err(Failure::before_commit)?;
        match self.connection.execute("commit").await {
            Ok(_) => Ok(rows),
            Err(error) => Err(Failure::of_statement(error)),
        }
    }

    async fn run_unnamed<T>(&mut self, query: QueryAs<'_, Postgres, T, PgArguments>) -> sqlx::Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.begin(self.statement_timeout).await?;
        query.persistent(false).fetch_all(&mut self.connection).await
    }

    /// Runs a statement without arguments that only reads, in one round trip.
    pub(super) async fn read<T>(&mut self, sql: &'static str) -> sqlx::Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        if self.is_direct {
            return sqlx::query_as(sql).fetch_all(&mut self.connection).await;
        }
        // Several statements in one message are one transaction.
        let sql = format!("set local statement_timeout = {}; {sql}", self.statement_timeout.as_millis());
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await?;
        rows.iter().map(T::from_row).collect()
    }

    /// Begins a transaction. Without a limit for statements if it is zero.
    pub(super) async fn begin(&mut self, statement_timeout: Duration) -> sqlx::Result<()> {
        let sql = format!("begin; set local statement_timeout = {}", statement_timeout.as_millis());
        self.connection.execute(AssertSqlSafe(sql)).await.map(drop)
    }

    /// The connection within a transaction, for unnamed statements.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    pub(super) async fn close(self) -> sqlx::Result<()> {
        self.connection.close().await
    }
}

impl Failure {
    /// Of a statement that may have been committed.
    fn of_statement(error: sqlx::Error) -> Self {
        let can_be_repeated = is_rolled_back(&error);
        Self { error, can_be_repeated }
    }

    /// Of a statement in a transaction that was not committed: it is rolled back, also when the connection is lost.
    fn before_commit(error: sqlx::Error) -> Self {
        let can_be_repeated = is_rolled_back(&error) || is_lost(&error);
        Self { error, can_be_repeated }
    }
}

/// Returns whether the server has rolled a statement back for a reason that is gone when it comes again: its prepared
/// statement is stale (0A000, the table has changed), missing (26000) or another's (42P05), or it met a concurrent
/// change (class 40).
fn is_rolled_back(error: &sqlx::Error) -> bool {
    let code = code_of(error);
    ["0A000", "26000", "42P05", "40001", "40P01"].contains(&code.as_ref())
}

/// Returns whether an error says that named statements are not a connection's own.
pub(super) fn shows_pooler(error: &sqlx::Error) -> bool {
    ["26000", "42P05"].contains(&code_of(error).as_ref())
}

/// Returns whether there is no connection any more, or none to the server behind the pooler.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    let code = code_of(error);
    is_transport(error) || code.starts_with("08") || code.starts_with("57P0")
}

/// Returns whether the server, or a pooler, has no connection left for this user.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // PgBouncer has one code for all that it refuses.
            code == "53300" || (code == "08P01" && error.message().contains("connections"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_user_says_nothing_of_startup_parameters() {
        assert!(["08P01", "0A000", "22023", "42704"].into_iter().all(may_refuse_parameters));
        let others = ["28P01", "28000", "3D000", "53300", "57P03", "42501"];
        assert!(!others.into_iter().any(may_refuse_parameters));
    }
}
