//! A cache on memcached servers, through the client [`tokio_memcached`].
//!
//! The client reports a write that may not have happened. What is done about it is decided here, in
//! `crates/neverstale/src/backend/memcached/shared.rs`.

mod shared;
mod write;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join;
use tokio::time::{Instant, timeout};

use self::shared::Shared;
use self::write::Write;
use super::breaker::PendingDelete;
use super::{Backend, Error, ErrorKind, Link, ServerCheck, ServerStats, describe_server};
use crate::{Latency, Ttl};
use tokio_memcached::{Client, Expiration, Options, Status};

/// The backend over memcached servers.
///
/// ```
/// use std::convert::Infallible;
/// use neverstale::{Cache, CacheOptions, Key, Ttl, backend::memcached::Memcached};
/// use tokio_memcached::Options;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // No server answers there: pages are slower, and nothing else.
/// let servers = Options::new(["127.0.0.1:9".parse()?])?;
/// let cache = Cache::new(Memcached::new(servers), CacheOptions::default());
/// let key = Key::new("tasks.all")?;
/// cache.set(&key, "old", Ttl::Never).await;
/// assert_eq!(cache.get::<String>(&key).await, None);
/// let build = async || Ok::<_, Infallible>(String::from("from the database"));
/// assert_eq!(cache.get_or_set(&key, Ttl::Never, build).await?, "from the database");
/// assert!(cache.stats()[0].errors > 0);
/// # Ok(())
/// # }
/// ```
pub struct Memcached {
    shared: Arc<Shared>,
    user: Option<String>,
}

impl Memcached {
    /// Prepares the servers; connects to none yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let user = options.get_credentials().map(|credentials| credentials.username.clone());
        Self { shared: Arc::new(Shared::new(options)), user }
    }

    /// Limits the pending deletes of each server, 10,000 by default. Beyond them an old value may live until it
    /// expires.
    #[must_use]
    pub fn max_pending_deletes(self, deletes: usize) -> Self {
        self.shared.servers.iter().for_each(|server| server.breaker.limit_pending(deletes));
        self
    }

    fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Runs a write of one key to its end, and does what its outcome asks for.
    async fn write<T: Send + Sync + 'static, F: Future<Output = Result<T, Error>> + Send + 'static>(
        &self,
        key: &str,
        write: impl FnOnce(Client, String) -> F,
    ) -> Result<T, Error> {
        let key = key.to_owned();
        let outcome = write(self.client().clone(), key.clone());
        self.write_many(vec![key], async { vec![outcome.await] }).await.remove(0)
    }

    /// As [`write`](Self::write), of several keys.
    async fn write_many<T: Send + Sync + 'static>(
        &self,
        keys: Vec<String>,
        write: impl Future<Output = Vec<Result<T, Error>>> + Send + 'static,
    ) -> Vec<Result<T, Error>> {
        let (shared, written) = (Arc::clone(&self.shared), keys.clone());
        let whole = async move {
            let before = shared.pending_deletes(&written);
            let outcomes = write.await;
            shared.settle(&written, &before, &outcomes).await;
            outcomes
        };
        Write::new(&self.shared, keys, whole).await
    }
}

#[async_trait]
impl Backend for Memcached {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        if self.shared.clean_one(key).await? {
            return Ok(None);
        }
        Ok(self.client().get(key).await?.map(|value| value.data))
    }

    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        let pending = self.shared.pending_deletes(keys);
        let clean: Vec<_> = keys.iter().zip(&pending).filter(|(_, pending)| pending.is_none()).collect();
        let clean: Vec<_> = clean.into_iter().map(|(key, _)| key).collect();
        let must_clean: Vec<_> = pending.iter().flatten().cloned().collect();
        let (cleaned, values) = join(self.shared.clean(&must_clean), self.client().get_many(&clean)).await;
        let (mut cleaned, mut values) = (cleaned.into_iter(), values.into_iter());
        let value = |pending: Option<PendingDelete>| match pending {
            Some(_) => cleaned.next().expect("each has a result").map(|()| None),
            None => Ok(values.next().expect("each has a result")?.map(|value| value.data)),
        };
        pending.into_iter().map(value).collect()
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<(), Error> {
        self.write(key, async move |client, key| Ok(client.set(key, value, ttl.into()).await.map(drop)?))
            .await
    }

    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>> {
        let keys = values.iter().map(|(key, _)| key.clone()).collect();
        let (client, values) = (self.client().clone(), values.to_vec());
        let write = async move {
            let outcomes = client.set_many(&values, ttl.into()).await.into_iter();
            outcomes.map(|stored| Ok(stored?)).collect()
        };
        self.write_many(keys, write).await
    }

    /// An `add` that may have been executed overwrites nothing, so that nothing older is left behind by it.
    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.shared.clean_one(key).await?;
        Ok(self.client().add(key, value, ttl.into()).await?)
    }

    /// At once where the server has both keys: it has one connection, which keeps the order. A key that must be deleted
    /// first takes longer.
    async fn add_then_get(
        &self,
        added: &str,
        value: Bytes,
        ttl: Ttl,
        read: &str,
    ) -> Result<(bool, Option<Bytes>), Error> {
        let is_clean = |key| self.shared.pending_delete(key).is_none();
        let add = self.add(added, value, ttl);
        if is_clean(added) && is_clean(read) && self.server_of(added) == self.server_of(read) {
            let (is_added, found) = join(add, self.get(read)).await;
            return Ok((is_added?, found.unwrap_or_default()));
        }
        let is_added = add.await?;
        Ok((is_added, if is_added { self.get(read).await.unwrap_or_default() } else { None }))
    }

    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.shared.clean_one(key).await?;
        self.write(key, async move |client, key| Ok(client.replace(key, value, ttl.into()).await?)).await
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.write(key, async move |client, key| Ok(client.delete(key).await?)).await
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        let (client, deleted) = (self.client().clone(), keys.to_vec());
        let write = async move {
            let outcomes = client.delete_many(&deleted).await.into_iter();
            outcomes.map(|deleted| Ok(deleted?)).collect()
        };
        self.write_many(keys.to_vec(), write).await
    }

    /// With a lifetime that is over this is a delete.
    async fn touch(&self, key: &str, ttl: Ttl) -> Result<bool, Error> {
        self.shared.clean_one(key).await?;
        if ttl == Ttl::After(Duration::ZERO) {
            return self.write(key, async move |client, key| Ok(client.touch(key, ttl.into()).await?)).await;
        }
        Ok(self.client().touch(key, ttl.into()).await?)
    }

    async fn incr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.shared.clean_one(key).await?;
        Ok(self.client().incr(key, delta).await?)
    }

    async fn decr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.shared.clean_one(key).await?;
        Ok(self.client().decr(key, delta).await?)
    }

    async fn clear(&self) -> Result<(), Error> {
        Ok(self.client().flush().await?)
    }

    async fn stats(&self) -> Vec<ServerStats> {
        let stats = self.client().stats().await.into_iter().zip(self.client().servers());
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
        let versions = self.client().version().await.into_iter();
        let took = started.elapsed();
        let checks = versions.zip(self.client().servers()).map(|((server, version), stats)| {
            let user = self.user.as_deref().filter(|_| stats.is_authenticated);
            let last = stats.last_error.as_ref().map(|(error, ago)| {
                format!("; last error, {} s ago: {}", ago.as_secs(), ErrorKind::from(error))
            });
            let describe = |version: String| describe_server(&version, user) + &last.unwrap_or_default();
            let outcome = version.map(describe).map_err(Error::from);
            ServerCheck { server: server.to_string(), outcome, took }
        });
        checks.collect()
    }

    async fn close(&self, limit: Duration) {
        let started = Instant::now();
        let _ = timeout(limit, self.shared.finish()).await;
        // Polled once at least, which ends the client for later calls.
        let _ = timeout(limit.saturating_sub(started.elapsed()), self.client().close()).await;
    }

    fn server_of(&self, key: &str) -> String {
        self.shared.server_of(key).name.clone()
    }

    fn describe(&self) -> String {
        let names: Vec<_> = self.shared.servers.iter().map(|server| server.name.as_str()).collect();
        format!("memcached at {}", names.join(", "))
    }
}

impl From<tokio_memcached::ServerStats> for Link {
    fn from(stats: tokio_memcached::ServerStats) -> Self {
        Self {
            is_down: stats.is_down,
            outage: stats.outage.as_ref().map(ErrorKind::from),
            last_error: stats.last_error.as_ref().map(|(error, ago)| (error.into(), *ago)),
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

impl From<tokio_memcached::Error> for Error {
    fn from(error: tokio_memcached::Error) -> Self {
        let kind = match error.outage() {
            Some(outage) => ErrorKind::Down(Some(Box::new(outage.into()))),
            None => (&error).into(),
        };
        Self { server: error.server().unwrap_or("memcached").into(), kind }
    }
}

impl From<&tokio_memcached::Error> for ErrorKind {
    fn from(error: &tokio_memcached::Error) -> Self {
        use tokio_memcached::ErrorKind as Kind;
        let cause = || error.source().map_or_else(|| error.kind().to_string(), ToString::to_string);
        match error.kind() {
            Kind::Connect | Kind::Disconnected | Kind::Closed | Kind::NoRuntime => Self::Unreachable(cause()),
            Kind::Timeout(limit) => Self::Timeout(limit),
            Kind::Down => Self::Down(None),
            Kind::Authentication => Self::Unauthenticated,
            Kind::Protocol => Self::Protocol(cause()),
            Kind::TooLarge(bytes) => Self::TooLarge(bytes),
            Kind::Refused(status) => status.into(),
            // An invalid key, and what a later version of the client adds.
            kind => Self::Refused(kind.to_string()),
        }
    }
}

impl From<Status> for ErrorKind {
    fn from(status: Status) -> Self {
        match status {
            Status::NOT_A_NUMBER => Self::NotANumber,
            Status::TOO_LARGE | Status::OUT_OF_MEMORY => Self::Refused(status.to_string()),
            Status::UNKNOWN_COMMAND | Status::NOT_SUPPORTED => Self::Unsupported(status.to_string()),
            _ => Self::Overloaded(status.to_string()),
        }
    }
}
