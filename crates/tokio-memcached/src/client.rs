//! The verbs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use futures_util::future::join_all;

use super::connection::READ_BUFFER;
use super::error::{Error, ErrorKind};
use super::options::{Options, ServerAddress};
use super::protocol::{Expiration, Opcode, Request, Response, Status};
use super::ring::Ring;
use super::server::Server;
use super::stats::ServerStats;

/// The longest key (memcached `doc/protocol.txt`, "Keys").
const LONGEST_KEY: usize = 250;

/// The longest value that is sent. Servers take 1 MiB, key and header included, unless told otherwise.
pub(super) const LONGEST_VALUE: usize = 32 * 1024 * 1024;

/// A stored value, with its flags and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes. They keep at most as much memory as they are long from being used otherwise.
    pub data: Bytes,
    /// A number of the writer's own.
    pub flags: u32,
    /// The version, for [`Client::cas`].
    pub cas: u64,
}

/// The outcome of [`Client::cas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cas {
    /// The version was as expected; the value is stored, and this is its version.
    Stored(u64),
    /// Somebody else has stored meanwhile; nothing was done.
    Changed,
    /// There is no such key any more; nothing was done.
    Missing,
}

/// What a value is stored with, and when it is not stored.
#[derive(Clone, Copy, Default)]
struct Condition<'a> {
    flags: u32,
    /// Only over this version; 0 is any.
    version: u64,
    /// What the server says where the condition is not met.
    unmet: &'a [Status],
}

/// A client of one or more servers. Cheap to clone; all clones share their connections.
///
/// Every method may end with an [`Error`], within four times [`Options::operation_timeout`]. None tries again by itself
/// or does anything about a write that may not have happened: [`Error::was_written`] says whether that is possible.
/// Commands for one server are executed in the order in which they were called, as far as they are executed. A future
/// that is dropped leaves the client usable; whether its command is carried out is open.
#[derive(Clone)]
pub struct Client {
    pub(super) ring: Arc<Ring>,
    pub(super) servers: Arc<[Server]>,
}

impl Client {
    /// Creates a client, which connects when it is first used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let options = Arc::new(options);
        let servers = options.servers.iter().map(|address| Server::start(address.clone(), &options));
        Self { ring: Arc::new(Ring::new(&options.servers)), servers: servers.collect() }
    }

    /// Returns the value of a key.
    ///
    /// # Errors
    ///
    /// If the server could not be asked. A missing key is none.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>, Error> {
        let (server, key) = self.locate(key.as_ref())?;
        let response = server.one(Request::of(Opcode::Get, key)).await?;
        let value = found(server, response)?;
        server.counters().count_look_up(value.is_some());
        Ok(value)
    }

    /// Stores a value, whatever was there, and returns its version, for [`cas`](Self::cas).
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it. An older value may be left behind.
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        expires: Expiration,
    ) -> Result<u64, Error> {
        self.set_with_flags(key, value, 0, expires).await
    }

    /// Stores a value as [`set`](Self::set), with a number of the caller's own: [`Value::flags`].
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it. An older value may be left behind.
    pub async fn set_with_flags(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        flags: u32,
        expires: Expiration,
    ) -> Result<u64, Error> {
        let condition = Condition { flags, ..Condition::default() };
        let (_, version) = self.store(Opcode::Set, key.as_ref(), value.into(), expires, condition).await?;
        Ok(version)
    }

    /// Stores a value where there is none, and returns whether there was none.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it.
    pub async fn add(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        expires: Expiration,
    ) -> Result<bool, Error> {
        // That it was not stored, without a reason, is a refusal and does not mean that there is a value.
        let condition = Condition { unmet: &[Status::EXISTS], ..Condition::default() };
        let (status, _) = self.store(Opcode::Add, key.as_ref(), value.into(), expires, condition).await?;
        Ok(status == Status::OK)
    }

    /// Stores a value where there is one, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it.
    pub async fn replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        expires: Expiration,
    ) -> Result<bool, Error> {
        let condition = Condition { unmet: &[Status::NOT_FOUND], ..Condition::default() };
        let (status, _) = self.store(Opcode::Replace, key.as_ref(), value.into(), expires, condition).await?;
        Ok(status == Status::OK)
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
        value: impl Into<Bytes>,
        expires: Expiration,
        version: u64,
    ) -> Result<Cas, Error> {
        if version == 0 {
            // On the wire 0 means "whatever the version". It is what a server without versions answers.
            return Ok(Cas::Changed);
        }
        let unmet = &[Status::EXISTS, Status::NOT_FOUND];
        let condition = Condition { version, unmet, ..Condition::default() };
        Ok(match self.store(Opcode::Set, key.as_ref(), value.into(), expires, condition).await? {
            (Status::EXISTS, _) => Cas::Changed,
            (Status::NOT_FOUND, _) => Cas::Missing,
            (_, version) => Cas::Stored(version),
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
        let (server, key) = self.locate(key.as_ref())?;
        let response = server.one(Request::of(Opcode::Delete, key)).await?;
        expect(server, response.status, &[Status::NOT_FOUND]).map(|status| status == Status::OK)
    }

    /// Adds to a number (decimal digits, 64 bits, wraps), and returns the sum; none if there is no such key.
    ///
    /// # Errors
    ///
    /// If the server could not be asked, or the value is no number.
    pub async fn incr(&self, key: impl AsRef<[u8]>, delta: u64) -> Result<Option<u64>, Error> {
        self.count(Opcode::Increment, key.as_ref(), delta).await
    }

    /// Subtracts from a number, down to 0, and returns the rest; none if there is no such key.
    ///
    /// # Errors
    ///
    /// If the server could not be asked, or the value is no number.
    pub async fn decr(&self, key: impl AsRef<[u8]>, delta: u64) -> Result<Option<u64>, Error> {
        self.count(Opcode::Decrement, key.as_ref(), delta).await
    }

    /// Changes when a value expires, and returns whether there is one.
    ///
    /// # Errors
    ///
    /// If the server could not be asked or refused it.
    pub async fn touch(&self, key: impl AsRef<[u8]>, expires: Expiration) -> Result<bool, Error> {
        let (server, key) = self.locate(key.as_ref())?;
        let response = server.one(Request::touch(key, expires.to_wire(unix_time()))).await?;
        expect(server, response.status, &[Status::NOT_FOUND]).map(|status| status == Status::OK)
    }

    /// Removes all values of all servers, whoever stored them.
    ///
    /// # Errors
    ///
    /// That of the first server that could not be asked or refused it; the others are flushed.
    pub async fn flush(&self) -> Result<(), Error> {
        let flush = async |server: &Server| {
            well(server, &server.one(Request::of(Opcode::Flush, Bytes::new())).await?)
        };
        self.on_each(flush).await.into_iter().try_for_each(|(_, flushed)| flushed)
    }

    /// Returns each server's version.
    pub async fn version(&self) -> Vec<(ServerAddress, Result<String, Error>)> {
        self.on_each(async |server| {
            let response = server.one(Request::of(Opcode::Version, Bytes::new())).await?;
            expect(server, response.status, &[])?;
            Ok(String::from_utf8_lossy(&response.value).into_owned())
        })
        .await
    }

    /// Returns each server's own statistics, as it names them.
    pub async fn stats(&self) -> Vec<(ServerAddress, Result<BTreeMap<String, String>, Error>)> {
        self.on_each(async |server| {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            let mut stats = BTreeMap::new();
            for (_, response) in server.stat(Request::of(Opcode::Stat, Bytes::new())).await? {
                expect(server, response.status, &[])?;
                if !response.key.is_empty() {
                    stats.insert(text(&response.key), text(&response.value));
                }
            }
            Ok(stats)
        })
        .await
    }

    /// Waits until the server of a key is not marked down.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point it changes nothing.
    pub async fn until_up(&self, key: impl AsRef<[u8]>) {
        if let Ok((server, _)) = self.locate(key.as_ref()) {
            server.until_up().await;
        }
    }

    /// Returns what this client has asked each server, and how it went.
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

    fn locate(&self, key: &[u8]) -> Result<(&Server, Bytes), Error> {
        if !is_valid_key(key) {
            return Err(Error::local(ErrorKind::InvalidKey));
        }
        Ok((&self.servers[self.ring.server_of(key)], Bytes::copy_from_slice(key)))
    }

    /// As [`locate`](Self::locate), for a value that is to be sent there.
    fn locate_for(&self, key: &[u8], value: &Bytes) -> Result<(&Server, Bytes), Error> {
        let (server, key) = self.locate(key)?;
        if value.len() > LONGEST_VALUE {
            return Err(server.unwritten(ErrorKind::TooLarge(value.len())));
        }
        Ok((server, key))
    }

    /// Returns the status, and the version of what was stored.
    async fn store(
        &self,
        opcode: Opcode,
        key: &[u8],
        value: Bytes,
        expires: Expiration,
        condition: Condition<'_>,
    ) -> Result<(Status, u64), Error> {
        let Condition { version, unmet, flags } = condition;
        let (server, key) = self.locate_for(key, &value)?;
        let request = Request::store(opcode, key, value, flags, expires.to_wire(unix_time()), version);
        let response = server.one(request).await?;
        Ok((expect(server, response.status, unmet)?, response.cas))
    }

    async fn extend(&self, opcode: Opcode, key: &[u8], value: Bytes) -> Result<bool, Error> {
        let (server, key) = self.locate_for(key, &value)?;
        let response = server.one(Request::extend(opcode, key, value)).await?;
        let status = expect(server, response.status, &[Status::NOT_STORED, Status::NOT_FOUND])?;
        Ok(status == Status::OK)
    }

    async fn count(&self, opcode: Opcode, key: &[u8], delta: u64) -> Result<Option<u64>, Error> {
        let (server, key) = self.locate(key)?;
        let mut response = server.one(Request::count(opcode, key, delta)).await?;
        match expect(server, response.status, &[Status::NOT_FOUND])? {
            Status::NOT_FOUND => Ok(None),
            _ if response.value.len() == 8 => Ok(Some(response.value.get_u64())),
            _ => Err(server.refused(ErrorKind::Protocol("a number has 8 bytes".into()))),
        }
    }
}

/// Returns whether memcached takes these bytes as a key: 1 to 250, without blanks and control characters.
#[must_use]
pub fn is_valid_key(key: &[u8]) -> bool {
    (1..=LONGEST_KEY).contains(&key.len()) && !key.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
}

pub(super) fn found(server: &Server, mut response: Response) -> Result<Option<Value>, Error> {
    match expect(server, response.status, &[Status::NOT_FOUND])? {
        Status::NOT_FOUND => Ok(None),
        _ if response.extras.len() == 4 => {
            Ok(Some(Value { flags: response.extras.get_u32(), cas: response.cas, data: own(response.value) }))
        }
        _ => Err(server.refused(ErrorKind::Protocol("flags have 4 bytes".into()))),
    }
}

/// Returns a value that keeps no buffer much longer than itself: values share the one they were read into.
fn own(value: Bytes) -> Bytes {
    if value.len() < READ_BUFFER / 2 { Bytes::copy_from_slice(&value) } else { value }
}

pub(super) fn well(server: &Server, response: &Response) -> Result<(), Error> {
    expect(server, response.status, &[]).map(drop)
}

/// Returns a status that is ok or one of those that are no error here.
pub(super) fn expect(server: &Server, status: Status, also: &[Status]) -> Result<Status, Error> {
    if status == Status::OK || also.contains(&status) {
        return Ok(status);
    }
    let kind = if status == Status::UNAUTHENTICATED {
        ErrorKind::Authentication
    } else {
        ErrorKind::Refused(status)
    };
    Err(server.refused(kind))
}

pub(super) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
