//! What a store of bytes must do to serve as a cache.

pub mod locmem;
pub mod memcache_crate;
pub mod memcached;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Ttl;

/// A store of bytes by name.
///
/// What holds for every backend:
///
/// - A key is what [`KeyPrefix::apply`](super::KeyPrefix::apply) returns: clean, and at most 250 bytes long.
/// - A miss is `Ok(None)`. An error means that the store could not be asked.
/// - An empty value is a value.
/// - A write that fails leaves no older value behind for good: the backend deletes the key as soon as it can, and
///   answers no `get` from that server before it has.
/// - It neither blocks a thread of the runtime nor waits longer than its own, short, operation timeout.
/// - A future that is dropped leaves the store usable; whether its write happened is open.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Returns the value of a key.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error>;

    /// Stores a value, whatever was there. A lifetime that is over leaves nothing.
    async fn set(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<(), Error>;

    /// Removes a key, and returns whether it was there.
    async fn delete(&self, key: &str) -> Result<bool, Error>;

    /// Tries every server once, through the same connections that are used otherwise. Without servers, nothing.
    async fn check(&self) -> Vec<ServerCheck>;

    /// Says in a few words what and where the store is; never a password.
    fn describe(&self) -> String;
}

/// A value this long still fits into a memcached item of its default 1 MiB, with key and header.
const LARGEST_VALUE: usize = 1_000_000;

/// What one try of one server found.
#[derive(Debug)]
pub struct ServerCheck {
    /// `host:port`.
    pub server: String,
    /// What answered (software, version, protocol, user), or why nothing did.
    pub outcome: Result<String, Error>,
    /// How long it took.
    pub took: Duration,
}

fn describe_server(version: &str, user: Option<&str>) -> String {
    let login = user.map_or_else(|| "no login".into(), |user| format!("logged in as {user}"));
    format!("memcached {version}, binary protocol, {login}")
}

/// Why a store could not be asked. Never an error for a visitor: [`Cache`](super::Cache) makes a miss of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{server}: {kind}")]
pub struct Error {
    /// `host:port`.
    pub server: String,
    /// What happened.
    pub kind: ErrorKind,
}

/// What happened to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection, or one that broke.
    Unreachable(String),
    /// Accepted, and not answered in time.
    Timeout(Duration),
    /// Too many operations under way.
    Busy,
    /// Left out for a while, since it failed a moment ago.
    LeftOut,
    /// The user name or the password is wrong, or missing.
    Unauthenticated,
    /// An answer that makes no sense.
    Protocol(String),
    /// More bytes than the store takes.
    TooLarge(usize),
    /// The server is well and did not store the value: too large for its settings, or no memory left.
    Refused(String),
}

impl ErrorKind {
    /// Returns whether the next operation can be expected to fail as well.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        !matches!(self, Self::TooLarge(_) | Self::Refused(_))
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(cause) => write!(f, "not reachable ({cause})"),
            Self::Timeout(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Busy => f.write_str("too many operations under way"),
            Self::LeftOut => f.write_str("left out after a failure, and tried again by itself"),
            Self::Unauthenticated => f.write_str("user name or password refused"),
            Self::Protocol(cause) => write!(f, "answers as no memcached does ({cause})"),
            Self::TooLarge(bytes) => write!(f, "a value of {bytes} bytes is too large"),
            Self::Refused(cause) => write!(f, "did not store the value ({cause})"),
        }
    }
}
