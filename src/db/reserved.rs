//! A connection reserved for small statements, such as version checks, that must not wait behind large ones.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::connection::{Connection, is_full};
use super::statement::Row;

/// How long a statement may take, connecting included. Waiting for the one under way and then for the next still ends
/// within five seconds.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// How long SQLite and Postgres work on a statement; below [`TIMEOUT`], so that they are the ones to say so, and what
/// was given up ends on the server too.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_millis(900);

/// How long the open connection is given of [`TIMEOUT`]: a cut connection only shows by its silence.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// Between attempts to connect to a server that has no connection left: one that was closed may still count.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(300)];

/// One connection, opened when it is first used.
pub(super) struct Reserved<C: Connection> {
    options: C::Options,
    /// Taken out for a statement, and put back only after one that has ended well.
    connection: Mutex<Option<C>>,
}

impl<C: Connection> Reserved<C> {
    pub(super) fn new(options: C::Options) -> Self {
        Self { options, connection: Mutex::new(None) }
    }

    /// Runs a statement on the open connection, or else on a new one: an error or silence on the one says nothing about
    /// the other. It is sent no earlier than this is called.
    pub(super) async fn fetch<T: Row>(&self, sql: &'static str) -> sqlx::Result<Vec<T>> {
        let mut open = self.connection.lock().await;
        if let Some(mut connection) = open.take() {
            match timeout(OPEN_TIMEOUT, connection.fetch(sql, &[])).await {
                Ok(Ok(rows)) => {
                    *open = Some(connection);
                    return Ok(rows);
                }
                Ok(Err(failure)) => tracing::debug!("tried again on a new connection: {}", failure.error),
                Err(_) => tracing::debug!("tried again on a new connection: no response"),
            }
        }
        let mut connection = self.open().await?;
        let rows = connection.fetch(sql, &[]).await.map_err(|failure| failure.error)?;
        *open = Some(connection);
        Ok(rows)
    }

    async fn open(&self) -> sqlx::Result<C> {
        for pause in PAUSES {
            match C::open(&self.options).await {
                Err(error) if is_full(&error) => sleep(pause).await,
                opened => return opened,
            }
        }
        C::open(&self.options).await
    }
}
