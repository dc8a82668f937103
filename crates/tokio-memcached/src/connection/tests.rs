use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, BufStream, DuplexStream, ReadBuf, duplex};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::*;
use crate::protocol::Response;

impl Stream for BufStream<DuplexStream> {
    fn forget_unsent(&self) {}
}

/// A connection on which a response may take so long.
fn connection(stream: impl Stream + 'static, limit: Duration) -> Connection {
    let options = Options::new(["127.0.0.1:9".parse().unwrap()]).unwrap().operation_timeout(limit);
    Connection::new(Box::new(stream), options.into(), Instant::now())
}

fn operation(request: Request) -> (Operation, oneshot::Receiver<Result<Vec<Response>, Error>>) {
    let (reply, responses) = oneshot::channel();
    let requests = vec![request];
    (Operation { requests, reply, since: Instant::now(), was_returned: false }, responses)
}

#[tokio::test]
async fn bytes_that_the_stream_keeps_to_itself_are_flushed() {
    let (ours, mut theirs) = duplex(64);
    let connection = connection(BufStream::new(ours), SECONDS * 5);
    let (_callers, mut queue) = mpsc::channel(1);
    let (first, _response) = operation(Request::of(Opcode::Noop, Bytes::new()));
    let (mut waiting, mut header) = ([first].into(), [0; 24]);
    tokio::select! {
        _ = connection.run(&mut waiting, &mut queue) => panic!("the connection has ended"),
        read = theirs.read_exact(&mut header) => assert_eq!(read.unwrap(), header.len()),
    }
    assert_eq!(header[..2], [0x80, Opcode::Noop as u8]);
}

const SECONDS: Duration = Duration::from_secs(1);

const MEGABYTE: usize = 1024 * 1024;

/// Each byte arrives in time, and all of them together take longer than anybody waits.
#[tokio::test(start_paused = true)]
async fn long_values_on_a_slow_line_end_no_connection() {
    let (ours, mut theirs) = duplex(1024);
    let connection = connection(BufStream::new(ours), SECONDS * 5);
    let (_callers, mut queue) = mpsc::channel(1);
    let value = Bytes::from(vec![0; MEGABYTE]);
    let set = |key: &'static str| Request::store(Opcode::Set, key.into(), value.clone(), 0, 0, 0);
    let operations = ["1", "2", "3", "4", "5"].map(|key| operation(set(key)));
    let (mut waiting, responses): (VecDeque<_>, Vec<_>) = operations.into_iter().unzip();
    let server = async {
        let mut answered = 0;
        let mut bytes = vec![0; MEGABYTE + 24 + 8 + 1];
        // So long that the last ones give up: they wait for 10 seconds, and each takes 4.
        while answered < 5 {
            let mut read = 0;
            while read < bytes.len() {
                let Ok(Ok(count @ 1..)) =
                    timeout(Duration::from_secs(20), theirs.read(&mut bytes[read..])).await
                else {
                    return answered;
                };
                let before = read * 40 / bytes.len();
                read += count;
                if read * 40 / bytes.len() > before {
                    sleep(Duration::from_millis(100)).await;
                }
            }
            let mut response = [0; 24];
            response[..2].copy_from_slice(&[0x81, Opcode::Set as u8]);
            response[12..16].copy_from_slice(&bytes[12..16]);
            theirs.write_all(&response).await.unwrap();
            theirs.flush().await.unwrap();
            answered += 1;
        }
        answered
    };
    tokio::select! {
        end = connection.run(&mut waiting, &mut queue) => panic!("the connection has ended: {end:?}"),
        answered = server => assert!((1..5).contains(&answered), "{answered}"),
    }
    let outcomes = futures_util::future::join_all(responses).await;
    let mut unwritten = 0;
    for outcome in outcomes {
        if let Err(error) = outcome.unwrap() {
            assert!(!error.was_written(), "{error:?}");
            unwritten += 1;
        }
    }
    assert!((1..5).contains(&unwritten));
}

/// A server that always has something to say, of an answer that never ends.
struct Endless {
    sent: usize,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let header = [0x81, Opcode::Get as u8, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0];
        into.put_slice(&[header.get(self.sent).copied().unwrap_or(0)]);
        self.sent += 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stream for Endless {
    fn forget_unsent(&self) {}
}

#[tokio::test]
async fn a_server_that_always_has_bytes_is_overdue_all_the_same() {
    let limit = Duration::from_millis(20);
    let (_callers, mut queue) = mpsc::channel(1);
    let (get, response) = operation(Request::of(Opcode::Get, Bytes::from_static(b"k")));
    let ended = connection(Endless { sent: 0 }, limit).run(&mut [get].into(), &mut queue).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Timeout(limit));
    assert!(response.await.unwrap().is_err());
}
