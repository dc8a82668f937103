//! A connection to Postgres, or to a pooler such as PgBouncer that stands in front of it.
//!
//! A pooler in transaction mode lends a server connection for one transaction at a time. What outlives a transaction
//! then belongs to another client: a prepared statement with a name, `set`, a session's advisory lock. A statement that
//! is prepared by name could even run another program's statement of the same name. So through a pooler each statement
//! runs unnamed, in a transaction of its own, with `set local`.
//!
//! A pooler is detected. Each connection sends a setting with a random value as a startup parameter and
//! then reads it back. Only a server connection of its own has the value: a pooler refuses such a parameter or leaves
//! it out. Without that proof named statements are never used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::postgres::{PgArguments, PgConnectOptions, Postgres};
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor, PgConnection, Row as _};

use super::connection::{Connection, Failure, is_lost};
use super::error::code_of;
use super::statement::{Arg, Row, only_reads, with_args};
use super::url::PostgresServer;

/// The setting that shows whether a connection has a server connection of its own.
const PROOF: &str = "tasklist.connection";

/// How long an idle connection may take to show that it is still there.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// How connections are opened, with one limit for their statements. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgConnectOptions,
    statement_timeout: Duration,
    /// Set once a pooler has been met, by any of the connectors of a database.
    is_pooled: Arc<AtomicBool>,
}

/// One connection.
pub(super) struct PostgresConnection {
    connection: PgConnection,
    /// Whether it has a server connection of its own, so that named statements can be used.
    is_direct: bool,
    connector: Connector,
}

impl Connector {
    pub(super) fn new(server: &PostgresServer, statement_timeout: Duration) -> Self {
        // Poolers refuse startup parameters that they do not know, this one too. No floats are read here.
        let options = server.options.clone().application_name("tasklist").extra_float_digits(None);
        Self { options, statement_timeout, is_pooled: Arc::new(AtomicBool::new(server.has_pooler)) }
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
    fn suspect_pooler(&self) {
        if !self.is_pooled.swap(true, Ordering::SeqCst) {
            tracing::info!(
                "the database is behind a connection pooler: each statement is a transaction of its own"
            );
        }
    }

    async fn connect_plain(&self) -> sqlx::Result<PgConnection> {
        self.options.connect().await
    }

    /// Opens a connection, and returns whether it is direct.
    async fn connect(&self) -> sqlx::Result<(PgConnection, bool)> {
        if self.is_pooled() {
            return Ok((self.connect_plain().await?, false));
        }
        let proof = format!("{:016x}", fastrand::u64(..));
        let timeout = self.statement_timeout.as_millis().to_string();
        let options = self.options.clone().options([("statement_timeout", &timeout), (PROOF, &proof)]);
        let mut connection = match options.connect().await {
            Err(sqlx::Error::Database(error)) if may_refuse_parameters(&error.code().unwrap_or_default()) => {
                let connection = self.connect_plain().await?;
                self.suspect_pooler();
                return Ok((connection, false));
            }
            connected => connected?,
        };
        let is_direct = has_proof(&mut connection, &proof).await?;
        if !is_direct {
            self.suspect_pooler();
        }
        Ok((connection, is_direct))
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

impl Connection for PostgresConnection {
    type Options = Connector;

    fn open(connector: &Connector) -> BoxFuture<'_, sqlx::Result<Self>> {
        Box::pin(async {
            let (connection, is_direct) = connector.connect().await?;
            Ok(Self { connection, is_direct, connector: connector.clone() })
        })
    }

    async fn is_usable(&mut self) -> bool {
        if !self.is_direct {
            // The beginning of a transaction shows whether the pooler is still there.
            return true;
        }
        let ping = tokio::time::timeout(PING_TIMEOUT, self.connection.ping());
        !self.connector.is_pooled() && ping.await.is_ok_and(|ping| ping.is_ok())
    }

    async fn fetch<T: Row>(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<T>, Failure> {
        let query = with_args::<Postgres, T>(sql, args);
        if self.is_direct {
            return query.fetch_all(&mut self.connection).await.map_err(|error| self.failure(error));
        }
        if args.is_empty() && only_reads(sql) {
            return self.read_at_once(sql).await.map_err(|error| self.failure(error));
        }
        let rows = self.run_unnamed(query).await.map_err(|error| {
            // A transaction that was not committed is rolled back, also when the connection is lost.
            let is_lost = is_lost(&error);
            let failure = self.failure(error);
            Failure { can_be_repeated: failure.can_be_repeated || is_lost, ..failure }
        })?;
        self.connection.execute("commit").await.map_err(|error| self.failure(error))?;
        Ok(rows)
    }
}

impl PostgresConnection {
    /// Begins a transaction. Its statements have no limit if `statement_timeout` is zero.
    pub(super) async fn begin(&mut self, statement_timeout: Duration) -> sqlx::Result<()> {
        let sql = format!("begin; set local statement_timeout = {}", statement_timeout.as_millis());
        self.connection.execute(AssertSqlSafe(sql)).await.map(drop)
    }

    /// Returns the connection within a transaction, for unnamed statements.
    pub(super) fn within(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    async fn run_unnamed<T: Row>(
        &mut self,
        query: QueryAs<'_, Postgres, T, PgArguments>,
    ) -> sqlx::Result<Vec<T>> {
        self.begin(self.connector.statement_timeout).await?;
        query.persistent(false).fetch_all(&mut self.connection).await
    }

    /// Runs a statement without arguments that only reads, in one round trip: several statements in one message are one
    /// transaction.
    async fn read_at_once<T: Row>(&mut self, sql: &'static str) -> sqlx::Result<Vec<T>> {
        let limit = self.connector.statement_timeout.as_millis();
        let sql = format!("set local statement_timeout = {limit}; {sql}");
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await?;
        rows.iter().map(T::from_row).collect()
    }

    /// Describes the failure of a statement that may have been committed.
    fn failure(&self, error: sqlx::Error) -> Failure {
        let code = code_of(&error);
        // A prepared statement is missing (26000) or another's (42P05).
        let shows_pooler = ["26000", "42P05"].contains(&code.as_ref());
        // Rolled back for a reason that is gone when it comes again: its prepared statement is stale, since the table
        // has changed (0A000), or it met a concurrent change.
        let can_be_repeated = shows_pooler || ["0A000", "40001", "40P01"].contains(&code.as_ref());
        if shows_pooler {
            self.connector.suspect_pooler();
        }
        Failure { error, can_be_repeated }
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
