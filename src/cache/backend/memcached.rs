//! memcached through our own client, which see ([`crate::memcached`]).

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{Backend, Error, ErrorKind, LARGEST_VALUE, ServerCheck, describe_server};
use crate::cache::Ttl;
use crate::memcached::{self, Client, Expiration, Options, ServerAddress};

/// The backend over our own client.
pub struct Memcached {
    client: Client,
    servers: Vec<ServerAddress>,
    user: Option<String>,
}

impl Memcached {
    /// Prepares the servers; connects to none yet.
    ///
    /// # Panics
    ///
    /// Without servers, and outside a tokio runtime.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let servers = options.servers.clone();
        let user = options.credentials.as_ref().map(|credentials| credentials.username.clone());
        Self { client: Client::new(options), servers, user }
    }
}

#[async_trait]
impl Backend for Memcached {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.client.get(key).await?.map(|value| value.data))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<(), Error> {
        if value.len() > LARGEST_VALUE {
            self.client.delete(key).await?;
            return Err(Error { server: "memcached".into(), kind: ErrorKind::TooLarge(value.len()) });
        }
        Ok(self.client.set(key, value, ttl.into()).await?)
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        Ok(self.client.delete(key).await?)
    }

    async fn check(&self) -> Vec<ServerCheck> {
        let started = Instant::now();
        let versions = self.client.version().await.into_iter();
        let took = started.elapsed();
        let checks = versions.zip(self.client.servers()).map(|((server, version), stats)| {
            let user = self.user.as_deref().filter(|_| stats.logged_in);
            let outcome = version.map(|version| describe_server(&version, user)).map_err(Error::from);
            ServerCheck { server: server.to_string(), outcome, took }
        });
        checks.collect()
    }

    fn describe(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        format!("memcached at {}", names.join(", "))
    }
}

impl From<Ttl> for Expiration {
    fn from(ttl: Ttl) -> Self {
        match ttl {
            Ttl::Never => Self::Never,
            Ttl::After(lifetime) => Self::After(lifetime),
        }
    }
}

impl From<memcached::Error> for Error {
    fn from(error: memcached::Error) -> Self {
        use memcached::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::Connect(cause) | Kind::Closed(cause) => ErrorKind::Unreachable(cause.to_string()),
            Kind::Timeout(limit) => ErrorKind::Timeout(*limit),
            Kind::LeftOut => ErrorKind::LeftOut,
            Kind::Authentication => ErrorKind::Unauthenticated,
            Kind::Protocol(cause) => ErrorKind::Protocol(cause.to_string()),
            Kind::TooLarge(bytes) => ErrorKind::TooLarge(*bytes),
            other => ErrorKind::Refused(other.to_string()),
        };
        Self { server: error.server().unwrap_or("memcached").into(), kind }
    }
}
