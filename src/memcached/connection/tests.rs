use std::time::Duration;

use tokio::io::{BufStream, DuplexStream, duplex};
use tokio::sync::oneshot;

use super::*;

impl Stream for BufStream<DuplexStream> {
    fn forget_unsent(&self) {}
}

fn limits() -> Limits {
    let seconds = Duration::from_secs;
    Limits {
        response: seconds(5),
        waiting: seconds(10),
        probe: seconds(2),
        idle: seconds(1),
        keep_alive: seconds(30),
    }
}

#[tokio::test]
async fn bytes_that_the_stream_keeps_to_itself_are_flushed() {
    let (ours, mut theirs) = duplex(64);
    let connection = Connection::new(Box::new(BufStream::new(ours)), limits(), Instant::now());
    let (_callers, mut queue) = mpsc::channel(1);
    let (answer, _response) = oneshot::channel();
    let first = Queued::new(Work::One(Request::of(Opcode::Noop, Bytes::new()), answer));
    let mut header = [0; 24];
    tokio::select! {
        _ = connection.run([first].into(), &mut queue) => panic!("the connection has ended"),
        read = theirs.read_exact(&mut header) => assert_eq!(read.unwrap(), header.len()),
    }
    assert_eq!(header[..2], [0x80, Opcode::Noop as u8]);
}
