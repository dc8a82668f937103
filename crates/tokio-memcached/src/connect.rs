//! Making a connection: all addresses of a name are tried, then TLS, then the login.

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

use super::error::ErrorKind;
use super::options::{Credentials, Options, ServerAddress};
use super::protocol::{Malformed, Opcode, Request, Response, Status, decode};

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

/// Connects to a server. Has no time limit of its own for all of it; no address has more than its share.
pub(super) async fn connect(options: &Options, server: &ServerAddress) -> Result<Box<dyn Stream>, ErrorKind> {
    let tcp = connect_tcp(server, options.connect_timeout).await;
    let tcp = tcp.map_err(|error| ErrorKind::Connect(error.to_string().into()))?;
    #[cfg(feature = "tls")]
    if let Some(config) = &options.tls {
        return Ok(Box::new(encrypt(tcp, server, config).await?));
    }
    Ok(Box::new(tcp))
}

#[cfg(feature = "tls")]
async fn encrypt(
    tcp: TcpStream,
    server: &ServerAddress,
    config: &std::sync::Arc<tokio_rustls::rustls::ClientConfig>,
) -> Result<TlsStream<TcpStream>, ErrorKind> {
    let failed = |error: &dyn std::error::Error| ErrorKind::Connect(format!("TLS: {error}").into());
    let name = tokio_rustls::rustls::pki_types::ServerName::try_from(server.host.clone());
    let name = name.map_err(|error| failed(&error))?;
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    connector.connect(name, tcp).await.map_err(|error| failed(&error))
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

/// Logs in with SASL PLAIN and returns true, or false if the server does not know logins and is used without.
pub(super) async fn log_in(
    stream: &mut Box<dyn Stream>,
    credentials: &Credentials,
) -> Result<bool, ErrorKind> {
    let login = Request::plain_login(&credentials.username, credentials.password.expose_secret());
    match exchange(stream, &login).await?.status {
        Status::OK => Ok(true),
        Status::UNKNOWN_COMMAND => Ok(false),
        Status::UNAUTHENTICATED => Err(ErrorKind::Authentication),
        other => Err(ErrorKind::Refused(other)),
    }
}

/// Sees that the server answers, and knows the user.
pub(super) async fn greet(stream: &mut Box<dyn Stream>) -> Result<(), ErrorKind> {
    match exchange(stream, &Request::of(Opcode::Noop, Bytes::new())).await?.status {
        Status::OK => Ok(()),
        Status::UNAUTHENTICATED => Err(ErrorKind::Authentication),
        other => Err(ErrorKind::Refused(other)),
    }
}

/// Sends a request and returns its response.
async fn exchange(stream: &mut Box<dyn Stream>, request: &Request) -> Result<Response, ErrorKind> {
    let closed = |error: io::Error| ErrorKind::Closed(error.to_string().into());
    let protocol = |text: &str| ErrorKind::Protocol(text.into());
    let mut buffer = BytesMut::new();
    request.put(0, &mut buffer);
    stream.write_all(&buffer).await.map_err(closed)?;
    stream.flush().await.map_err(closed)?;
    buffer.clear();
    loop {
        match decode(&mut buffer).map_err(|error: Malformed| protocol(&error.to_string()))? {
            Some(response) if response.opcode != request.opcode() as u8 => {
                return Err(protocol("unexpected opcode"));
            }
            Some(_) if !buffer.is_empty() => return Err(protocol("unexpected answer")),
            Some(response) => return Ok(response),
            None => {}
        }
        if stream.read_buf(&mut buffer).await.map_err(closed)? == 0 {
            return Err(ErrorKind::Closed("by the server".into()));
        }
    }
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
