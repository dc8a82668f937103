//! Which servers, and how to log in to them.

use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;

/// memcached's own port, where a server is named without one.
const DEFAULT_PORT: u16 = 11211;

/// memcached servers and how to log in to them. Its `Debug` shows no password.
#[derive(Clone, Debug)]
pub struct Options {
    /// At least one.
    pub servers: Vec<ServerAddress>,
    /// The same for all servers; none for servers that ask for none.
    pub credentials: Option<Credentials>,
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
