//! A connection as the pool sees it, and the errors that concern one.

use futures_util::future::BoxFuture;

use super::error::{code_of, is_transport};
use super::statement::{Arg, Row};

/// A connection to one of the databases.
pub(super) trait Connection: Sized + Send + 'static {
    type Options: Send + Sync + 'static;

    /// Opens a connection. Boxed, or the future of every statement would be as large as that of connecting.
    fn open(options: &Self::Options) -> BoxFuture<'_, sqlx::Result<Self>>;

    /// Returns whether an idle connection can be used again.
    fn is_usable(&mut self) -> impl Future<Output = bool> + Send;

    /// Runs a statement in a transaction of its own. After a failure the connection must be closed.
    fn fetch<T: Row>(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> impl Future<Output = Result<Vec<T>, Failure>> + Send;
}

/// A statement that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: sqlx::Error,
    /// Whether it is certain that the statement was not executed, and it can work on another connection.
    pub(super) can_be_repeated: bool,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self { error, can_be_repeated: false }
    }
}

/// Returns whether there is no connection any more, or none to the server behind the pooler.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    let code = code_of(error);
    is_transport(error) || code.starts_with("08") || code.starts_with("57P0")
}

/// Returns whether the server, or a pooler, has no connection left for this user.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    // PgBouncer has one code for all that it refuses.
    let is_refused = code_of(error) == "08P01" && error.to_string().contains("connections");
    is_refused || code_of(error) == "53300"
}

/// Returns whether a server, or a pooler in front of it, is expected to take connections soon.
pub(super) fn is_starting(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    match error {
        sqlx::Error::Io(error) => {
            [BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof].contains(&error.kind())
        }
        error => code_of(error) == "57P03",
    }
}
