//! Clients that are slow, silent, greedy, confused or many: the others are served, and the process stays as it is.
//!
//! Limits of half a minute are tested where the clock can be turned, in `src/server.rs` and `src/middleware`.

mod crowd;
mod malformed;
mod pipelined;
mod posts;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::app::App;

pub const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// What does not come until then is not coming. It is below the half minute after which the server ends a connection
/// for another reason.
const SOON: Duration = Duration::from_secs(20);

/// A client that sends what it likes.
pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, read to its end and no further.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Client {
    pub async fn connect(app: &App) -> Self {
        Self { stream: TcpStream::connect(app.address()).await.unwrap(), read: vec![] }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request and returns its answer.
    pub async fn ask(&mut self, request: &str) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// Reads the next answer.
    pub async fn answer(&mut self) -> Answer {
        let read = async {
            loop {
                if let Some(answer) = self.take() {
                    return answer;
                }
                let length = self.stream.read_buf(&mut self.read).await.unwrap();
                assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
            }
        };
        timeout(SOON, read).await.expect("there is an answer")
    }

    fn take(&mut self) -> Option<Answer> {
        let end = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.read[..end].to_vec()).unwrap();
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let body = self.read.get(end..end + length)?;
        let body = String::from_utf8(body.to_vec()).unwrap();
        self.read.drain(..end + length);
        Some(Answer { status: head[9..12].parse().unwrap(), head, body })
    }

    /// Reads until the server closes, as it must, and returns the rest.
    pub async fn rest(mut self) -> String {
        let read = async {
            // A connection that is reset is as good as closed.
            while let Ok(1..) = self.stream.read_buf(&mut self.read).await {}
        };
        timeout(SOON, read).await.expect("the server closes");
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A POST as the list's form sends it.
pub fn post(name: &str) -> String {
    format!("{}name={name}", post_head(5 + name.len()))
}

pub fn post_head(length: usize) -> String {
    format!(
        "POST /add HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {length}\r\n\r\n"
    )
}
