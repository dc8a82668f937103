//! Lines between clients and a server, to which anything may happen that happens to lines: what passes is held and goes
//! on late, is lost without a word, is delayed, or the line is cut.
//!
//! [`Proxy`](super::proxy::Proxy) waits for one message of which a test knows what it says; a line does the same to
//! whatever passes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::proxy::contains;
use super::statements::Statements;

/// One client's line to the server. Ends with the runtime of its test.
#[derive(Clone)]
pub struct Line {
    pub address: SocketAddr,
    /// What the first message of a client contains; nothing means that it is everybody's line.
    client: String,
    weather: Arc<watch::Sender<Weather>>,
    counts: Arc<Counts>,
    delays: Arc<Delays>,
}

/// What happens on a line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Weather {
    #[default]
    Fair,
    /// What comes goes on to its half, and to its end when the weather changes, even if its sender has left by then.
    Hold,
    /// What comes is lost, and all that comes after it on the same connection. Nobody is told.
    Drop,
    /// What comes is late, each time by up to so much.
    Delay(Duration),
    /// Connections are closed, new ones too.
    Cut,
    /// An answer that contains one of these is never given, nor is anything after it.
    Catch(&'static [&'static str]),
}

#[derive(Default)]
struct Counts {
    bytes: AtomicUsize,
    list_queries: AtomicUsize,
    caught: watch::Sender<usize>,
}

/// The lateness of a line's delayed messages, the same in each run as far as they come in the same order.
struct Delays(Mutex<Rng>);

impl Default for Delays {
    fn default() -> Self {
        Self(Mutex::new(Rng::with_seed(1)))
    }
}

impl Delays {
    fn next(&self, longest: Duration) -> Duration {
        longest.mul_f64(self.0.lock().unwrap().f64())
    }
}

impl Line {
    /// Makes the lines to a server that clients reach at one address, as they must where the address decides which
    /// server has a key. Whose connection it is shows in its first message, a login.
    pub async fn start(upstream: String, clients: &[&str]) -> Vec<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = |client: &&str| Self {
            address,
            client: (*client).to_owned(),
            weather: Arc::default(),
            counts: Arc::default(),
            delays: Arc::default(),
        };
        let lines: Vec<_> = clients.iter().map(line).collect();
        tokio::spawn(accept(listener, upstream, lines.clone()));
        lines
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// How many bytes have come from the client so far.
    pub fn bytes(&self) -> usize {
        self.counts.bytes.load(Ordering::SeqCst)
    }

    /// How often the list was asked for so far, if the server is a Postgres.
    pub fn list_queries(&self) -> usize {
        self.counts.list_queries.load(Ordering::SeqCst)
    }

    /// How many answers were caught so far.
    pub fn caught(&self) -> usize {
        *self.counts.caught.borrow()
    }
}

async fn accept(listener: TcpListener, upstream: String, lines: Vec<Line>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (upstream, lines) = (upstream.clone(), lines.clone());
        tokio::spawn(async move {
            let mut first = vec![0; 4096];
            let Ok(length @ 1..) = client.read(&mut first).await else { return };
            let Some(line) = lines.iter().find(|line| contains(&first[..length], &line.client)) else {
                return;
            };
            // A server that is gone refuses; so does the line.
            let Ok(server) = TcpStream::connect(&upstream).await else { return };
            line.carry(client, server, &first[..length]).await;
        });
    }
}

impl Line {
    /// Carries what passes until either end hangs up or the line is cut.
    async fn carry(&self, mut client: TcpStream, mut server: TcpStream, first: &[u8]) {
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a connected socket has options");
        }
        let mut weather = self.weather.subscribe();
        let mut statements = Statements::default();
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let there = self.pass(first.chain(from_client), to_server, |message| {
            self.counts.bytes.fetch_add(message.len(), Ordering::SeqCst);
            self.counts.list_queries.fetch_add(statements.list_queries_in(message), Ordering::SeqCst);
            false
        });
        let back = self.pass(from_server, to_client, |message| self.is_to_be_caught(message));
        tokio::select! {
            () = there => {}
            () = back => {}
            _ = weather.wait_for(|weather| *weather == Weather::Cut) => {}
        }
    }

    fn is_to_be_caught(&self, message: &[u8]) -> bool {
        let Weather::Catch(marks) = *self.weather.borrow() else { return false };
        marks.iter().any(|mark| contains(message, mark))
    }

    async fn pass(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        mut catches: impl FnMut(&[u8]) -> bool,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let mut message = &buffer[..length];
            if catches(message) {
                self.counts.caught.send_modify(|caught| *caught += 1);
                return swallow(from).await;
            }
            let weather = *self.weather.borrow();
            match weather {
                Weather::Fair | Weather::Catch(_) => {}
                Weather::Hold => {
                    let (half, rest) = message.split_at(length / 2);
                    if to.write_all(half).await.is_err() {
                        return;
                    }
                    let _ = self.weather.subscribe().wait_for(|weather| *weather != Weather::Hold).await;
                    message = rest;
                }
                Weather::Drop => return swallow(from).await,
                Weather::Delay(longest) => tokio::time::sleep(self.delays.next(longest)).await,
                Weather::Cut => return,
            }
            if to.write_all(message).await.is_err() {
                return;
            }
        }
    }
}

/// Reads and forgets, until the sender hangs up.
async fn swallow(mut from: impl AsyncRead + Unpin) {
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}
