//! The contract of a store of bytes that serves as a cache, and its parts.

pub mod breaker;
pub mod dummy;
#[cfg(feature = "file")]
pub mod file;
pub mod locmem;
#[cfg(feature = "memcached")]
pub mod memcached;
pub mod recovery;
#[cfg(any(feature = "file", feature = "memcached"))]
mod seldom;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;

use super::Latency;

/// A store of bytes by name.
///
/// What holds for every backend:
///
/// - A key is what [`KeyPrefix::apply`](super::KeyPrefix::apply) returns: clean, and at most 250 bytes long.
/// - A miss is `Ok(None)`, a condition that is not met `Ok(false)`. An error means that the store could not be asked,
///   or would not do it.
/// - An empty value is a value.
/// - A value has as many bytes as [`CacheOptions::largest_value`](super::CacheOptions::largest_value) lets it. A store
///   may refuse it all the same.
/// - A lifetime is exact to a second. One that is over ends a value at once.
/// - [`add`](Self::add), [`replace`](Self::replace), [`incr`](Self::incr) and [`decr`](Self::decr) are atomic among all
///   users of the store.
/// - The results of a multi-key operation stand where their keys stood, and it costs the same few round trips however
///   many keys there are. No keys are no round trip. Its keys are distinct.
/// - A write that fails, or that the store refuses, leaves no older value behind for good: the backend deletes the key
///   as soon as it can, and does not read it before it has. An `add` overwrites nothing and so leaves nothing behind; a
///   `clear` that fails, or a count, is the caller's to repeat.
/// - It neither blocks a thread of the runtime nor waits longer than its own, short, operation timeout.
/// - A future that is dropped leaves the store usable; whether its write happened is open.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Returns the value of a key.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        only(self.get_many(&[key.to_owned()]).await)
    }

    /// Returns the values of keys.
    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>>;

    /// Stores a value, whatever was there. A lifetime that is over leaves nothing.
    async fn set(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<(), Error> {
        only(self.set_many(&[(key.to_owned(), value)], ttl).await)
    }

    /// Stores values, whatever was there.
    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>>;

    /// Stores a value where there is none, and returns whether there was none.
    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error>;

    /// Adds a value under one key and, if it was added, reads another key.
    ///
    /// Returns whether the value was added, and the value read. If nothing was added, a store may still have read the
    /// other key. A read that fails counts as a miss. Both take one round trip where the store can.
    async fn add_then_get(
        &self,
        added: &str,
        value: Bytes,
        ttl: Ttl,
        read: &str,
    ) -> Result<(bool, Option<Bytes>), Error> {
        let is_added = self.add(added, value, ttl).await?;
        Ok((is_added, if is_added { self.get(read).await.unwrap_or_default() } else { None }))
    }

    /// Returns whether every value is dropped as soon as it is stored.
    fn keeps_nothing(&self) -> bool {
        false
    }

    /// Stores a value where there is one, and returns whether there was one.
    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error>;

    /// Removes a key, and returns whether it was there.
    async fn delete(&self, key: &str) -> Result<bool, Error> {
        only(self.delete_many(&[key.to_owned()]).await)
    }

    /// Removes keys, and returns for each whether it was there.
    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>>;

    /// Gives a value a new lifetime, and returns whether there is one.
    async fn touch(&self, key: &str, ttl: Ttl) -> Result<bool, Error>;

    /// Adds to a number and returns the sum, or `None` if there is no such key. The lifetime stays.
    ///
    /// A number is an unsigned one of 64 bits in decimal digits, perhaps with blanks behind it, which memcached leaves
    /// where a number became shorter. The sum wraps. Anything else is [`ErrorKind::NotANumber`].
    async fn incr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error>;

    /// Subtracts from a number, down to 0, and returns the rest; otherwise as [`incr`](Self::incr).
    async fn decr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error>;

    /// Removes everything, of all users of the store.
    async fn clear(&self) -> Result<(), Error>;

    /// Returns the statistics of each server, or of the store itself.
    async fn stats(&self) -> Vec<ServerStats>;

    /// Tries every server once, over the connections that operations use. Returns nothing if there are no servers.
    async fn check(&self) -> Vec<ServerCheck>;

    /// Waits for pending deletes, no longer than `limit`, and closes connections. Later operations may fail.
    async fn close(&self, _limit: Duration) {}

    /// Returns the name of the server that has a key, or of the store itself if it has no servers.
    fn server_of(&self, key: &str) -> String;

    /// Returns a short description of the store and its address, without a password.
    fn describe(&self) -> String;
}

/// The lifetime of a cached value. It frees memory; do not rely on it for correctness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Until it is deleted or evicted.
    Never,
    /// For this long. A value with a lifetime of zero expires at once.
    After(Duration),
}

impl Ttl {
    /// Returns whether this lifetime is zero: a value that is stored with it cannot be read.
    #[must_use]
    pub fn is_over(self) -> bool {
        self == Self::After(Duration::ZERO)
    }
}

/// The default of [`CacheOptions::largest_value`](super::CacheOptions::largest_value), in bytes.
pub const LARGEST_VALUE: usize = 1_000_000;

/// The result of trying one server once.
#[derive(Debug)]
pub struct ServerCheck {
    /// `host:port`, or the name of the store.
    pub server: String,
    /// The server's software, version, protocol and user, or the reason why it did not respond.
    pub outcome: Result<String, Error>,
    /// How long the attempt took.
    pub took: Duration,
}

/// The statistics of one server, in its own names.
#[derive(Debug)]
pub struct ServerStats {
    /// `host:port`, or the name of the store.
    pub server: String,
    /// Statistics by the server's own names for them.
    pub stats: Result<BTreeMap<String, String>, Error>,
    /// Client-side statistics, if the backend has them.
    pub link: Option<Link>,
}

/// Client-side statistics of one server, since the start of the process.
#[derive(Clone, Debug)]
pub struct Link {
    /// Whether the server is marked down.
    pub is_down: bool,
    /// The failure for which the server is marked down.
    pub outage: Option<ErrorKind>,
    /// The last failure, of the server or of a single operation, and how long ago it was.
    pub last_error: Option<(ErrorKind, Duration)>,
    /// Operations that were called; each key of a multi-key operation counts.
    pub operations: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Connections made.
    pub connections: u64,
    /// The latency of operations with a response.
    pub latency: Latency,
}

/// The error of a failed operation of a store. [`Cache`](super::Cache) turns it into a miss.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{server}: {kind}")]
pub struct Error {
    /// `host:port`, or the name of the store.
    pub server: String,
    /// The kind of the error.
    pub kind: ErrorKind,
}

/// The kinds of errors of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection could be made, or it broke; the cause.
    Unreachable(String),
    /// There was no response within this time.
    Timeout(Duration),
    /// Too many operations are under way.
    Busy,
    /// The user name or the password is wrong, or missing.
    Unauthenticated,
    /// The response cannot be understood; the cause.
    Protocol(String),
    /// The value has this many bytes, more than the store takes.
    TooLarge(usize),
    /// The value to count with is no number.
    NotANumber,
    /// The server works but did not store the value: it is too large for its settings, or no memory is left.
    Refused(String),
    /// The server does not support this command; its message.
    Unsupported(String),
    /// The server is overloaded, or has an internal error; its message.
    Overloaded(String),
    /// The server is marked down and is retried; the cause, if it is known.
    Down(Option<Box<ErrorKind>>),
    /// The key is not read, since an older value under it could not be deleted; the cause.
    PendingDelete(Box<ErrorKind>),
}

impl ErrorKind {
    /// Returns whether the next operation can be expected to fail as well.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        !matches!(self, Self::TooLarge(_) | Self::NotANumber | Self::Refused(_))
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(cause) => write!(f, "not reachable ({cause})"),
            Self::Timeout(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Busy => f.write_str("too many operations under way"),
            Self::Unauthenticated => f.write_str("authentication failed: user name or password refused"),
            Self::Protocol(cause) => write!(f, "answers as no memcached does ({cause})"),
            Self::TooLarge(bytes) => write!(f, "a value of {bytes} bytes is too large"),
            Self::NotANumber => f.write_str("the value is no number"),
            Self::Refused(cause) => write!(f, "did not store the value ({cause})"),
            Self::Unsupported(cause) => write!(f, "does not carry out this command ({cause})"),
            Self::Overloaded(cause) => write!(f, "cannot do it now ({cause})"),
            Self::Down(None) => f.write_str("left out after a failure, and tried again by itself"),
            Self::Down(Some(cause)) => write!(f, "{cause}; {}", Self::Down(None)),
            Self::PendingDelete(cause) => write!(f, "an older value could not be deleted yet ({cause})"),
        }
    }
}

/// The limit on an operation of a backend without such an option: 750 ms, waiting for its turn included.
pub const OPERATION_TIMEOUT: Duration = Duration::from_millis(750);

/// The number of pending deletes that a backend remembers by default. Beyond it an old value may live until it expires.
pub const MAX_PENDING_DELETES: usize = 10_000;

fn only<T>(mut results: Vec<Result<T, Error>>) -> Result<T, Error> {
    let none = || Error { server: "the backend".into(), kind: ErrorKind::Protocol("no result".into()) };
    results.pop().unwrap_or_else(|| Err(none()))
}

/// Reads a number as memcached does: digits, perhaps with blanks behind them.
pub fn parse_number(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii_end();
    let is_number = digits.first().is_some_and(u8::is_ascii_digit);
    if is_number { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// Describes a memcached server that answers. Its version is shown on a terminal, and must not control it.
pub fn describe_server(version: &str, user: Option<&str>) -> String {
    let login = user.map_or_else(|| "no login".into(), |user| format!("logged in as {user}"));
    format!("memcached {}, binary protocol, {login}", version.replace(char::is_control, "?"))
}

/// Returns how much a store holds, in memcached's words.
pub fn size_stats(items: impl fmt::Display, bytes: impl fmt::Display) -> BTreeMap<String, String> {
    [("curr_items".into(), items.to_string()), ("bytes".into(), bytes.to_string())].into()
}

/// Returns when a lifetime that begins now is over, in milliseconds since 1970; `None` if never.
#[must_use]
pub fn end_of(ttl: Ttl) -> Option<u64> {
    match ttl {
        Ttl::Never => None,
        Ttl::After(lifetime) => {
            let lifetime = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
            Some(unix_millis().saturating_add(lifetime))
        }
    }
}

/// Returns the time in milliseconds since 1970: the one clock that processes share.
#[must_use]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_and_perhaps_blanks_behind_them() {
        for (text, number) in [("0", 0), ("007", 7), ("12  ", 12), ("18446744073709551615", u64::MAX)] {
            assert_eq!(parse_number(text.as_bytes()), Some(number), "{text:?}");
        }
        for text in ["", " ", " 1", "+1", "-1", "1 2", "1.5", "x", "18446744073709551616"] {
            assert_eq!(parse_number(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        let description = describe_server("1.6\u{1b}[2J\nok      another", None);
        assert_eq!(description, "memcached 1.6?[2J?ok      another, binary protocol, no login");
    }
}
