//! Accepts connections and serves them, within limits.
//!
//! A client may be slow, silent, greedy or confused, and costs the others nothing but its place: a head has a time and
//! a size, an idle connection a time, and so has an answer that its client does not read. hyper knows the first two; it
//! waits for a reader for ever, so the stream below it gives up. (`TCP_USER_TIMEOUT` would let the kernel do so, on
//! Linux only, and where no test can turn the clock.) Requests that a client sends ahead are answered one after the
//! other, and read no further ahead than one head may be long.

mod descriptors;

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::{Method, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::monitor::{Connections, Cut, Open};

/// Connections served at once, where there are file descriptors for so many.
const CONNECTIONS: usize = 8_192;

/// So few that visitors may have to wait for each other: who runs the server is told.
const FEW_CONNECTIONS: usize = 512;

/// The longest head of a request, in bytes, and how much is read ahead of one.
const LONGEST_HEAD: usize = 16 * 1024;

/// How long one that has just been made may still say its first word once we stop: it was accepted, and so is its
/// request.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// What passes when none can be accepted, for lack of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections served at once; others wait to be accepted.
    pub connections: usize,
    /// How long a connection may take to send a request's head, and so how long it may be idle before one. By default
    /// longer than any router keeps it (Heroku's 90 s, nginx 60 s), so that none sends a request just as we hang up.
    /// For its first request a connection has that twice: until the first byte, and from then on.
    pub head: Duration,
    /// The same once three of four connections are taken. Such a connection has one request.
    pub crowded_head: Duration,
    /// How long an answer may wait for a client that reads nothing of it.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS,
            head: Duration::from_secs(95),
            crowded_head: Duration::from_secs(5),
            unread: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Lets the process open as many files as it may, of which it needs so many for other things than connections, and
    /// returns its limits.
    #[must_use]
    pub fn for_process(reserved: u64) -> Self {
        let files = descriptors::raise_limit();
        let connections = descriptors::connections(files, reserved, CONNECTIONS);
        if connections < FEW_CONNECTIONS {
            tracing::warn!(connections, files, "few connections can be served at once; raise `ulimit -n`");
        }
        Self { connections, ..Self::default() }
    }

    fn head(&self, is_crowded: bool) -> Duration {
        if is_crowded { self.crowded_head } else { self.head }
    }
}

/// Serves until `stop`, then lets requests under way end. Returns whether they all did within the time that `stop`
/// says.
pub async fn serve<S>(
    listener: TcpListener,
    site: S,
    limits: Limits,
    seen: Connections,
    stop: impl Future<Output = Duration>,
) -> bool
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let permits = Arc::new(Semaphore::new(limits.connections));
    let (connections, stopping) = (TaskTracker::new(), CancellationToken::new());
    let serve = |stream, peer, permit| {
        let is_crowded = permits.available_permits() < limits.connections / 4;
        let site = Site { site: site.clone(), peer };
        let connection = converse(stream, site, limits.clone(), is_crowded, seen.open(), stopping.clone());
        connections.spawn(async move {
            let _permit = permit;
            connection.await;
        });
    };
    let mut stop = pin!(stop);
    let drain = loop {
        let accept = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            (permit, accepted) = accept => match accepted {
                Ok((stream, peer)) => serve(stream, peer, Some(permit)),
                Err(error) => {
                    tracing::warn!("no connection can be accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            drain = &mut stop => break drain,
        }
    };
    for (stream, peer) in close(listener, limits.connections) {
        serve(stream, peer, None);
    }
    stopping.cancel();
    connections.close();
    timeout(drain, connections.wait()).await.is_ok()
}

/// Closes the door behind those who wait before it. For them it is open: the kernel has taken their connection, and
/// would cut it with the request that it may carry already. The last look and the closing are two calls with nothing
/// between. Where more keep coming, so many are let in.
fn close(listener: TcpListener, most: usize) -> Vec<(TcpStream, SocketAddr)> {
    let mut waiting = vec![];
    let Ok(listener) = listener.into_std() else { return waiting };
    while waiting.len() < most {
        match listener.accept().map(|(stream, peer)| (into_tokio(stream), peer)) {
            Ok((Ok(stream), peer)) => waiting.push((stream, peer)),
            Ok((Err(_), _)) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => break,
        }
    }
    waiting
}

fn into_tokio(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Serves a connection until its end, or until the request under way is answered once we stop.
async fn converse<S>(
    stream: TcpStream,
    site: Site<S>,
    limits: Limits,
    is_crowded: bool,
    open: Open,
    stopping: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone,
{
    // Answers are written whole, so waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let is_given_up = async {
        stopping.cancelled().await;
        sleep(FIRST_WORD).await;
    };
    // hyper hangs up on whoever has said nothing yet when it is told to stop. A look, since a stream may seem readable
    // and not be.
    let mut first = [0];
    tokio::select! {
        _ = stream.peek(&mut first) => {}
        () = is_given_up => return,
        () = sleep(limits.head(is_crowded)) => return open.end(Some(Cut::Late)),
    }
    let mut connection = pin!(connection(stream, site, &limits, is_crowded));
    let result = tokio::select! {
        // First, so that it hears what has come before it is told.
        biased;
        result = connection.as_mut() => result,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("connection ended: {error}");
        open.end(reason(&error));
    }
}

type Io<S> = TokioIo<Pin<Box<TimeoutWriter<S>>>>;

fn connection<T, S>(
    stream: T,
    site: Site<S>,
    limits: &Limits,
    is_crowded: bool,
) -> http1::Connection<Io<T>, Site<S>>
where
    T: AsyncRead + AsyncWrite,
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone,
{
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(limits.unread));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head(is_crowded))
        .keep_alive(!is_crowded)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), site)
}

/// Returns why a connection was cut, if it was its client's doing.
fn reason(error: &hyper::Error) -> Option<Cut> {
    let is_unread = || {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
    };
    if error.is_parse() {
        Some(Cut::Malformed)
    } else if error.is_timeout() {
        Some(Cut::Late)
    } else if is_unread() {
        Some(Cut::Unread)
    } else {
        None
    }
}

/// The site, as one connection meets it.
struct Site<S> {
    site: S,
    peer: SocketAddr,
}

impl<S> hyper::service::Service<Request<Incoming>> for Site<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone,
{
    type Response = Response;
    type Error = Infallible;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        // Only these are counted by address, so only they pay for knowing it.
        if request.method() == Method::POST {
            request.extensions_mut().insert(ConnectInfo(self.peer));
        }
        self.site.clone().call(request)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    type End = (Result<(), Option<Cut>>, Duration);

    /// Serves one client, on a line that holds 1 KiB; says how that ends, and after how long.
    fn connect(is_crowded: bool) -> (DuplexStream, JoinHandle<End>) {
        let (client, stream) = duplex(1024);
        let router = Router::new().route("/", get(|| async { vec![b'x'; 100_000] }));
        let site = Site { site: router, peer: ([127, 0, 0, 1], 1).into() };
        let connection = connection(stream, site, &Limits::default(), is_crowded);
        let started = Instant::now();
        let served = async move {
            let end = timeout(3600 * SECOND, connection).await.expect("it ends");
            (end.map_err(|error| reason(&error)), started.elapsed())
        };
        (client, tokio::spawn(served))
    }

    #[track_caller]
    fn assert_cut(end: &End, cut: Cut, after: u64) {
        assert_eq!((end.0, end.1.as_secs()), (Err(Some(cut)), after));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_by_the_byte_has_so_long_to_come() {
        let (mut client, served) = connect(false);
        let slowly = async move {
            let head =
                format!("GET / HTTP/1.1\r\nhost: localhost\r\naccept: {}\r\n\r\n", "everything".repeat(10));
            for byte in head.bytes() {
                client.write_all(&[byte]).await.unwrap();
                sleep(SECOND).await;
            }
        };
        let slow = tokio::spawn(slowly);
        assert_cut(&served.await.unwrap(), Cut::Late, 95);
        assert!(slow.await.is_err(), "it is told that the connection is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_and_where_there_are_many_sooner() {
        for (is_crowded, after) in [(false, 95), (true, 5)] {
            let (_client, served) = connect(is_crowded);
            assert_cut(&served.await.unwrap(), Cut::Late, after);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let (mut client, served) = connect(false);
        client.write_all(&b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(10)).await.unwrap();
        assert_cut(&served.await.unwrap(), Cut::Unread, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_slowly_is_not() {
        let (mut client, served) = connect(false);
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut length = 0;
        while let Ok(read @ 1..) = client.read(&mut [0; 1024]).await {
            length += read;
            sleep(20 * SECOND).await;
        }
        assert!(length > 100_000);
        let (end, took) = served.await.unwrap();
        assert!(end.is_ok() && took > 1000 * SECOND, "{end:?} after {took:?}");
    }
}
