//! memcached through the `memcache` crate: the binary protocol with SASL, blocking, several servers.
//!
//! The calls of the crate run on the runtime's blocking threads. A connection on which anything went wrong is closed
//! together with its pool, because after a timeout the crate would return the late response for the next key. The crate
//! connects without a time limit, so a connection of our own with a limit is tried first.
//!
//! Limits that remain: the crate believes a server that announces 4 GiB. It has no quiet writes, so many writes are as
//! many round trips, and those that do not fit into an operation's time are not done. It counts a missing key from 0
//! on, so a number is looked for before it is counted; one that is deleted in between is there again, as 0 that never
//! expires.
//!
//! A key always belongs to the same server, also while that server is down: a key that moved to another server and back
//! would find its old value again.

mod connector;
mod server;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use memcache::{Client, CommandError, MemcacheError};
use tokio::time::Instant;

use self::connector::Connector;
use self::server::Server;
use neverstale::Ttl;
use neverstale::backend::recovery::Recover;
use neverstale::backend::{Backend, Error, ServerCheck, ServerStats, describe_server};
use tokio_memcached::{Expiration, Options, Ring};

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
        let connect = |address| Connector::new(address, options).map(Server::new);
        let servers = options.servers().iter().map(connect).collect::<Result<_, _>>()?;
        Ok(Self {
            servers,
            ring: Ring::new(options.servers()),
            user: options.get_credentials().map(|credentials| credentials.username.clone()),
        })
    }

    fn server_of(&self, key: &str) -> &Arc<Server> {
        &self.servers[self.ring.server_of(key.as_bytes())]
    }

    /// Runs an operation on many keys, each server's share of them at once, and returns the results in the keys' order.
    async fn on_each_server<K: AsRef<str> + Clone, T: Clone>(
        &self,
        keys: &[K],
        operation: impl AsyncFn(&Arc<Server>, Vec<K>) -> Result<Vec<Result<T, Error>>, Error>,
    ) -> Vec<Result<T, Error>> {
        let mut shares: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            shares.entry(self.ring.server_of(key.as_ref().as_bytes())).or_default().push(index);
        }
        let asked = shares.into_iter().map(async |(server, places)| {
            let share = places.iter().map(|index| keys[*index].clone()).collect();
            (places, operation(&self.servers[server], share).await)
        });
        let mut results: BTreeMap<usize, _> = BTreeMap::new();
        for (places, outcome) in join_all(asked).await {
            let share = outcome.unwrap_or_else(|error| vec![Err(error); places.len()]);
            results.extend(places.into_iter().zip(share));
        }
        results.into_values().collect()
    }

    /// Counts where there is something to count.
    async fn count(
        &self,
        key: &str,
        count: impl Fn(&Client, &str) -> Result<u64, MemcacheError> + Send + 'static,
    ) -> Result<Option<u64>, Error> {
        self.server_of(key).check_readable(key)?;
        let name = key.to_owned();
        let change = move |client: &Client| match client.get::<Vec<u8>>(&name)? {
            Some(_) => count(client, &name).map(Some),
            None => Ok(None),
        };
        self.server_of(key).once(change).await
    }

    async fn check_one(&self, server: &Arc<Server>) -> ServerCheck {
        let started = Instant::now();
        let version = server.read(server::greet).await;
        let user = self.user.as_deref().filter(|_| server.is_authenticated());
        let outcome = version.map(|version| describe_server(&version, user));
        ServerCheck { server: server.name().into(), outcome, took: started.elapsed() }
    }
}

fn to_wire(ttl: Ttl) -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Expiration::from(ttl).to_wire(now)
}

/// Returns false for the error that a condition was not met.
fn condition(stored: Result<(), MemcacheError>) -> Result<bool, MemcacheError> {
    match stored {
        Ok(()) => Ok(true),
        Err(MemcacheError::CommandError(CommandError::KeyExists | CommandError::KeyNotFound)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A value to be stored.
#[derive(Clone)]
struct Item {
    key: String,
    value: Bytes,
    expiration: u32,
}

impl AsRef<str> for Item {
    fn as_ref(&self) -> &str {
        &self.key
    }
}

/// Stores a value. One that is refused costs its older one and no more than that.
fn store(server: &Server, client: &Client, item: &Item) -> Result<Result<(), Error>, MemcacheError> {
    let failure = match client.set(&item.key, &item.value[..], item.expiration) {
        Ok(()) => return Ok(Ok(())),
        Err(error) => server.refusal(error)?,
    };
    client.delete(&item.key)?;
    Ok(Err(failure))
}

#[async_trait]
impl Backend for MemcacheCrate {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.server_of(key).check_readable(key)?;
        let name = key.to_owned();
        let value = self.server_of(key).read(move |client| client.get::<Vec<u8>>(&name)).await?;
        Ok(value.map(Bytes::from))
    }

    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        self.on_each_server(keys, async |server, keys| {
            // Before they are read: a delete that is received meanwhile may come after that.
            let readable: Vec<_> = keys.iter().map(|key| server.check_readable(key)).collect();
            let asked = keys.clone();
            let values = server.read(move |client| {
                let keys: Vec<_> = asked.iter().map(String::as_str).collect();
                client.gets::<Vec<u8>>(&keys)
            });
            let mut values = values.await?;
            let value = |(key, readable): (&String, Result<(), Error>)| {
                readable.map(|()| values.remove(key).map(Bytes::from))
            };
            Ok(keys.iter().zip(readable).map(value).collect())
        })
        .await
    }

    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>> {
        let expiration = to_wire(ttl);
        let item =
            |(key, value): &(String, Bytes)| Item { key: key.clone(), value: value.clone(), expiration };
        let items: Vec<_> = values.iter().map(item).collect();
        let stored = self.on_each_server(&items, async |server, items| {
            let storing = Arc::clone(server);
            Ok(server.write_each(&items, move |client, item| store(&storing, client, item)).await)
        });
        stored.await.into_iter().map(Result::flatten).collect()
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        self.on_each_server(keys, async |server, keys| {
            Ok(server.write_each(&keys, |client, key| client.delete(key)).await)
        })
        .await
    }

    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        let (server, name, expiration) = (self.server_of(key), key.to_owned(), to_wire(ttl));
        server.check_readable(key)?;
        server.once(move |client| condition(client.add(&name, &value[..], expiration))).await
    }

    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        let (server, name, expiration) = (self.server_of(key), key.to_owned(), to_wire(ttl));
        let keys = [key.to_owned()];
        server.check_readable(key).map_err(|error| server.defer(&keys, error.kind))?;
        let replace = move |client: &Client| condition(client.replace(&name, &value[..], expiration));
        server.write(&keys, replace).await
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        let name = key.to_owned();
        self.server_of(key).write(&[key.to_owned()], move |client| client.delete(&name)).await
    }

    async fn touch(&self, key: &str, ttl: Ttl) -> Result<bool, Error> {
        let (server, name, expiration) = (self.server_of(key), key.to_owned(), to_wire(ttl));
        server.check_readable(key)?;
        // A value that was to end at once must not stay because that failed.
        let ended = if ttl.is_over() { vec![name.clone()] } else { vec![] };
        server.write(&ended, move |client| client.touch(&name, expiration)).await
    }

    async fn incr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, move |client, key| client.increment(key, delta)).await
    }

    async fn decr(&self, key: &str, delta: u64) -> Result<Option<u64>, Error> {
        self.count(key, move |client, key| client.decrement(key, delta)).await
    }

    async fn clear(&self) -> Result<(), Error> {
        let flushes = self.servers.iter().map(|server| server.read(Client::flush));
        join_all(flushes).await.into_iter().collect()
    }

    async fn stats(&self) -> Vec<ServerStats> {
        let asked = self.servers.iter().map(async |server| {
            let stats = server.read(Client::stats).await;
            let own = |stats: Vec<(String, HashMap<String, String>)>| {
                stats.into_iter().flat_map(|(_, stats)| stats).collect()
            };
            ServerStats { server: server.name().into(), stats: stats.map(own), link: None }
        });
        join_all(asked).await
    }

    async fn check(&self) -> Vec<ServerCheck> {
        join_all(self.servers.iter().map(|server| self.check_one(server))).await
    }

    fn server_of(&self, key: &str) -> String {
        self.server_of(key).name().into()
    }

    fn describe(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(|server| server.name()).collect();
        format!("memcached at {} (memcache crate)", names.join(", "))
    }
}
