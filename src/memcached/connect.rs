//! Making a connection: all addresses of a name are tried, then TLS, then the login.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::ErrorKind;
use super::options::{Credentials, Options, ServerAddress};
use super::protocol::{Malformed, Opcode, Request, Response, Status, decode};

/// A byte stream to a server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to a server. Has no time limit of its own.
pub(super) async fn connect(options: &Options, server: &ServerAddress) -> Result<Box<dyn Stream>, ErrorKind> {
    let tcp = connect_tcp(server).await.map_err(|error| ErrorKind::Connect(error.to_string().into()))?;
    let Some(config) = &options.tls else { return Ok(Box::new(tcp)) };
    let failed = |error: &dyn std::error::Error| ErrorKind::Connect(format!("TLS: {error}").into());
    let name = ServerName::try_from(server.host.clone()).map_err(|error| failed(&error))?;
    let tls = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
    Ok(Box::new(tls.map_err(|error| failed(&error))?))
}

async fn connect_tcp(server: &ServerAddress) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((server.host.as_str(), server.port)).await? {
        match connect_address(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
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
    match exchange(stream, &[login]).await?.status {
        Status::OK => Ok(true),
        Status::UNKNOWN_COMMAND => Ok(false),
        Status::UNAUTHENTICATED => Err(ErrorKind::Authentication),
        other => Err(ErrorKind::Protocol(format!("login: {other}").into())),
    }
}

/// Deletes keys, which may be none, and waits until the server has said so.
pub(super) async fn delete_all(stream: &mut Box<dyn Stream>, keys: &[Bytes]) -> Result<(), ErrorKind> {
    let deletes = keys.iter().map(|key| Request::of(Opcode::DeleteQuiet, key.clone()));
    let requests: Vec<_> = deletes.chain([Request::of(Opcode::Noop, Bytes::new())]).collect();
    match exchange(stream, &requests).await?.status {
        Status::UNAUTHENTICATED => Err(ErrorKind::Authentication),
        _ => Ok(()),
    }
}

/// Sends requests and returns the answer to the last.
async fn exchange(stream: &mut Box<dyn Stream>, requests: &[Request]) -> Result<Response, ErrorKind> {
    let closed = |error: io::Error| ErrorKind::Closed(error.to_string().into());
    let mut buffer = BytesMut::new();
    for (opaque, request) in (0..).zip(requests) {
        request.put(opaque, &mut buffer);
    }
    stream.write_all(&buffer).await.map_err(closed)?;
    stream.flush().await.map_err(closed)?;
    buffer.clear();
    loop {
        let malformed = |error: Malformed| ErrorKind::Protocol(error.to_string().into());
        while let Some(response) = decode(&mut buffer).map_err(malformed)? {
            if response.opaque as usize + 1 == requests.len() {
                return Ok(response);
            }
        }
        if stream.read_buf(&mut buffer).await.map_err(closed)? == 0 {
            return Err(ErrorKind::Closed("by the server".into()));
        }
    }
}
