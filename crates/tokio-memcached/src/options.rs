//! Which servers, and how to log in to them.

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
#[cfg(feature = "tls")]
use tokio_rustls::rustls;

/// memcached's own port, where a server is named without one.
pub(super) const DEFAULT_PORT: u16 = 11211;

/// The servers, credentials and time limits of a client. Its `Debug` shows no password.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Keys are spread over them, so all clients should name them alike. Without any, every operation fails.
    pub servers: Vec<ServerAddress>,
    /// The same for all servers; none for servers that ask for none.
    pub credentials: Option<Credentials>,
    /// For servers that offer TLS: whom to trust.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The limit on connecting, with name look-up, TLS and authentication. 2 s by default.
    pub connect_timeout: Duration,
    /// How long a response may take, from when its request was written; also how long the system may take no further
    /// bytes of a request. Waiting to be written comes before it: a call ends within four times this. 750 ms by
    /// default.
    pub operation_timeout: Duration,
    /// How long a server stays marked down before it is retried. 2 s by default.
    pub retry_interval: Duration,
}

impl Options {
    /// Returns the options for these servers, with default limits and without credentials and TLS.
    #[must_use]
    pub fn new(servers: Vec<ServerAddress>) -> Self {
        Self {
            servers,
            credentials: None,
            #[cfg(feature = "tls")]
            tls: None,
            connect_timeout: Duration::from_secs(2),
            operation_timeout: Duration::from_millis(750),
            retry_interval: Duration::from_secs(2),
        }
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
    /// Without brackets.
    pub host: String,
    /// 11211 where none was given.
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
