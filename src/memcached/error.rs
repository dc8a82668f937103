//! What can go wrong, without saying too much about how the client is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::protocol::Status;

/// Why an operation did not happen, or may not have. Cheap to clone; holds no credential.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    server: Option<Arc<str>>,
}

/// The kinds of errors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key is empty, longer than 250 bytes, or holds a blank or control character. Nothing was sent.
    InvalidKey,
    /// The value is longer than any server takes. Nothing was sent.
    TooLarge(usize),
    /// No connection could be made.
    Connect(Arc<str>),
    /// The connection broke before the answer.
    Closed(Arc<str>),
    /// There was no answer in time.
    Timeout(Duration),
    /// The server failed a moment ago and is not asked for a while.
    LeftOut,
    /// User name or password are wrong or missing.
    Authentication,
    /// What answers is no memcached, or out of step.
    Protocol(Arc<str>),
    /// The server is well and refused the command: too large for it, out of memory, no number.
    Refused(Status),
}

impl Error {
    pub(super) fn new(kind: ErrorKind, server: &Arc<str>) -> Self {
        Self { kind, server: Some(Arc::clone(server)) }
    }

    pub(super) fn local(kind: ErrorKind) -> Self {
        Self { kind, server: None }
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

    /// Returns whether the same operation can be expected to work later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use ErrorKind::{Closed, Connect, LeftOut, Protocol, Timeout};
        matches!(self.kind, Connect(_) | Closed(_) | Timeout(_) | LeftOut | Protocol(_))
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

impl std::error::Error for Error {}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidKey => {
                f.write_str("key is empty, longer than 250 bytes, or holds a blank or control character")
            }
            Self::TooLarge(bytes) => write!(f, "value of {bytes} bytes is longer than any server takes"),
            Self::Connect(cause) => write!(f, "no connection ({cause})"),
            Self::Closed(cause) => write!(f, "connection broke ({cause})"),
            Self::Timeout(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::LeftOut => f.write_str("left out after a failure"),
            Self::Authentication => f.write_str("user name or password refused"),
            Self::Protocol(cause) => write!(f, "answers as no memcached does ({cause})"),
            Self::Refused(status) => status.fmt(f),
        }
    }
}
