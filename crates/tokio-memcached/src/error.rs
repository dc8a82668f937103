//! What can go wrong, without saying too much about how the client is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::protocol::Status;

/// The failure of an operation, which may have happened all the same. Cheap to clone; holds no credential.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    server: Option<Arc<str>>,
    was_written: bool,
    outage: Option<Arc<ErrorKind>>,
}

/// The kinds of errors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key is empty, longer than 250 bytes, or holds a blank or control character. Nothing was sent.
    InvalidKey,
    /// The value is longer than any server takes. Nothing was sent.
    TooLarge(usize),
    /// A client was to be made for no servers at all.
    NoServers,
    /// No connection could be made.
    Connect(Arc<str>),
    /// The connection broke before the answer.
    Closed(Arc<str>),
    /// There was no answer in time.
    Timeout(Duration),
    /// The server failed a moment ago and is not asked for a while; [`Error::outage`] says which failure that was.
    Down,
    /// User name or password are wrong or missing, or this user may not use this command.
    Authentication,
    /// What answers is no memcached, or out of step.
    Protocol(Arc<str>),
    /// The server refused the command: too large for it, out of memory, busy, not a number, unknown.
    Refused(Status),
}

/// Why a request has no response, and how far it went.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) was_written: bool,
}

impl Failure {
    /// A failure before a byte of the request was written.
    pub(super) fn unwritten(kind: ErrorKind) -> Self {
        Self { kind, was_written: false }
    }

    /// A failure after some of the request, or all of it, was written.
    pub(super) fn written(kind: ErrorKind) -> Self {
        Self { kind, was_written: true }
    }
}

impl Error {
    pub(super) fn new(failure: Failure, server: &Arc<str>, outage: Option<ErrorKind>) -> Self {
        let Failure { kind, was_written } = failure;
        let outage = outage.filter(|_| kind == ErrorKind::Down).map(Arc::new);
        Self { kind, server: Some(Arc::clone(server)), was_written, outage }
    }

    pub(super) fn local(kind: ErrorKind) -> Self {
        Self { kind, server: None, was_written: false, outage: None }
    }

    /// Returns what happened.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Returns the server it happened to, as `host:port`; none if none was asked.
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
    pub fn outage(&self) -> Option<&ErrorKind> {
        self.outage.as_deref()
    }

    /// Returns whether the same operation can be expected to work later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use ErrorKind::{Closed, Connect, Down, Protocol, Refused, Timeout};
        match self.kind {
            Connect(_) | Closed(_) | Timeout(_) | Down | Protocol(_) => true,
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
        self.kind.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.outage().map(|outage| outage as &(dyn std::error::Error + 'static))
    }
}

impl std::error::Error for ErrorKind {}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidKey => {
                f.write_str("key is empty, longer than 250 bytes, or holds a blank or control character")
            }
            Self::TooLarge(bytes) => write!(f, "value of {bytes} bytes is longer than any server takes"),
            Self::NoServers => f.write_str("no servers"),
            Self::Connect(cause) => write!(f, "no connection ({cause})"),
            Self::Closed(cause) => write!(f, "connection broke ({cause})"),
            Self::Timeout(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Down => f.write_str("left out after a failure"),
            Self::Authentication => f.write_str("authentication failed: user name or password refused"),
            Self::Protocol(cause) => write!(f, "answers as no memcached does ({cause})"),
            Self::Refused(status) => status.fmt(f),
        }
    }
}
