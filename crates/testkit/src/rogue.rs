//! A server whose every answer is chosen by a test: late, wrong, in pieces, or none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const GET: u8 = 0x00;
const GET_QUIET: u8 = 0x09;
const NOOP: u8 = 0x0a;

/// Speaks the binary protocol as far as it is told to. Ends with the runtime of its test.
pub struct Rogue {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

/// What a client asks.
pub struct Question {
    /// On which connection, from 1.
    pub connection: usize,
    /// Which of that connection's requests, from 1.
    pub number: usize,
    pub opcode: u8,
    pub opaque: u32,
    pub extras: Vec<u8>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// What the rogue does about it.
pub enum Answer {
    Bytes(Vec<u8>),
    /// Byte by byte, each in a packet of its own.
    Dribbled(Vec<u8>),
    Late(Duration, Vec<u8>),
    /// The last bytes of this connection.
    Last(Vec<u8>),
    Nothing,
}

impl Rogue {
    pub async fn start(behaviour: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0", behaviour).await
    }

    pub async fn listen(
        address: &str,
        behaviour: impl Fn(&Question) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let rogue = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            bytes: Arc::default(),
        };
        let behaviour = Arc::new(behaviour);
        let (connections, requests, bytes) =
            (rogue.connections.clone(), rogue.requests.clone(), rogue.bytes.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (behaviour, requests, bytes) = (behaviour.clone(), requests.clone(), bytes.clone());
                // An error is a client that has hung up, as is its right.
                tokio::spawn(async move {
                    let heard = (&*requests, &*bytes);
                    let _ = converse(stream, connection, heard, &*behaviour).await;
                });
            }
        });
        rogue
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many requests have come in whole.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// How many bytes have come in.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
}

async fn converse(
    mut stream: TcpStream,
    connection: usize,
    (requests, bytes): (&AtomicUsize, &AtomicUsize),
    behaviour: &(impl Fn(&Question) -> Answer + Sync),
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    for number in 1.. {
        let mut header = [0; 24];
        stream.read_exact(&mut header).await?;
        let number_at = |place: usize| u32::from_be_bytes(header[place..place + 4].try_into().unwrap());
        let mut body = vec![0; number_at(8) as usize];
        stream.read_exact(&mut body).await?;
        bytes.fetch_add(header.len() + body.len(), Ordering::SeqCst);
        requests.fetch_add(1, Ordering::SeqCst);
        let (key_length, extras) = (u16::from_be_bytes([header[2], header[3]]), usize::from(header[4]));
        let (extras, rest) = body.split_at(extras);
        let (key, value) = rest.split_at(usize::from(key_length));
        let [extras, key, value] = [extras, key, value].map(<[u8]>::to_vec);
        let question =
            Question { connection, number, opcode: header[1], opaque: number_at(12), extras, key, value };
        match behaviour(&question) {
            Answer::Bytes(answer) => stream.write_all(&answer).await?,
            Answer::Dribbled(answer) => {
                for byte in answer {
                    stream.write_all(&[byte]).await?;
                    tokio::task::yield_now().await;
                }
            }
            Answer::Late(delay, answer) => {
                tokio::time::sleep(delay).await;
                stream.write_all(&answer).await?;
            }
            Answer::Last(answer) => {
                stream.write_all(&answer).await?;
                return stream.shutdown().await;
            }
            Answer::Nothing => {}
        }
    }
    Ok(())
}

impl Question {
    /// Whether this is what the client sends before anything else, to see whether somebody answers.
    pub fn is_greeting(&self) -> bool {
        self.number == 1 && self.opcode == NOOP
    }

    /// The answer of a server that has [`value_of`] every key.
    pub fn well(&self) -> Answer {
        Answer::Bytes(self.well_bytes())
    }

    pub fn well_bytes(&self) -> Vec<u8> {
        match self.opcode {
            GET | GET_QUIET => self.bytes(&[0; 4], b"", &value_of(&self.key)),
            _ => self.bytes(b"", b"", b""),
        }
    }

    /// An answer of status 0.
    pub fn bytes(&self, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
        let body = u32::try_from(extras.len() + key.len() + value.len()).unwrap();
        let mut bytes = vec![0x81, self.opcode];
        bytes.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
        bytes.extend([u8::try_from(extras.len()).unwrap(), 0, 0, 0]);
        bytes.extend(body.to_be_bytes());
        bytes.extend(self.opaque.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend([extras, key, value].concat());
        bytes
    }

    /// An answer of another status.
    pub fn failure(&self, status: u8) -> Vec<u8> {
        let mut bytes = self.bytes(b"", b"", b"");
        bytes[7] = status;
        bytes
    }
}

/// What a rogue that is well has under a key.
pub fn value_of(key: &[u8]) -> Vec<u8> {
    [b"value of ", key].concat()
}
