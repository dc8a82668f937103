//! A connection on loan from its pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::pool::PoolConnection;

/// Gives its connection back to the pool only if the statement on it has ended well.
///
/// After an error the connection may keep failing: its prepared statements do once a table has changed under them.
/// A pool waits for the end of an abandoned statement before it lends the connection again, and while a server hangs
/// that never comes: one such connection after the other would be lost until none is left. So it is closed instead.
pub(super) struct Lease<DB: sqlx::Database> {
    connection: PoolConnection<DB>,
    ended: bool,
    in_use: Arc<AtomicU32>,
}

impl<DB: sqlx::Database> Lease<DB> {
    /// Counts the connection in `in_use` for as long as the lease lasts.
    pub(super) fn new(connection: PoolConnection<DB>, in_use: &Arc<AtomicU32>) -> Self {
        in_use.fetch_add(1, Ordering::Relaxed);
        Self { connection, ended: false, in_use: Arc::clone(in_use) }
    }

    pub(super) fn connection(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }

    pub(super) fn give_back(mut self) {
        self.ended = true;
    }
}

impl<DB: sqlx::Database> Drop for Lease<DB> {
    fn drop(&mut self) {
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}
