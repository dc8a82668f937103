//! The error of an operation: its kind, its server and its cause.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::protocol::{Malformed, Status};

/// The error of a failed operation. It is cheap to clone and holds no credentials.
///
/// The server may have executed a failed operation all the same: see [`was_written`](Self::was_written). `{error}`
/// shows the failure alone, `{error:#}` adds its causes.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    server: Option<Arc<str>>,
    was_written: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key is empty, longer than 250 bytes, or holds a blank or control character. Nothing was sent.
    #[error("key is empty, longer than 250 bytes, or holds a blank or control character")]
    InvalidKey,
    /// The value has this many bytes, more than [`Options::max_value_bytes`](crate::Options::max_value_bytes). Nothing
    /// was sent.
    #[error("value of {0} bytes is too large")]
    TooLarge(usize),
    /// The options name no server.
    #[error("no servers")]
    NoServers,
    /// The command was called outside a tokio runtime. Nothing was sent.
    #[error("no tokio runtime")]
    NoRuntime,
    /// The client was closed, or the runtime that its connections run in has ended.
    #[error("client is closed")]
    Closed,
    /// No connection could be made.
    #[error("no connection")]
    Connect,
    /// The connection broke before the response.
    #[error("connection broke")]
    Disconnected,
    /// There was no response in time.
    #[error("no response within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The server is marked down after a failure, and nothing was sent; [`Error::outage`] is that failure.
    #[error("marked down after a failure")]
    Down,
    /// User name or password are wrong or missing, or this user may not use this command.
    #[error("authentication failed: user name or password refused")]
    Authentication,
    /// The response is none of memcached's, or none to this request.
    #[error("not a response of memcached")]
    Protocol,
    /// The server refused the command: too large for it, out of memory, busy, not a number, unknown.
    #[error("{0}")]
    Refused(Status),
}

impl Error {
    /// An error of this process, before anything was written.
    pub(super) fn new(kind: ErrorKind) -> Self {
        Self { kind, server: None, was_written: false, source: None }
    }

    pub(super) fn caused(kind: ErrorKind, source: impl StdError + Send + Sync + 'static) -> Self {
        Self { source: Some(Arc::new(source)), ..Self::new(kind) }
    }

    pub(super) fn disconnected(source: io::Error) -> Self {
        Self::caused(ErrorKind::Disconnected, source)
    }

    pub(super) fn closed_by_server() -> Self {
        Self::disconnected(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server"))
    }

    pub(super) fn protocol(source: Malformed) -> Self {
        Self::caused(ErrorKind::Protocol, source)
    }

    /// The server has answered with the status of a failure.
    pub(super) fn refused(status: Status) -> Self {
        Self::new(match status {
            Status::UNAUTHENTICATED => ErrorKind::Authentication,
            other => ErrorKind::Refused(other),
        })
    }

    pub(super) fn written(self, was_written: bool) -> Self {
        Self { was_written, ..self }
    }

    pub(super) fn at(self, server: &Arc<str>) -> Self {
        Self { server: Some(Arc::clone(server)), ..self }
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the server, as `host:port`; none if the request was for no server yet.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Returns whether a part of the request was written to the socket.
    ///
    /// If so, the server may have executed the command, or may still do it, unless the kind is
    /// [`Refused`](ErrorKind::Refused). If not, the command was certainly not executed.
    #[must_use]
    pub fn was_written(&self) -> bool {
        self.was_written
    }

    /// Returns the failure for which the server is marked down, where the kind is [`Down`](ErrorKind::Down).
    #[must_use]
    pub fn outage(&self) -> Option<&Self> {
        self.source.as_deref()?.downcast_ref()
    }

    /// Returns whether the same operation can be expected to work later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use ErrorKind::{Connect, Disconnected, Down, Protocol, Refused, Timeout};
        match self.kind {
            Connect | Disconnected | Timeout(_) | Down | Protocol => true,
            Refused(status) => status.is_transient(),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            write!(f, "{server}: ")?;
        }
        self.kind.fmt(f)?;
        match &self.source {
            Some(source) if f.alternate() => write!(f, ": {source:#}"),
            _ => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
