//! One connection, owned by one task that writes what is queued in batches and matches answers to it by `opaque`.
//!
//! Callers wait on a channel of their own, so one that gives up cannot put the connection out of step: its answer is
//! read like any other and dropped. Whatever goes wrong ends the connection and fails what was under way.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep};

use super::connect::Stream;
use super::error::ErrorKind;
use super::protocol::{Malformed, Opcode, Request, Response, decode};

/// Requests under way on a connection; more wait in the queue.
const DEEPEST_PIPELINE: usize = 4096;

/// Requests taken from the queue at once.
const BATCH: usize = 256;

/// Bytes waiting to be written above which nothing more is taken from the queue.
const OUTBOX_LIMIT: usize = 1024 * 1024;

/// A value this long is sent from where it is, a shorter one is copied behind its command.
const COPIED_VALUE: usize = 4096;

/// Room for reading; a value that does not fit gets its own.
const READ_BUFFER: usize = 64 * 1024;

/// Pieces handed to one write.
const MOST_SLICES: usize = 64;

/// Answers to one operation that are kept.
const MOST_ANSWERS: usize = 100_000;

/// Bytes of the values among them. One answer alone may be longer.
const MOST_BYTES: usize = 128 * 1024 * 1024;

/// What a caller wants done, and where it waits.
pub(super) enum Work {
    /// One command with one answer.
    One(Request, oneshot::Sender<Result<Response, ErrorKind>>),
    /// Quiet commands and a `Noop`; the answers come with the index of their command.
    Quiet(Vec<Request>, Answers),
    /// `Stat`, whose answers end with one without a key.
    Stat(Request, Answers),
}

/// Where the answers to several commands go.
pub(super) type Answers = oneshot::Sender<Result<Vec<(usize, Response)>, ErrorKind>>;

/// What was sent and not yet answered.
struct Pending {
    first: u32,
    last: u32,
    opcode: Opcode,
    deadline: Instant,
    /// Keys that may keep an old value if there is no answer.
    overwritten: Vec<Bytes>,
    collected: Vec<(usize, Response)>,
    collected_bytes: usize,
    reply: Reply,
}

enum Reply {
    One(oneshot::Sender<Result<Response, ErrorKind>>),
    Many(Answers),
}

/// How a connection came to its end.
pub(super) struct End {
    /// Why; none if the client is gone.
    pub(super) cause: Option<ErrorKind>,
    /// Keys whose write was under way: they may keep an old value.
    pub(super) overwritten: Vec<Bytes>,
}

/// The state of a connection, moved along by [`run`](Connection::run).
pub(super) struct Connection {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    inbox: BytesMut,
    outbox: Outbox,
    pending: VecDeque<Pending>,
    next_opaque: u32,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    timer_is_set: bool,
}

/// What happened next.
enum Event {
    Read(io::Result<usize>),
    Queued(usize),
    Written(io::Result<usize>),
    Timer,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, timeout: Duration) -> Self {
        let (reader, writer) = split(stream);
        Self {
            reader,
            writer,
            inbox: BytesMut::with_capacity(READ_BUFFER),
            outbox: Outbox::default(),
            pending: VecDeque::new(),
            next_opaque: 0,
            timeout,
            timer: Box::pin(sleep(timeout)),
            timer_is_set: false,
        }
    }

    /// Serves the queue until something goes wrong or the client is gone.
    pub(super) async fn run(mut self, first: Option<Work>, queue: &mut mpsc::Receiver<Work>) -> End {
        let mut batch = Vec::with_capacity(BATCH);
        batch.extend(first);
        let cause = loop {
            for work in batch.drain(..) {
                self.send(work);
            }
            let step = match self.next_event(queue, &mut batch).await {
                Event::Queued(0) => break None,
                Event::Queued(_) => Ok(()),
                Event::Read(read) => self.on_read(read),
                Event::Written(written) => self.on_written(written),
                Event::Timer => self.on_timer(),
            };
            if let Err(cause) = step {
                break Some(cause);
            }
        };
        self.fail(cause)
    }

    async fn next_event(&mut self, queue: &mut mpsc::Receiver<Work>, batch: &mut Vec<Work>) -> Event {
        let has_room = self.pending.len() < DEEPEST_PIPELINE && self.outbox.length < OUTBOX_LIMIT;
        if self.inbox.capacity() - self.inbox.len() < READ_BUFFER / 8 {
            self.inbox.reserve(READ_BUFFER);
        }
        tokio::select! {
            biased;
            read = self.reader.read_buf(&mut self.inbox) => Event::Read(read),
            count = queue.recv_many(batch, BATCH), if has_room => Event::Queued(count),
            written = self.outbox.write(&mut self.writer), if self.outbox.is_under_way() => Event::Written(written),
            () = self.timer.as_mut(), if self.timer_is_set => Event::Timer,
        }
    }

    /// Puts work into the outbox, also that of a caller who has given up: it may have been a write.
    fn send(&mut self, work: Work) {
        match work {
            Work::One(request, answer) => self.send_all([request], Reply::One(answer)),
            Work::Quiet(requests, answers) => self.send_all(requests, Reply::Many(answers)),
            Work::Stat(request, answers) => self.send_all([request], Reply::Many(answers)),
        }
    }

    fn send_all(&mut self, requests: impl IntoIterator<Item = Request>, reply: Reply) {
        let (first, mut last, mut opcode) = (self.next_opaque, self.next_opaque, Opcode::Noop);
        let mut overwritten = Vec::new();
        for mut request in requests {
            last = self.next_opaque;
            opcode = request.opcode();
            self.outbox.push(&mut request, last);
            overwritten.extend(request.into_overwritten());
            self.next_opaque = last.wrapping_add(1);
        }
        let deadline = Instant::now() + self.timeout;
        self.pending.push_back(Pending {
            first,
            last,
            opcode,
            deadline,
            overwritten,
            collected: Vec::new(),
            collected_bytes: 0,
            reply,
        });
        if !self.timer_is_set {
            self.set_timer(deadline);
        }
    }

    fn on_read(&mut self, read: io::Result<usize>) -> Result<(), ErrorKind> {
        if read.map_err(|error| ErrorKind::Closed(error.to_string().into()))? == 0 {
            return Err(ErrorKind::Closed("by the server".into()));
        }
        let malformed = |error: Malformed| ErrorKind::Protocol(error.to_string().into());
        while let Some(response) = decode(&mut self.inbox).map_err(malformed)? {
            self.on_response(response)?;
        }
        Ok(())
    }

    /// Gives an answer to whoever is waiting for it. Answers come in the order of their requests.
    fn on_response(&mut self, response: Response) -> Result<(), ErrorKind> {
        let unexpected = |what: &str| Err(ErrorKind::Protocol(format!("unexpected {what}").into()));
        let Some(front) = self.pending.front_mut() else { return unexpected("answer") };
        let index = response.opaque.wrapping_sub(front.first);
        if index > front.last.wrapping_sub(front.first) {
            return unexpected("opaque");
        }
        let is_last = response.opaque == front.last;
        if is_last && response.opcode != front.opcode as u8 {
            return unexpected("opcode");
        }
        let is_end = is_last && (front.opcode != Opcode::Stat || response.key.is_empty());
        if !is_end {
            if front.collected.len() == MOST_ANSWERS {
                return unexpected("number of answers");
            }
            front.collected_bytes += response.value.len();
            if front.collected_bytes > MOST_BYTES {
                return unexpected("length of all answers");
            }
            if front.collected.is_empty() {
                front.collected.reserve(front.last.wrapping_sub(front.first) as usize + 1);
            }
            front.collected.push((index as usize, response));
            return Ok(());
        }
        if let Some(done) = self.pending.pop_front() {
            done.answer(response);
        }
        Ok(())
    }

    fn on_written(&mut self, written: io::Result<usize>) -> Result<(), ErrorKind> {
        let count = written.map_err(|error| ErrorKind::Closed(error.to_string().into()))?;
        if count == 0 && self.outbox.length > 0 {
            return Err(ErrorKind::Closed("nothing can be written".into()));
        }
        self.outbox.advance(count);
        Ok(())
    }

    fn on_timer(&mut self) -> Result<(), ErrorKind> {
        self.timer_is_set = false;
        match self.pending.front().map(|front| front.deadline) {
            Some(deadline) if deadline <= Instant::now() => Err(ErrorKind::Timeout(self.timeout)),
            Some(deadline) => {
                self.set_timer(deadline);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn set_timer(&mut self, deadline: Instant) {
        self.timer.as_mut().reset(deadline);
        self.timer_is_set = true;
    }

    fn fail(self, cause: Option<ErrorKind>) -> End {
        let mut overwritten = Vec::new();
        let reason = cause.clone().unwrap_or(ErrorKind::Closed("the client is gone".into()));
        for pending in self.pending {
            overwritten.extend(pending.reply.fail(&reason, pending.overwritten));
        }
        End { cause, overwritten }
    }
}

impl Pending {
    fn answer(mut self, last: Response) {
        // A caller who has given up is no concern of ours.
        match self.reply {
            Reply::One(answer) => drop(answer.send(Ok(last))),
            Reply::Many(answers) => {
                let index = self.last.wrapping_sub(self.first) as usize;
                self.collected.push((index, last));
                drop(answers.send(Ok(self.collected)));
            }
        }
    }
}

impl Reply {
    fn fail(self, reason: &ErrorKind, overwritten: Vec<Bytes>) -> Vec<Bytes> {
        match self {
            Self::One(answer) => drop(answer.send(Err(reason.clone()))),
            Self::Many(answers) => drop(answers.send(Err(reason.clone()))),
        }
        overwritten
    }
}

impl Work {
    /// Tells the caller that it was not done. Returns the keys that may keep an old value.
    pub(super) fn fail(self, reason: &ErrorKind) -> Vec<Bytes> {
        let (requests, reply) = match self {
            Self::One(request, answer) => (vec![request], Reply::One(answer)),
            Self::Quiet(requests, answers) => (requests, Reply::Many(answers)),
            Self::Stat(request, answers) => (vec![request], Reply::Many(answers)),
        };
        reply.fail(reason, requests.into_iter().filter_map(Request::into_overwritten).collect())
    }
}

/// What is to be written: commands one behind the other, and between them long values where they are.
#[derive(Default)]
struct Outbox {
    sealed: VecDeque<Bytes>,
    open: BytesMut,
    length: usize,
    /// Whether the stream may keep written bytes to itself, as TLS does when its socket is full.
    needs_flush: bool,
}

impl Outbox {
    fn push(&mut self, request: &mut Request, opaque: u32) {
        let before = self.open.len();
        if request.value().len() < COPIED_VALUE {
            request.put(opaque, &mut self.open);
            self.length += self.open.len() - before;
            return;
        }
        request.put_head(opaque, &mut self.open);
        let value = request.take_value();
        self.length += self.open.len() - before + value.len();
        self.sealed.push_back(self.open.split().freeze());
        self.sealed.push_back(value);
    }

    fn is_under_way(&self) -> bool {
        self.length > 0 || self.needs_flush
    }

    /// Writes some bytes and returns how many, or flushes if all are written.
    async fn write(&self, writer: &mut WriteHalf<Box<dyn Stream>>) -> io::Result<usize> {
        if self.length == 0 {
            return writer.flush().await.map(|()| 0);
        }
        if self.sealed.is_empty() {
            return writer.write(&self.open).await;
        }
        let parts = self.sealed.iter().map(|part| &part[..]).chain([&self.open[..]]);
        let slices: Vec<_> = parts.take(MOST_SLICES).map(IoSlice::new).collect();
        writer.write_vectored(&slices).await
    }

    fn advance(&mut self, mut count: usize) {
        self.length -= count;
        self.needs_flush = count > 0;
        while let Some(part) = self.sealed.front_mut() {
            if count < part.len() {
                return part.advance(count);
            }
            count -= part.len();
            self.sealed.pop_front();
        }
        if count == self.open.len() {
            self.open.clear();
        } else {
            self.open.advance(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{BufStream, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_that_the_stream_keeps_to_itself_are_flushed() {
        let (ours, mut theirs) = duplex(64);
        let connection = Connection::new(Box::new(BufStream::new(ours)), Duration::from_secs(5));
        let (_callers, mut queue) = mpsc::channel(1);
        let first = Work::One(Request::of(Opcode::Noop, Bytes::new()), oneshot::channel().0);
        let mut header = [0; 24];
        tokio::select! {
            _ = connection.run(Some(first), &mut queue) => panic!("the connection has ended"),
            read = theirs.read_exact(&mut header) => assert_eq!(read.unwrap(), header.len()),
        }
        assert_eq!(header[..2], [0x80, Opcode::Noop as u8]);
    }
}
