//! memcached through our own client, which see ([`crate::memcached`]).

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Backend, Error, ErrorKind, LARGEST_VALUE, Link, ServerCheck, ServerStats, describe_server, fitting,
};
use crate::cache::{Latency, Ttl};
use crate::memcached::protocol::Status;
use crate::memcached::{self, Client, Expiration, Options, Ring, ServerAddress};

/// The backend over our own client.
///
/// ```
/// use std::convert::Infallible;
/// use tasklist::cache::{Cache, CacheOptions, Key, Ttl, backend::memcached::Memcached};
/// use tasklist::memcached::Options;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // No server answers there: pages are slower, and nothing else.
/// let servers = Options::new(vec!["127.0.0.1:9".parse()?]);
/// let (cache, key) = (Cache::new(Memcached::new(servers), CacheOptions::default()), Key::new("tasks.all")?);
/// cache.set(&key, "old", Ttl::Never).await;
/// assert_eq!(cache.get::<String>(&key).await, None);
/// let build = async || Ok::<_, Infallible>(String::from("from the database"));
/// assert_eq!(cache.get_or_set(&key, Ttl::Never, build).await?, "from the database");
/// assert!(cache.stats()[0].errors > 0);
/// # Ok(())
/// # }
/// ```
pub struct Memcached {
    client: Client,
    servers: Vec<ServerAddress>,
    ring: Ring,
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
        let ring = Ring::new(&servers);
        Self { client: Client::new(options), servers, ring, user }
    }
}

#[async_trait]
impl Backend for Memcached {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.client.get(key).await?.map(|value| value.data))
    }

    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        let values = self.client.get_many(keys).await.into_iter();
        values.map(|value| Ok(value?.map(|value| value.data))).collect()
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<(), Error> {
        match fitting(value, &self.server_of(key)) {
            Ok(value) => Ok(self.client.set(key, value, ttl.into()).await?),
            Err(error) => {
                self.client.delete(key).await?;
                Err(error)
            }
        }
    }

    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>> {
        let (long, fit): (Vec<_>, Vec<_>) = values.iter().partition(|(_, value)| value.len() > LARGEST_VALUE);
        let long: Vec<_> = long.into_iter().map(|(key, _)| key).collect();
        let fit: Vec<_> = fit.into_iter().map(|(key, value)| (key, value.clone())).collect();
        let mut stored = self.client.set_many(&fit, ttl.into()).await.into_iter();
        let mut deleted = self.client.delete_many(&long).await.into_iter();
        let outcome = |(key, value): &(String, Bytes)| match fitting(value.clone(), &self.server_of(key)) {
            Ok(_) => Ok(stored.next().expect("each has a result")?),
            Err(error) => {
                deleted.next().expect("each has a result")?;
                Err(error)
            }
        };
        values.iter().map(outcome).collect()
    }

    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        Ok(self.client.add(key, fitting(value, &self.server_of(key))?, ttl.into()).await?)
    }

    /// On the one connection to a server.
    fn keeps_order(&self, first: &str, second: &str) -> bool {
        self.server_of(first) == self.server_of(second)
    }

    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        Ok(self.client.replace(key, fitting(value, &self.server_of(key))?, ttl.into()).await?)
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        Ok(self.client.delete(key).await?)
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        self.client.delete_many(keys).await.into_iter().map(|deleted| Ok(deleted?)).collect()
    }

    async fn touch(&self, key: &str, ttl: Ttl) -> Result<bool, Error> {
        Ok(self.client.touch(key, ttl.into()).await?)
    }

    async fn incr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        Ok(self.client.incr(key, delta).await?)
    }

    async fn decr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        Ok(self.client.decr(key, delta).await?)
    }

    async fn clear(&self) -> Result<(), Error> {
        Ok(self.client.flush().await?)
    }

    async fn stats(&self) -> Vec<ServerStats> {
        let stats = self.client.stats().await.into_iter().zip(self.client.servers());
        stats
            .map(|((server, stats), ours)| ServerStats {
                server: server.to_string(),
                stats: stats.map_err(Error::from),
                link: Some(ours.into()),
            })
            .collect()
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

    fn server_of(&self, key: &str) -> String {
        self.servers[self.ring.server_of(key.as_bytes())].to_string()
    }

    fn describe(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        format!("memcached at {}", names.join(", "))
    }
}

impl From<memcached::ServerStats> for Link {
    fn from(stats: memcached::ServerStats) -> Self {
        Self {
            is_left_out: stats.left_out,
            outage: stats.outage.as_ref().map(ErrorKind::from),
            operations: stats.operations,
            errors: stats.errors,
            connections: stats.connections,
            latency: Latency { buckets: stats.latency, micros: stats.latency_micros },
        }
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
        Self { server: error.server().unwrap_or("memcached").into(), kind: error.kind().into() }
    }
}

impl From<&memcached::ErrorKind> for ErrorKind {
    fn from(kind: &memcached::ErrorKind) -> Self {
        use memcached::ErrorKind as Kind;
        match kind {
            Kind::Connect(cause) | Kind::Closed(cause) => Self::Unreachable(cause.to_string()),
            Kind::Timeout(limit) => Self::Timeout(*limit),
            Kind::LeftOut => Self::LeftOut,
            Kind::Authentication => Self::Unauthenticated,
            Kind::Protocol(cause) => Self::Protocol(cause.to_string()),
            Kind::TooLarge(bytes) => Self::TooLarge(*bytes),
            Kind::Refused(Status::NOT_A_NUMBER) => Self::NotANumber,
            other => Self::Refused(other.to_string()),
        }
    }
}
