//! An HTTP service whose every answer is chosen by a test, byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

/// Ends with the runtime of its test.
pub struct Upstream {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

/// What it does when it is called.
#[derive(Clone)]
pub enum Reply {
    /// Sends these bytes and hangs up.
    Bytes(Vec<u8>),
    Late(Duration, Vec<u8>),
    /// Sends these bytes once it may.
    Held(watch::Receiver<bool>, Vec<u8>),
    /// Sends these bytes, and then the second ones again and again for as long as they are taken.
    Endless(Vec<u8>, Vec<u8>),
    /// As [`Reply::Endless`], with a pause before each.
    Dribbled(Vec<u8>, Vec<u8>),
    Nothing,
}

impl Upstream {
    /// `behaviour` gets the number of the call, from 1, and the head of the request.
    pub async fn start(behaviour: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, behaviour).await
    }

    /// Speaks TLS. Returns the certificate to trust it by as well.
    pub async fn start_with_tls(
        behaviour: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
    ) -> (Self, CertificateDer<'static>) {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
        let certificate = own.cert.der().clone();
        let tls = ServerConfig::builder_with_provider(ring::default_provider().into());
        let tls = tls.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let tls = tls.with_single_cert(vec![certificate.clone()], own.signing_key.into()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        (Self::listen(Some(acceptor), behaviour).await, certificate)
    }

    async fn listen(
        tls: Option<TlsAcceptor>,
        behaviour: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self { address: listener.local_addr().unwrap(), calls: Arc::default() };
        let (behaviour, calls) = (Arc::new(behaviour), upstream.calls.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (behaviour, calls, tls) = (behaviour.clone(), calls.clone(), tls.clone());
                // An error is a client that has hung up, as is its right.
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => converse(tls.accept(stream).await?, &calls, &*behaviour).await,
                        None => converse(stream, &calls, &*behaviour).await,
                    }
                });
            }
        });
        upstream
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Reply {
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::Bytes(response("200 OK", body))
    }

    pub fn status(status: &str) -> Self {
        Self::Bytes(response(status, "not well"))
    }

    pub fn redirect(location: &str) -> Self {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        Self::Bytes(head.into())
    }
}

/// A whole response.
pub fn response(status: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    calls: &AtomicUsize,
    behaviour: &(impl Fn(usize, &str) -> Reply + Sync),
) -> std::io::Result<()> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
    match behaviour(number, &String::from_utf8_lossy(&head)) {
        Reply::Bytes(bytes) => send(stream, &bytes).await,
        Reply::Late(pause, bytes) => {
            tokio::time::sleep(pause).await;
            send(stream, &bytes).await
        }
        Reply::Held(mut is_over, bytes) => {
            let _ = is_over.wait_for(|is_over| *is_over).await;
            send(stream, &bytes).await
        }
        Reply::Endless(head, piece) => repeat(stream, &head, &piece, Duration::ZERO).await,
        Reply::Dribbled(head, piece) => repeat(stream, &head, &piece, Duration::from_millis(200)).await,
        Reply::Nothing => std::future::pending().await,
    }
}

async fn send(mut stream: impl AsyncWrite + Unpin, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.shutdown().await
}

async fn repeat(
    mut stream: impl AsyncWrite + Unpin,
    head: &[u8],
    piece: &[u8],
    pause: Duration,
) -> std::io::Result<()> {
    stream.write_all(head).await?;
    loop {
        stream.write_all(piece).await?;
        tokio::time::sleep(pause).await;
    }
}
