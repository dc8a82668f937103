//! memcached through the `memcache` crate: the binary protocol with SASL, blocking, several servers.
//!
//! The crate is used with care. Its calls run on the runtime's blocking threads. A connection on which anything went
//! wrong is thrown away together with its pool, because after a timeout the crate would hand the late answer to the
//! next key. Its own connecting has no time limit, so a server is first tried with one that has.
//!
//! What no care makes good: the crate believes a server that announces 4 GiB, and has no limit for connecting itself.
//!
//! A key always belongs to the same server, also while that server is away: a key that moved to a neighbour and back
//! would find its old value again.

mod breaker;
mod connector;
mod options;
mod server;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use self::connector::Connector;
use self::server::Server;
use super::{Backend, Error, ErrorKind, ServerCheck};
use crate::cache::Ttl;

pub use self::connector::UnsupportedCredentials;
pub use self::options::{Credentials, InvalidAddress, Options, ServerAddress};

/// A value this long still fits into a memcached item of its default 1 MiB, with key and header.
const LARGEST_VALUE: usize = 1_000_000;

/// Above this many seconds memcached reads an expiration as a point in time (memcached `doc/protocol.txt`,
/// "Expiration times").
const LONGEST_RELATIVE_EXPIRATION: u64 = 60 * 60 * 24 * 30;

/// The backend over the `memcache` crate.
pub struct MemcacheCrate {
    servers: Vec<Arc<Server>>,
    user: Option<String>,
}

impl MemcacheCrate {
    /// Prepares the servers; connects to none yet.
    ///
    /// # Errors
    ///
    /// [`UnsupportedCredentials`], which the crate could not send as they are.
    pub fn new(options: &Options) -> Result<Self, UnsupportedCredentials> {
        let connect = |address| Connector::new(address, options.credentials.as_ref()).map(Server::new);
        let servers = options.servers.iter().map(connect).collect::<Result<_, _>>()?;
        Ok(Self {
            servers,
            user: options.credentials.as_ref().map(|credentials| credentials.username.clone()),
        })
    }

    fn server_of(&self, key: &str) -> &Arc<Server> {
        &self.servers[crc32fast::hash(key.as_bytes()) as usize % self.servers.len()]
    }

    async fn check_one(&self, server: &Arc<Server>) -> ServerCheck {
        let started = Instant::now();
        let version = server.read(server::greet).await;
        let user = self.user.as_ref().filter(|_| server.is_authenticated());
        let login = user.map_or_else(|| "no login".into(), |user| format!("logged in as {user}"));
        let outcome = version.map(|version| format!("memcached {version}, binary protocol, {login}"));
        ServerCheck { server: server.name().into(), outcome, took: started.elapsed() }
    }
}

#[async_trait]
impl Backend for MemcacheCrate {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let name = key.to_owned();
        let value = self.server_of(key).read(move |client| client.get::<Vec<u8>>(&name)).await?;
        Ok(value.map(Bytes::from))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<(), Error> {
        let Some(expiration) = expiration(ttl) else {
            return self.delete(key).await.map(drop);
        };
        let (server, name, length) = (self.server_of(key), key.to_owned(), value.len());
        let stored = match length {
            0..=LARGEST_VALUE => {
                server.write(key, move |client| client.set(&name, &value[..], expiration)).await
            }
            _ => Err(server.error(ErrorKind::TooLarge(length))),
        };
        if stored.as_ref().is_err_and(|error| !error.kind.is_outage()) {
            self.delete(key).await?;
        }
        stored
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        let name = key.to_owned();
        self.server_of(key).write(key, move |client| client.delete(&name)).await
    }

    async fn check(&self) -> Vec<ServerCheck> {
        join_all(self.servers.iter().map(|server| self.check_one(server))).await
    }

    fn describe(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(|server| server.name()).collect();
        format!("memcached at {} (memcache crate)", names.join(", "))
    }
}

/// Returns the lifetime as memcached reads it, whole seconds rounded up, or `None` for one that is over.
fn expiration(ttl: Ttl) -> Option<u32> {
    let Ttl::After(lifetime) = ttl else { return Some(0) };
    if lifetime == Duration::ZERO {
        return None;
    }
    let seconds = lifetime.as_secs().saturating_add((lifetime.subsec_nanos() > 0).into());
    let absolute = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let expiration =
        if seconds > LONGEST_RELATIVE_EXPIRATION { seconds.saturating_add(absolute()) } else { seconds };
    Some(u32::try_from(expiration).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_rounded_up_to_seconds_and_absolute_beyond_30_days() {
        let after = |millis| expiration(Ttl::After(Duration::from_millis(millis)));
        assert_eq!(expiration(Ttl::Never), Some(0));
        assert_eq!(after(0), None);
        assert_eq!(after(1), Some(1));
        assert_eq!(after(1_001), Some(2));
        assert_eq!(after(30 * 86_400_000), Some(2_592_000));
        assert!(after(31 * 86_400_000) > Some(1_700_000_000));
        assert_eq!(expiration(Ttl::After(Duration::MAX)), Some(u32::MAX));
    }
}
