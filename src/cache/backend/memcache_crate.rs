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
mod server;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use self::connector::Connector;
use self::server::Server;
use super::{Backend, Error, ErrorKind, LARGEST_VALUE, ServerCheck, describe_server};
use crate::cache::Ttl;
use crate::memcached::{Expiration, Options, Ring};

pub use self::connector::UnsupportedCredentials;

/// The backend over the `memcache` crate.
pub struct MemcacheCrate {
    servers: Vec<Arc<Server>>,
    ring: Ring,
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
            ring: Ring::new(&options.servers),
            user: options.credentials.as_ref().map(|credentials| credentials.username.clone()),
        })
    }

    fn server_of(&self, key: &str) -> &Arc<Server> {
        &self.servers[self.ring.server_of(key.as_bytes())]
    }

    async fn check_one(&self, server: &Arc<Server>) -> ServerCheck {
        let started = Instant::now();
        let version = server.read(server::greet).await;
        let user = self.user.as_deref().filter(|_| server.is_authenticated());
        let outcome = version.map(|version| describe_server(&version, user));
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
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expiration = Expiration::from(ttl).to_wire(now);
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
