//! The client and its verbs for one key and for all servers; those for many keys are in `many.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use futures_util::future::join_all;

use super::connection::READ_BUFFER;
use super::error::{Error, ErrorKind};
use super::options::{Options, ServerAddress};
use super::protocol::{Expiration, Malformed, Opcode, Request, Response, Status};
use super::ring::Ring;
use super::server::Server;
use super::stats::ServerStats;
use super::value::{Cas, Item, Value};

/// The longest key (memcached `doc/protocol.txt`, "Keys").
const LONGEST_KEY: usize = 250;

/// A client of one or more servers. Cheap to clone; all clones share their connections.
///
/// Every method may end with an [`Error`], within four times [`Options::operation_timeout`]. None tries again by itself
/// or does anything about a write that may not have happened: [`Error::was_written`] says whether that is possible.
/// Commands for one server are executed in the order in which they were called, as far as they are executed.
///
/// # Cancel safety
///
/// A future that is dropped leaves the client usable. Whether its command is carried out is open.
///
/// # Runtime
///
/// Outside a tokio runtime commands fail with [`ErrorKind::NoRuntime`]. The connection to a server lives in the runtime
/// of its first command: when that runtime ends, commands fail with [`ErrorKind::Closed`].
#[derive(Clone)]
pub struct Client {
    pub(super) options: Arc<Options>,
    pub(super) ring: Arc<Ring>,
    pub(super) servers: Arc<[Server]>,
}

impl Client {
    /// Creates a client, which connects when it is first used.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let ring = Arc::new(Ring::new(&options.servers));
        let options = Arc::new(options);
        let servers = options.servers.iter().map(|address| Server::new(address, &options)).collect();
        Self { options, ring, servers }
    }

    /// Closes the client and all its clones, and returns once its connections are closed.
    ///
    /// Calls that were made before are carried out or fail, within the time that they have anyway. Those that are made
    /// after fail with [`ErrorKind::Closed`]. A client that is dropped without this closes its connections as well.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the client is closed all the same. Another call waits for the connections.
    pub async fn close(&self) {
        self.servers.iter().for_each(Server::close);
        join_all(self.servers.iter().map(Server::ended)).await;
    }

    /// Returns the value of a key, or `None` if it is missing.
    ///
    /// # Errors
    ///
    /// If the server could not be asked.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>, Error> {
        let request = |key| Request::of(Opcode::Get, key);
        let (server, response) = self.ask(key.as_ref(), request, &[Status::NOT_FOUND]).await?;
        found(server, response)
    }

    /// Stores a value, whatever was there, and returns its version, for [`cas`](Self::cas).
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it. An older value may be left behind.
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Item>,
        expires: Expiration,
    ) -> Result<u64, Error> {
        let request = store(Opcode::Set, value.into(), expires, 0);
        let (_, response) = self.ask(key.as_ref(), request, &[]).await?;
        Ok(response.cas)
    }

    /// Stores a value where there is none, and returns whether there was none.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it.
    pub async fn add(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Item>,
        expires: Expiration,
    ) -> Result<bool, Error> {
        // That it was not stored, without a reason, is a refusal and does not mean that there is a value.
        let request = store(Opcode::Add, value.into(), expires, 0);
        self.is_done(key.as_ref(), request, &[Status::EXISTS]).await
    }

    /// Stores a value where there is one, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it.
    pub async fn replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Item>,
        expires: Expiration,
    ) -> Result<bool, Error> {
        let request = store(Opcode::Replace, value.into(), expires, 0);
        self.is_done(key.as_ref(), request, &[Status::NOT_FOUND]).await
    }

    /// Stores a value if its version is still the one that was read ([`Value::cas`]) or stored ([`set`](Self::set)).
    ///
    /// Versions start again with the server: after a restart an old one may seem to be the present one. A version of 0
    /// is none and never as expected.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it.
    pub async fn cas(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Item>,
        expires: Expiration,
        version: u64,
    ) -> Result<Cas, Error> {
        if version == 0 {
            // On the wire 0 means "whatever the version". It is what a server without versions answers.
            return Ok(Cas::Changed);
        }
        let request = store(Opcode::Set, value.into(), expires, version);
        let (_, response) = self.ask(key.as_ref(), request, &[Status::EXISTS, Status::NOT_FOUND]).await?;
        Ok(match response.status {
            Status::EXISTS => Cas::Changed,
            Status::NOT_FOUND => Cas::Missing,
            _ => Cas::Stored(response.cas),
        })
    }

    /// Puts bytes behind a value, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it.
    pub async fn append(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<bool, Error> {
        self.extend(Opcode::Append, key.as_ref(), value.into()).await
    }

    /// Puts bytes before a value, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it.
    pub async fn prepend(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Result<bool, Error> {
        self.extend(Opcode::Prepend, key.as_ref(), value.into()).await
    }

    /// Removes a key, and returns whether it was there.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it. The value may be left behind.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let request = |key| Request::of(Opcode::Delete, key);
        self.is_done(key.as_ref(), request, &[Status::NOT_FOUND]).await
    }

    /// Sets when a value expires, and returns whether there is one.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it.
    pub async fn touch(&self, key: impl AsRef<[u8]>, expires: Expiration) -> Result<bool, Error> {
        let request = |key| Request::touch(key, to_wire(expires));
        self.is_done(key.as_ref(), request, &[Status::NOT_FOUND]).await
    }

    /// Adds to a number (decimal digits, 64 bits, wraps), and returns the sum; `None` if there is no such key.
    ///
    /// # Errors
    ///
    /// If the server could not be asked, or the value is no number.
    pub async fn incr(&self, key: impl AsRef<[u8]>, delta: u64) -> Result<Option<u64>, Error> {
        self.count(Opcode::Increment, key.as_ref(), delta).await
    }

    /// Subtracts from a number, down to 0, and returns the rest; `None` if there is no such key.
    ///
    /// # Errors
    ///
    /// If the server could not be asked, or the value is no number.
    pub async fn decr(&self, key: impl AsRef<[u8]>, delta: u64) -> Result<Option<u64>, Error> {
        self.count(Opcode::Decrement, key.as_ref(), delta).await
    }

    /// Removes all values of all servers, whichever client stored them.
    ///
    /// # Errors
    ///
    /// That of the first server that could not be asked or refused it; the others are flushed.
    pub async fn flush(&self) -> Result<(), Error> {
        let flush =
            async |server: &Server| server.one(Request::of(Opcode::Flush, Bytes::new()), &[]).await.map(drop);
        self.on_each(flush).await.into_iter().try_for_each(|(_, flushed)| flushed)
    }

    /// Returns each server's version.
    pub async fn version(&self) -> Vec<(ServerAddress, Result<String, Error>)> {
        self.on_each(async |server| {
            let response = server.one(Request::of(Opcode::Version, Bytes::new()), &[]).await?;
            Ok(text(&response.value))
        })
        .await
    }

    /// Returns each server's own statistics, as it names them.
    pub async fn stats(&self) -> Vec<(ServerAddress, Result<BTreeMap<String, String>, Error>)> {
        self.on_each(async |server| {
            let mut stats = BTreeMap::new();
            for response in server.send(vec![Request::of(Opcode::Stat, Bytes::new())]).await? {
                let response = server.accept(response, &[])?;
                if !response.key.is_empty() {
                    stats.insert(text(&response.key), text(&response.value));
                }
            }
            Ok(stats)
        })
        .await
    }

    /// Waits until the server of a key is not marked down, or the client is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point it changes nothing.
    pub async fn until_up(&self, key: impl AsRef<[u8]>) {
        self.servers[self.ring.server_of(key.as_ref())].until_up().await;
    }

    /// Returns the client-side statistics of each server.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerStats> {
        self.servers.iter().map(Server::stats).collect()
    }

    async fn on_each<T>(
        &self,
        ask: impl AsyncFn(&Server) -> Result<T, Error>,
    ) -> Vec<(ServerAddress, Result<T, Error>)> {
        let asked = self.servers.iter().map(|server| async { (server.address().clone(), ask(server).await) });
        join_all(asked).await
    }

    /// Makes the request for a key, and returns the index of the server that has the key.
    pub(super) fn prepare(
        &self,
        key: &[u8],
        request: impl FnOnce(Bytes) -> Request,
    ) -> Result<(usize, Request), Error> {
        if !is_valid_key(key) {
            return Err(Error::new(ErrorKind::InvalidKey));
        }
        let request = request(Bytes::copy_from_slice(key));
        if request.value().len() > self.options.max_value_bytes {
            return Err(Error::new(ErrorKind::TooLarge(request.value().len())));
        }
        Ok((self.ring.server_of(key), request))
    }

    /// Sends a command about a key. Returns the server, and its response, whose status is OK or one of `also`.
    async fn ask(
        &self,
        key: &[u8],
        request: impl FnOnce(Bytes) -> Request,
        also: &[Status],
    ) -> Result<(&Server, Response), Error> {
        let (server, request) = self.prepare(key, request)?;
        let server = &self.servers[server];
        Ok((server, server.one(request, also).await?))
    }

    /// Sends a command about a key, and returns whether its condition was met; `unmet` are the statuses that say no.
    async fn is_done(
        &self,
        key: &[u8],
        request: impl FnOnce(Bytes) -> Request,
        unmet: &[Status],
    ) -> Result<bool, Error> {
        let (_, response) = self.ask(key, request, unmet).await?;
        Ok(response.status == Status::OK)
    }

    async fn extend(&self, opcode: Opcode, key: &[u8], value: Bytes) -> Result<bool, Error> {
        let request = |key| Request::extend(opcode, key, value);
        self.is_done(key, request, &[Status::NOT_STORED, Status::NOT_FOUND]).await
    }

    async fn count(&self, opcode: Opcode, key: &[u8], delta: u64) -> Result<Option<u64>, Error> {
        let request = |key| Request::count(opcode, key, delta);
        let (server, mut response) = self.ask(key, request, &[Status::NOT_FOUND]).await?;
        match response.status {
            Status::NOT_FOUND => Ok(None),
            _ if response.value.len() == 8 => Ok(Some(response.value.get_u64())),
            _ => Err(server.fail(Error::protocol(Malformed::Unexpected("length of a number")).written(true))),
        }
    }
}

/// Returns whether memcached takes these bytes as a key: 1 to 250, without blanks and control characters.
#[must_use]
pub fn is_valid_key(key: &[u8]) -> bool {
    (1..=LONGEST_KEY).contains(&key.len()) && !key.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
}

/// Returns the value of a response, and counts a hit or a miss.
pub(super) fn found(server: &Server, mut response: Response) -> Result<Option<Value>, Error> {
    let value = match response.status {
        Status::NOT_FOUND => None,
        _ if response.extras.len() == 4 => {
            Some(Value { flags: response.extras.get_u32(), cas: response.cas, data: own(response.value) })
        }
        _ => {
            return Err(server.fail(Error::protocol(Malformed::Unexpected("length of flags")).written(true)));
        }
    };
    server.counters().count_look_up(value.is_some());
    Ok(value)
}

/// Returns a value that keeps no buffer much longer than itself: values share the one they were read into.
fn own(value: Bytes) -> Bytes {
    if value.len() < READ_BUFFER / 2 { Bytes::copy_from_slice(&value) } else { value }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns what makes the request that stores a value, over this version only if it is not 0.
fn store(opcode: Opcode, item: Item, expires: Expiration, version: u64) -> impl FnOnce(Bytes) -> Request {
    move |key| Request::store(opcode, key, item.data, item.flags, to_wire(expires), version)
}

/// Returns an expiration as servers read it now.
pub(super) fn to_wire(expires: Expiration) -> u32 {
    expires.to_wire(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}
