//! Connecting to one server, with limits the `memcache` crate does not have, and saying why it failed.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memcache::{Client, CommandError, ConnectionManager, MemcacheError, Url};
use r2d2::{ManageConnection, NopErrorHandler, Pool};
use scheduled_thread_pool::ScheduledThreadPool;
use secrecy::ExposeSecret;

use neverstale::backend::ErrorKind;
use tokio_memcached::{Credentials, Options, ServerAddress, Status};

/// Connections to one server, and so operations under way on it at once.
pub(super) const CONNECTIONS: usize = 8;

/// "Unknown command": the response of a server without SASL to authentication (memcached `protocol_binary.h`).
const UNKNOWN_COMMAND: u16 = 0x81;

/// "Invalid arguments" (memcached `protocol_binary.h`).
const INVALID_ARGUMENTS: Status = Status(0x04);

/// The `memcache` crate sends user name and password as they stand in its URL, percent-encoded.
#[derive(Debug, thiserror::Error)]
#[error(
    "user name or password holds a character that the memcache crate cannot send; \
     use letters, digits and -._~!$&'()*+, only"
)]
pub struct UnsupportedCredentials;

pub(super) struct Connector {
    address: ServerAddress,
    connect_timeout: Duration,
    operation_timeout: Duration,
    with_login: Url,
    without_login: Url,
    /// Whether the server did not support SASL when it was last connected to.
    plain: AtomicBool,
    /// r2d2 connects on threads; without this each pool would have three of its own.
    threads: Arc<ScheduledThreadPool>,
}

impl Connector {
    pub(super) fn new(address: &ServerAddress, options: &Options) -> Result<Self, UnsupportedCredentials> {
        let credentials = options.get_credentials();
        let seconds = options.get_operation_timeout().as_secs_f64();
        let url = format!("memcache://{address}?protocol=binary&timeout={seconds}");
        let without_login: Url = url.parse().map_err(|_| UnsupportedCredentials)?;
        let mut with_login = without_login.clone();
        if let Some(Credentials { username, password }) = credentials {
            let password = password.expose_secret();
            let set =
                with_login.set_username(username).and_then(|()| with_login.set_password(Some(password)));
            if set.is_err() || with_login.username() != username || with_login.password() != Some(password) {
                return Err(UnsupportedCredentials);
            }
        }
        Ok(Self {
            address: address.clone(),
            connect_timeout: options.get_connect_timeout(),
            operation_timeout: options.get_operation_timeout(),
            with_login,
            without_login,
            plain: AtomicBool::new(credentials.is_none()),
            threads: Arc::new(ScheduledThreadPool::builder().num_threads(CONNECTIONS).build()),
        })
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Returns how long an operation may take, waiting and connecting included.
    pub(super) fn operation_timeout(&self) -> Duration {
        self.operation_timeout
    }

    /// Returns whether connections log in.
    pub(super) fn is_authenticated(&self) -> bool {
        !self.plain.load(Ordering::Relaxed)
    }

    /// Returns a client with one connection, logged in. Blocks, for the connect timeout a resolved address and twice an
    /// operation's timeout at most.
    pub(super) fn connect(&self) -> Result<Client, ErrorKind> {
        self.knock().map_err(|error| ErrorKind::Unreachable(error.to_string()))?;
        self.try_login().map_err(|error| self.classify(&error))?;
        let pool = self.pool_of_one().map_err(|error| ErrorKind::Unreachable(error.to_string()))?;
        Client::with_pool(pool).map_err(|error| self.classify(&error))
    }

    /// Opens a connection of our own for a moment: the crate's would hang on an address that swallows packets.
    fn knock(&self) -> io::Result<()> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.address.host.as_str(), self.address.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.connect_timeout) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Logs in once outside the pool, which would report every refusal as a timeout.
    fn try_login(&self) -> Result<(), MemcacheError> {
        self.plain.store(self.with_login == self.without_login, Ordering::Relaxed);
        match self.manager().connect() {
            Err(MemcacheError::CommandError(CommandError::Unknown(UNKNOWN_COMMAND)))
                if self.is_authenticated() =>
            {
                tracing::info!(memcached.server = %self.address, "server does not support SASL, continuing unauthenticated");
                self.plain.store(true, Ordering::Relaxed);
                self.manager().connect().map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Makes a pool of one connection, so that no other caller gets the connection after something went wrong on it.
    fn pool_of_one(&self) -> Result<Pool<ConnectionManager>, r2d2::Error> {
        Pool::builder()
            .max_size(1)
            .idle_timeout(None)
            .max_lifetime(None)
            // A round trip per operation, and no help: the operation itself shows whether the connection works.
            .test_on_check_out(false)
            .connection_timeout(self.operation_timeout)
            .error_handler(Box::new(NopErrorHandler))
            .thread_pool(Arc::clone(&self.threads))
            .build(self.manager())
    }

    fn manager(&self) -> ConnectionManager {
        let url = if self.is_authenticated() { &self.with_login } else { &self.without_login };
        ConnectionManager::new(url.clone())
    }

    /// Says what an error of the crate means for the server it came from.
    pub(super) fn classify(&self, error: &MemcacheError) -> ErrorKind {
        match error {
            MemcacheError::IOError(cause) if is_timeout(cause) => ErrorKind::Timeout(self.operation_timeout),
            MemcacheError::IOError(cause) => ErrorKind::Unreachable(cause.to_string()),
            MemcacheError::PoolError(cause) => ErrorKind::Unreachable(cause.to_string()),
            MemcacheError::CommandError(CommandError::AuthenticationRequired) => ErrorKind::Unauthenticated,
            MemcacheError::CommandError(CommandError::ValueTooLarge) => {
                ErrorKind::Refused("too large".into())
            }
            MemcacheError::CommandError(CommandError::Unknown(status)) => Status(*status).into(),
            MemcacheError::CommandError(CommandError::InvalidArguments) => INVALID_ARGUMENTS.into(),
            other => ErrorKind::Protocol(other.to_string()),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
