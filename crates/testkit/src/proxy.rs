//! A TCP proxy that can hold a message on its way to the server, or the answer, so that a test decides when it arrives,
//! if ever.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::within_reason;

pub struct Proxy {
    pub address: SocketAddr,
    orders: watch::Sender<Orders>,
    held: Arc<watch::Sender<usize>>,
    accepted: Arc<AtomicUsize>,
    messages: Messages,
}

/// All that has come from clients.
type Messages = Arc<Mutex<Vec<Vec<u8>>>>;

/// What the connections are to do.
#[derive(Clone, Copy, Default)]
struct Orders {
    /// What a message must contain to be held.
    mark: Option<&'static str>,
    /// What an answer must contain to be held.
    held_answer: Option<&'static str>,
    /// What a message must contain to be left without an answer.
    unanswered: Option<&'static str>,
    /// Connections up to this number never go on: as if a cable had been cut, which nobody is told.
    lost: usize,
    /// How long each message is on its way to the server.
    distance: Duration,
}

impl Proxy {
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self {
            address,
            orders: watch::Sender::default(),
            held: Arc::default(),
            accepted: Arc::default(),
            messages: Arc::default(),
        };
        let (orders, held, accepted) = (proxy.orders.subscribe(), proxy.held.clone(), proxy.accepted.clone());
        let messages = proxy.messages.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst) + 1;
                // A server that is gone refuses; so does the proxy.
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                // What a client sends in small parts must not wait for the server's acknowledgement of each.
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let (orders, held, messages) = (orders.clone(), held.clone(), messages.clone());
                let connection = Connection { number, orders, held, messages };
                tokio::spawn(connection.forward(client, server));
            }
        });
        proxy
    }

    /// From now on keeps whatever contains `mark`, and what comes after it on the same connection.
    pub fn hold(&self, mark: &'static str) {
        self.orders.send_modify(|orders| orders.mark = Some(mark));
    }

    /// From now on keeps each answer that contains `mark`, and what comes after it on the same connection.
    pub fn hold_answers(&self, mark: &'static str) {
        self.orders.send_modify(|orders| orders.held_answer = Some(mark));
    }

    /// Lets whatever contains `mark` go on, but cuts its connection when it is answered.
    pub fn lose_answer_to(&self, mark: &'static str) {
        self.orders.send_modify(|orders| orders.unanswered = Some(mark));
    }

    /// From now on each message takes so long to the server.
    pub fn set_distance(&self, distance: Duration) {
        self.orders.send_modify(|orders| orders.distance = distance);
    }

    /// How often something has come from clients so far: what one write sends comes at once, up to 64 KiB.
    pub fn messages(&self) -> usize {
        self.messages_with("")
    }

    /// How often something that contains `mark` has come from clients.
    pub fn messages_with(&self, mark: &str) -> usize {
        self.messages.lock().unwrap().iter().filter(|message| contains(message, mark)).count()
    }

    /// Waits until something is held.
    pub async fn wait_for_held(&self) {
        let mut held = self.held.subscribe();
        within_reason("something is held", held.wait_for(|held| *held > 0)).await.unwrap();
    }

    /// Lets what is held go on.
    pub fn release(&self) {
        self.orders.send_modify(|orders| (orders.mark, orders.held_answer) = (None, None));
    }

    /// Never lets anything of the connections made so far go on; new ones work.
    pub fn lose(&self) {
        let lost = self.accepted.load(Ordering::SeqCst);
        self.orders.send_modify(|orders| *orders = Orders { lost, ..Orders::default() });
    }
}

struct Connection {
    number: usize,
    orders: watch::Receiver<Orders>,
    held: Arc<watch::Sender<usize>>,
    messages: Messages,
}

impl Connection {
    async fn forward(mut self, client: TcpStream, server: TcpStream) {
        let (mut from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let is_mute = Arc::new(AtomicBool::new(false));
        let answers =
            Answers { orders: self.orders.clone(), held: self.held.clone(), is_mute: is_mute.clone() };
        tokio::spawn(answers.forward(from_server, to_client));
        let (way, on_the_way) = mpsc::unbounded_channel();
        tokio::spawn(deliver(on_the_way, to_server));
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let message = &buffer[..length];
            self.messages.lock().unwrap().push(message.to_vec());
            self.wait_until_allowed(message).await;
            if self.orders.borrow().unanswered.is_some_and(|mark| contains(message, mark)) {
                is_mute.store(true, Ordering::SeqCst);
            }
            let arrives = Instant::now() + self.orders.borrow().distance;
            if way.send((arrives, message.to_vec())).is_err() {
                return;
            }
        }
    }

    async fn wait_until_allowed(&mut self, message: &[u8]) {
        let is_held = |mark| contains(message, mark);
        let must_wait = |orders: &Orders| orders.lost >= self.number || orders.mark.is_some_and(is_held);
        if must_wait(&self.orders.borrow()) {
            self.held.send_modify(|held| *held += 1);
        }
        let _ = self.orders.wait_for(|orders| !must_wait(orders)).await;
    }
}

/// Passes messages on to the server, each when it arrives there.
async fn deliver(mut on_the_way: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>, mut server: OwnedWriteHalf) {
    while let Some((arrives, message)) = on_the_way.recv().await {
        sleep_until(arrives).await;
        if server.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// The way back of a connection.
struct Answers {
    orders: watch::Receiver<Orders>,
    held: Arc<watch::Sender<usize>>,
    is_mute: Arc<AtomicBool>,
}

impl Answers {
    /// Passes on what the server says, up to the answer that must not arrive: then it hangs up.
    async fn forward(mut self, mut server: OwnedReadHalf, mut client: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = server.read(&mut buffer).await {
            if self.is_mute.load(Ordering::SeqCst) {
                return;
            }
            self.wait_until_allowed(&buffer[..length]).await;
            if client.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }

    async fn wait_until_allowed(&mut self, answer: &[u8]) {
        let must_wait = |orders: &Orders| orders.held_answer.is_some_and(|mark| contains(answer, mark));
        if must_wait(&self.orders.borrow()) {
            self.held.send_modify(|held| *held += 1);
        }
        let _ = self.orders.wait_for(|orders| !must_wait(orders)).await;
    }
}

/// Returns whether a message has a mark in it; the empty one is in all of them.
pub(super) fn contains(message: &[u8], mark: &str) -> bool {
    mark.is_empty() || message.windows(mark.len()).any(|part| part == mark.as_bytes())
}
