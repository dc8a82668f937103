//! The options of a client: servers, credentials and limits.

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Semaphore;
#[cfg(feature = "tls")]
use tokio_rustls::rustls;

use super::error::{Error, ErrorKind};

/// memcached's own port, where a server is named without one.
pub(super) const DEFAULT_PORT: u16 = 11211;

/// The servers, credentials and limits of a client. Its `Debug` shows no password.
///
/// ```
/// use std::time::Duration;
/// use tokio_memcached::Options;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = Options::new(["mc1:11211".parse()?, "mc2:11211".parse()?])?
///     .connect_timeout(Duration::from_secs(1))
///     .operation_timeout(Duration::from_millis(200));
/// assert_eq!(options.servers().len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) servers: Vec<ServerAddress>,
    pub(super) credentials: Option<Credentials>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) connect_timeout: Duration,
    pub(super) operation_timeout: Duration,
    pub(super) retry_interval: Duration,
    pub(super) probe_after: Duration,
    pub(super) keep_alive_interval: Duration,
    pub(super) queue_length: usize,
    pub(super) batch_bytes: usize,
    pub(super) max_value_bytes: usize,
    pub(super) max_response_bytes: usize,
}

/// Longer than anything is waited for; sums with it do not overflow.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// An interval of zero must not keep the processor busy.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// The largest value that a memcached can be told to take (`-I`).
const LARGEST_VALUE: usize = 1024 * 1024 * 1024;

impl Options {
    /// Returns the options for these servers, without credentials and TLS.
    ///
    /// Keys are spread over the servers, so all clients should name them alike.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoServers`] if there are none.
    pub fn new(servers: impl IntoIterator<Item = ServerAddress>) -> Result<Self, Error> {
        let servers: Vec<_> = servers.into_iter().collect();
        if servers.is_empty() {
            return Err(Error::new(ErrorKind::NoServers));
        }
        Ok(Self {
            servers,
            credentials: None,
            #[cfg(feature = "tls")]
            tls: None,
            connect_timeout: Duration::from_secs(2),
            operation_timeout: Duration::from_millis(750),
            retry_interval: Duration::from_secs(2),
            probe_after: Duration::from_secs(1),
            keep_alive_interval: Duration::from_secs(30),
            queue_length: 4096,
            batch_bytes: 1024 * 1024,
            max_value_bytes: 32 * 1024 * 1024,
            max_response_bytes: 128 * 1024 * 1024,
        })
    }

    /// Sets the credentials for all servers. Without them the client does not authenticate.
    #[must_use]
    pub fn credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// Encrypts all connections by TLS, with this configuration. Without it they are not encrypted.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(self, config: Arc<rustls::ClientConfig>) -> Self {
        Self { tls: Some(config), ..self }
    }

    /// Limits the time to connect, with name look-up, TLS and authentication. 2 s by default.
    #[must_use]
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout: connect_timeout.min(LONGEST), ..self }
    }

    /// Limits the time from writing a request to its response. 750 ms by default.
    ///
    /// It is also how long the system may take no further bytes of a request. Before that, a request waits to be
    /// written for at most twice as long. A call ends within four times this.
    #[must_use]
    pub fn operation_timeout(self, operation_timeout: Duration) -> Self {
        Self { operation_timeout: operation_timeout.min(LONGEST), ..self }
    }

    /// Sets how long a server stays marked down before it is retried. 2 s by default.
    #[must_use]
    pub fn retry_interval(self, retry_interval: Duration) -> Self {
        Self { retry_interval: retry_interval.clamp(SHORTEST_INTERVAL, LONGEST), ..self }
    }

    /// Sets the silence after which a connection is probed before the next request is written. 1 s by default.
    ///
    /// A router on the way may have forgotten the connection, and what is sent there gets lost. If no response to the
    /// probe arrives within half of the operation timeout, a new connection is made.
    #[must_use]
    pub fn probe_after(self, silence: Duration) -> Self {
        Self { probe_after: silence.clamp(SHORTEST_INTERVAL, LONGEST), ..self }
    }

    /// Sets the silence after which a connection is probed even without a request. 30 s by default.
    #[must_use]
    pub fn keep_alive_interval(self, interval: Duration) -> Self {
        Self { keep_alive_interval: interval.clamp(SHORTEST_INTERVAL, LONGEST), ..self }
    }

    /// Limits how many operations wait for a server, and how many its connection has taken: each to 4,096 by default.
    ///
    /// A caller that finds the queue full waits for room, for the operation timeout at most.
    #[must_use]
    pub fn queue_length(self, operations: usize) -> Self {
        Self { queue_length: operations.clamp(1, Semaphore::MAX_PERMITS), ..self }
    }

    /// Sets the bytes of requests at which a batch is full. 1 MiB by default.
    ///
    /// No operation is added to a batch that is full. A multi-key operation with more bytes of values than this is
    /// split into several.
    #[must_use]
    pub fn batch_bytes(self, bytes: usize) -> Self {
        Self { batch_bytes: bytes.max(1), ..self }
    }

    /// Limits the bytes of a value that is sent, up to 1 GiB. 32 MiB by default.
    ///
    /// Servers take 1 MiB, with key and header, unless they are told otherwise.
    #[must_use]
    pub fn max_value_bytes(self, bytes: usize) -> Self {
        Self { max_value_bytes: bytes.min(LARGEST_VALUE), ..self }
    }

    /// Limits the bytes of all responses to one operation together. 128 MiB by default.
    ///
    /// A server that sends more is not believed, and its connection is closed. A multi-key operation is several, of
    /// 1,000 keys each.
    #[must_use]
    pub fn max_response_bytes(self, bytes: usize) -> Self {
        Self { max_response_bytes: bytes, ..self }
    }

    /// Returns the servers; there is at least one.
    #[must_use]
    pub fn servers(&self) -> &[ServerAddress] {
        &self.servers
    }

    /// Returns the credentials.
    #[must_use]
    pub fn get_credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Returns the limit on connecting.
    #[must_use]
    pub fn get_connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Returns the limit on a response.
    #[must_use]
    pub fn get_operation_timeout(&self) -> Duration {
        self.operation_timeout
    }

    /// Returns how long a server stays marked down before it is retried.
    #[must_use]
    pub fn get_retry_interval(&self) -> Duration {
        self.retry_interval
    }

    /// Returns how long an operation may wait to be written.
    pub(super) fn max_wait(&self) -> Duration {
        self.operation_timeout * 2
    }

    /// Returns how long a call takes at most: it waits for room, waits to be written, is written, and is responded to.
    pub(super) fn max_call(&self) -> Duration {
        self.operation_timeout * 4
    }
}

/// A user name and a password, for SASL PLAIN.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

/// A host name or IP address and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// The host name or IP address; an IPv6 address is without brackets.
    pub host: String,
    /// The port; 11211 if none was given.
    pub port: u16,
}

/// A text that is no `host`, `host:port`, `[ipv6]:port` or `ipv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host name or address with an optional port")]
pub struct InvalidAddress;

impl FromStr for ServerAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        Self::parse(text).ok_or(InvalidAddress)
    }
}

impl ServerAddress {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, "")) => (address, None),
            Some((address, rest)) => (address, Some(rest.strip_prefix(':')?)),
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        // A colon without a port behind it means the default one (RFC 3986, section 3.2.3).
        let port = port.filter(|port| !port.is_empty());
        let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok())?;
        let valid = host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_ok()
            || !host.is_empty()
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        valid.then(|| Self { host: host.into(), port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}
