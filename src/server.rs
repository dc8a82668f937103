//! Accepts connections and serves them, within limits.
//!
//! A slow, silent or greedy client costs the others nothing but one connection. hyper limits the time and size of a
//! request's head and the time between two requests, but waits for a client that does not read for ever, so
//! [`TimeoutWriter`] below it gives up. Pipelined requests are answered one after the other, and read no further ahead
//! than one head may be long.

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::monitor::{Connections, Cut};

/// Connections served at once, where there are file descriptors for so many.
const CONNECTIONS: usize = 8_192;

/// With fewer than this, visitors may have to wait for each other, and a warning says so.
const FEW_CONNECTIONS: usize = 512;

/// With fewer than this there is no server; better one that meets the limit of open files now and then.
const FEWEST_CONNECTIONS: usize = 16;

/// The longest head of a request, in bytes, and how much is read ahead of one.
const LONGEST_HEAD: usize = 16 * 1024;

/// The pause when no connection can be accepted, for lack of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections that have begun may take to be there when the server stops.
const HANDSHAKE: Duration = Duration::from_millis(50);

/// Limits on clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections served at once; others wait to be accepted.
    pub connections: usize,
    /// How long a connection may be idle and take to send a request's head. By default longer than any reverse proxy
    /// keeps one (Heroku's 90 s, nginx 60 s), so that none sends a request just as the server closes it.
    pub head: Duration,
    /// The same once three of four connections are taken. Such a connection has one request.
    pub crowded_head: Duration,
    /// How long a response may wait for a client that reads nothing of it.
    pub unread: Duration,
    /// How long a new connection may take to send its first request when the server stops.
    pub first_request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS,
            head: Duration::from_secs(95),
            crowded_head: Duration::from_secs(5),
            unread: Duration::from_secs(30),
            first_request: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// Raises the process's limit of open files as far as allowed, and returns the limits that leave `reserved` files
    /// for other things than connections.
    #[must_use]
    pub fn for_process(reserved: u64) -> Self {
        let files = rlimit::increase_nofile_limit(rlimit::INFINITY).unwrap_or_else(|error| {
            tracing::warn!("the limit of open files stays as it is: {error}");
            rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft)
        });
        let left = usize::try_from(files.saturating_sub(reserved)).unwrap_or(usize::MAX);
        let connections = left.clamp(FEWEST_CONNECTIONS, CONNECTIONS);
        if connections < FEW_CONNECTIONS {
            tracing::warn!(connections, files, "few connections can be served at once; raise `ulimit -n`");
        }
        Self { connections, ..Self::default() }
    }
}

/// Serves until `stop`, then lets requests under way end. Returns whether they all did within the time that `stop`
/// returns.
pub async fn serve<S>(
    listener: TcpListener,
    site: S,
    limits: Limits,
    counters: Connections,
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
        let site = site.clone();
        let has_asked = Arc::new(Notify::new());
        let asks = Arc::clone(&has_asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            asks.notify_one();
            // Only changes are counted by address, and a request's first extension costs a hash map.
            if !request.method().is_safe() {
                request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
            }
            site.clone().call(request)
        });
        let served =
            serve_connection(stream, service, limits.clone(), is_crowded, stopping.clone(), has_asked);
        let open = counters.open();
        connections.spawn(async move {
            let _permit = permit;
            open.end(served.await);
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
    stopping.cancel();
    if let Err(error) = begin_no_more(&listener) {
        tracing::debug!("connections that begin now may be reset: {error}");
    }
    let rest = async {
        for _ in 0..limits.connections {
            let Ok((stream, peer)) = listener.accept().await else { break };
            serve(stream, peer, None);
        }
    };
    let _ = timeout(HANDSHAKE, rest).await;
    drop(listener);
    connections.close();
    timeout(drain, connections.wait()).await.is_ok()
}

/// Lets no further connection begin, on Linux: a client that asks for one gets no answer, asks again after a second,
/// and is refused by then. Without that, connections are reset that begin between the last `accept` and the end of the
/// listener. Some systems allow it to root alone.
#[cfg(target_os = "linux")]
fn begin_no_more(listener: &TcpListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};

    /// Where the flags are in the head of a TCP segment, and the one that asks for a connection.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;

    // Classic BPF, on segments that arrive for the listener.
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(0x30, 0, 0, FLAGS),    // load the byte
        SockFilter::new(0x45, 0, 1, SYN),      // unless it has the flag, skip one
        SockFilter::new(0x06, 0, 0, 0),        // drop the segment
        SockFilter::new(0x06, 0, 0, u32::MAX), // keep all of it
    ])
}

/// Elsewhere a connection may be reset that begins at just that moment.
#[cfg(not(target_os = "linux"))]
fn begin_no_more(_: &TcpListener) -> io::Result<()> {
    Ok(())
}

/// Serves a connection until its end, or until the request under way is answered once the server stops. `has_asked` is
/// notified of requests. Returns why the connection was cut, if that was its client's doing.
async fn serve_connection<S>(
    stream: TcpStream,
    service: S,
    limits: Limits,
    is_crowded: bool,
    stopping: CancellationToken,
    has_asked: Arc<Notify>,
) -> Option<Cut>
where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let accepted = Instant::now();
    // Responses are written whole, so waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let mut connection = pin!(connection(stream, service, &limits, is_crowded));
    // At once, hyper would close a connection whose first request is still on its way.
    let shutdown = async {
        stopping.cancelled().await;
        let _ = timeout_at(accepted + limits.first_request, has_asked.notified()).await;
    };
    let result = tokio::select! {
        // The connection first, so that it reads what has come before it is shut down.
        biased;
        result = connection.as_mut() => result,
        () = shutdown => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let error = result.err()?;
    tracing::debug!("connection ended: {error}");
    cut(&error)
}

type Io<T> = TokioIo<Pin<Box<TimeoutWriter<T>>>>;

fn connection<T, S>(stream: T, service: S, limits: &Limits, is_crowded: bool) -> http1::Connection<Io<T>, S>
where
    T: AsyncRead + AsyncWrite,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(limits.unread));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if is_crowded { limits.crowded_head } else { limits.head })
        .keep_alive(!is_crowded)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
}

fn cut(error: &hyper::Error) -> Option<Cut> {
    let is_unread = || {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
    };
    if error.is_parse() {
        Some(Cut::Malformed)
    } else if error.is_timeout() {
        Some(Cut::Late)
    } else {
        is_unread().then_some(Cut::Unread)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use hyper_util::service::TowerToHyperService;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    #[cfg(target_os = "linux")]
    use testkit::process::leave_out;
    use testkit::within_reason;

    const SECOND: Duration = Duration::from_secs(1);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    type End = (Result<(), Option<Cut>>, Duration);

    fn site() -> Router {
        Router::new().route("/", get(|| async { vec![b'x'; 100_000] }))
    }

    /// Serves one client, over a stream that holds 1 KiB. Returns how that ends, and after how long.
    fn connect(is_crowded: bool) -> (DuplexStream, JoinHandle<End>) {
        let (client, stream) = duplex(1024);
        let connection = connection(stream, TowerToHyperService::new(site()), &Limits::default(), is_crowded);
        let started = Instant::now();
        let served = async move {
            let end = timeout(3600 * SECOND, connection).await.expect("it ends");
            (end.map_err(|error| cut(&error)), started.elapsed())
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
            let head = [b"GET / HTTP/1.1\r\nhost: ", &[b'x'; 100][..]].concat();
            for byte in head {
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
    async fn a_response_that_nobody_reads_is_given_up() {
        let (mut client, served) = connect(false);
        client.write_all(GET).await.unwrap();
        assert_cut(&served.await.unwrap(), Cut::Unread, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_read_slowly_is_not() {
        let (mut client, served) = connect(false);
        client.write_all(GET).await.unwrap();
        let mut length = 0;
        while let Ok(read @ 1..) = client.read(&mut [0; 1024]).await {
            length += read;
            sleep(20 * SECOND).await;
        }
        assert!(length > 100_000);
        let (end, took) = served.await.unwrap();
        assert!(end.is_ok() && took > 1000 * SECOND, "{end:?} after {took:?}");
    }

    // The first connection is accepted, and its request comes late; the second waits for the first to end.
    #[tokio::test]
    async fn connections_made_before_the_end_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let limits = Limits { connections: 1, first_request: 600 * SECOND, ..Limits::default() };
        let stopped = async { stopped.await.unwrap() };
        let server = tokio::spawn(serve(listener, site(), limits, Connections::default(), stopped));
        let [mut accepted, mut waiting] =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        waiting.write_all(GET).await.unwrap();
        stop.send(600 * SECOND).unwrap();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        accepted.write_all(GET).await.unwrap();
        for mut client in [accepted, waiting] {
            let mut response = vec![];
            client.read_to_end(&mut response).await.unwrap();
            assert!(response.starts_with(b"HTTP/1.1 200 "), "{} bytes", response.len());
        }
        assert!(server.await.unwrap(), "both ended by themselves");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_that_begins_too_late_is_neither_made_nor_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut early = TcpStream::connect(address).await.unwrap();
        match begin_no_more(&listener) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => leave_out("socket filters"),
            begun => begun.unwrap(),
        }
        timeout(SECOND / 10, TcpStream::connect(address)).await.unwrap_err();
        let (mut accepted, _) = listener.accept().await.unwrap();
        drop(listener);
        accepted.write_all(b"served").await.unwrap();
        assert_eq!(early.read(&mut [0; 6]).await.unwrap(), 6);
    }

    #[tokio::test]
    async fn an_idle_connection_that_was_served_once_ends_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let limits = Limits { head: 600 * SECOND, first_request: 600 * SECOND, ..Limits::default() };
        let stopped = async { stopped.await.unwrap() };
        let server = tokio::spawn(serve(listener, site(), limits, Connections::default(), stopped));
        client.write_all(b"HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
        stop.send(600 * SECOND).unwrap();
        assert_eq!(within_reason("it is closed", client.read(&mut [0; 1024])).await.unwrap(), 0);
        assert!(server.await.unwrap(), "it ended by itself");
    }
}
