//! Making a connection: all addresses of a name are tried, then TLS, then authentication.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;

use super::error::{Error, ErrorKind};
use super::options::{Credentials, Options, ServerAddress};
use super::protocol::{Malformed, Opcode, Request, Status, decode};

/// The longest response to a login: the server's words about a refusal.
const LONGEST_GREETING: usize = 64 * 1024;

/// A byte stream to a server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Has the system forget, when the stream is closed, what it has not delivered yet.
    fn forget_unsent(&self);
}

impl Stream for TcpStream {
    fn forget_unsent(&self) {
        // If it fails, what is left arrives late; that is no worse than not asking for it.
        let _ = self.set_zero_linger();
    }
}

#[cfg(feature = "tls")]
impl Stream for TlsStream<TcpStream> {
    fn forget_unsent(&self) {
        self.get_ref().0.forget_unsent();
    }
}

/// Connects to a server, authenticates, and sees that it answers. Returns the stream, and whether the server knows
/// credentials: one that does not is used without.
pub(super) async fn connect(
    options: &Options,
    server: &ServerAddress,
) -> Result<(Box<dyn Stream>, bool), Error> {
    let attempt = async {
        let mut stream =
            open(options, server).await.map_err(|error| Error::caused(ErrorKind::Connect, error))?;
        let is_authenticated = match &options.credentials {
            Some(credentials) => authenticate(&mut stream, credentials).await?,
            None => false,
        };
        match exchange(&mut stream, &Request::of(Opcode::Noop, Bytes::new())).await? {
            Status::OK => Ok((stream, is_authenticated)),
            other => Err(Error::refused(other)),
        }
    };
    let limit = options.connect_timeout;
    timeout(limit, attempt).await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout(limit))))
}

async fn open(options: &Options, server: &ServerAddress) -> io::Result<Box<dyn Stream>> {
    let tcp = connect_tcp(server, options.connect_timeout).await?;
    #[cfg(feature = "tls")]
    if let Some(config) = &options.tls {
        let name = tokio_rustls::rustls::pki_types::ServerName::try_from(server.host.clone());
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        return Ok(Box::new(connector.connect(name.map_err(io::Error::other)?, tcp).await?));
    }
    Ok(Box::new(tcp))
}

async fn connect_tcp(server: &ServerAddress, limit: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((server.host.as_str(), server.port)).await?.collect();
    connect_any(&addresses, limit).await
}

/// Connects to the first address that answers. One that swallows what is sent to it leaves time for the others.
async fn connect_any(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match timeout(share, connect_address(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {share:?}")),
        }
    }
    Err(last)
}

async fn connect_address(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Authenticates by SASL PLAIN and returns true, or false if the server does not support it.
async fn authenticate(stream: &mut Box<dyn Stream>, credentials: &Credentials) -> Result<bool, Error> {
    let login = Request::plain_login(&credentials.username, credentials.password.expose_secret());
    match exchange(stream, &login).await? {
        Status::OK => Ok(true),
        Status::UNKNOWN_COMMAND => Ok(false),
        other => Err(Error::refused(other)),
    }
}

/// Sends a request and returns the status of its response.
async fn exchange(stream: &mut Box<dyn Stream>, request: &Request) -> Result<Status, Error> {
    let mut buffer = BytesMut::new();
    request.put(0, &mut buffer);
    stream.write_all(&buffer).await.map_err(Error::disconnected)?;
    stream.flush().await.map_err(Error::disconnected)?;
    buffer.clear();
    let response = loop {
        if stream.read_buf(&mut buffer).await.map_err(Error::disconnected)? == 0 {
            return Err(Error::closed_by_server());
        }
        if let Some(response) = decode(&mut buffer, LONGEST_GREETING).map_err(Error::protocol)? {
            break response;
        }
    };
    if response.opcode != request.opcode() as u8 {
        return Err(Error::protocol(Malformed::Unexpected("opcode")));
    }
    if !buffer.is_empty() {
        return Err(Error::protocol(Malformed::Unexpected("response")));
    }
    Ok(response.status)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Long enough for a loopback connection on a busy machine, and waited for only where nothing answers.
    const LIMIT: Duration = Duration::from_secs(2);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn refusing() -> SocketAddr {
        listener().await.1
    }

    /// A port whose queue of connections is full: what else is sent there is swallowed.
    async fn swallowing() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            queued.push(stream);
        }
        (listener, queued, address)
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next() {
        let (_listener, open) = listener().await;
        let stream = connect_any(&[refusing().await, open], LIMIT).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
    }

    #[tokio::test]
    async fn an_address_that_swallows_all_is_followed_by_the_next() {
        let (_full, _queued, full) = swallowing().await;
        let (_listener, open) = listener().await;
        let stream = timeout(LIMIT, connect_any(&[full, open], LIMIT)).await.expect("there is time").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
    }

    #[tokio::test]
    async fn the_last_error_is_told_where_no_address_answers() {
        let error = connect_any(&[refusing().await, refusing().await], LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = connect_any(&[], LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
