//! One connection, owned by one task that writes what is queued in batches and matches responses to it by `opaque`.
//!
//! Callers wait on a channel of their own, so one that gives up cannot put the connection out of step: its response is
//! read like any other and dropped, and what was not written by then is not sent. Whatever goes wrong ends the
//! connection and fails what was written; what was not written yet goes back to the server's task.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use super::connect::Stream;
use super::error::{ErrorKind, Failure};
use super::limits::{Limits, later};
use super::outbox::Outbox;
use super::pipeline::{Pipeline, Sent};
use super::protocol::{Malformed, Opcode, Request, decode};
use super::work::{Queued, Reply, Work};

/// Requests taken from the queue at once.
const BATCH: usize = 256;

/// Bytes waiting to be written above which nothing more is put behind them.
const OUTBOX_LIMIT: usize = 1024 * 1024;

/// Room for reading; a value that does not fit gets its own.
pub(super) const READ_BUFFER: usize = 64 * 1024;

/// How a connection came to its end.
pub(super) struct End {
    /// Why; none if the client is gone.
    pub(super) cause: Option<ErrorKind>,
    /// What was taken from the queue and not written.
    pub(super) unwritten: VecDeque<Queued>,
}

/// The state of a connection, moved along by [`run`](Connection::run).
pub(super) struct Connection {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    inbox: BytesMut,
    outbox: Outbox,
    waiting: VecDeque<Queued>,
    pipeline: Pipeline,
    limits: Limits,
    /// From when on a refused login ends the connection, so that the next one authenticates again.
    authenticate_again_from: Instant,
    /// When something was read last.
    last_read: Instant,
    /// When something was written last, or put into an empty outbox.
    last_progress: Instant,
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off, while it is set.
    alarm: Option<Instant>,
}

/// What happened next.
enum Event {
    Read(io::Result<usize>),
    Queued(usize),
    Written(io::Result<usize>),
    Timer,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, limits: Limits, authenticate_again_from: Instant) -> Self {
        let (reader, writer) = split(stream);
        let now = Instant::now();
        Self {
            reader,
            writer,
            inbox: BytesMut::with_capacity(READ_BUFFER),
            outbox: Outbox::default(),
            waiting: VecDeque::new(),
            pipeline: Pipeline::new(now),
            timer: Box::pin(sleep(limits.response)),
            limits,
            authenticate_again_from,
            last_read: now,
            last_progress: now,
            alarm: None,
        }
    }

    /// Serves the queue, and before it what waits already, until something goes wrong or the client is gone.
    pub(super) async fn run(mut self, waiting: VecDeque<Queued>, queue: &mut mpsc::Receiver<Queued>) -> End {
        self.waiting = waiting;
        let mut arrived = Vec::with_capacity(BATCH);
        let cause = loop {
            self.waiting.extend(arrived.drain(..));
            self.fill();
            // Whatever else is ready: a server that always has something to say must not put off its deadline.
            if let Err(cause) = self.check_deadlines() {
                break Some(cause);
            }
            let step = match self.next_event(queue, &mut arrived).await {
                Event::Queued(0) => break None,
                Event::Queued(_) => Ok(()),
                Event::Read(read) => self.on_read(read),
                Event::Written(written) => self.on_written(written),
                Event::Timer => {
                    self.alarm = None;
                    Ok(())
                }
            };
            if let Err(cause) = step {
                break Some(cause);
            }
        };
        self.end(cause)
    }

    async fn next_event(&mut self, queue: &mut mpsc::Receiver<Queued>, arrived: &mut Vec<Queued>) -> Event {
        let has_room = self.waiting.is_empty() && !self.is_full();
        if self.inbox.capacity() - self.inbox.len() < READ_BUFFER / 8 {
            self.inbox.reserve(READ_BUFFER);
        }
        tokio::select! {
            biased;
            read = self.reader.read_buf(&mut self.inbox) => Event::Read(read),
            count = queue.recv_many(arrived, BATCH), if has_room => Event::Queued(count),
            written = self.outbox.write(&mut self.writer), if self.outbox.is_under_way() => Event::Written(written),
            () = self.timer.as_mut(), if self.alarm.is_some() => Event::Timer,
        }
    }

    fn is_full(&self) -> bool {
        self.pipeline.is_full() || self.outbox.length() >= OUTBOX_LIMIT
    }

    /// Puts what waits into the outbox, as far as there is room, but not what nobody waits for any more.
    fn fill(&mut self) {
        while !self.is_full() && !self.pipeline.is_probing() {
            let Some(next) = self.waiting.pop_front() else { return };
            if next.is_abandoned() {
                continue;
            }
            if self.is_idle() && self.last_read.elapsed() >= self.limits.idle {
                self.waiting.push_front(next);
                return self.probe();
            }
            match next.work {
                Work::One(request, answer) => self.send_all([request], Reply::One(answer)),
                Work::Quiet(requests, answers) => self.send_all(requests, Reply::Many(answers)),
                Work::Stat(request, answers) => self.send_all([request], Reply::Many(answers)),
            }
        }
    }

    /// Asks whether the connection still works. A router may have forgotten it meanwhile, and then says nothing.
    fn probe(&mut self) {
        self.send_all([Request::of(Opcode::Noop, Bytes::new())], Reply::Probe);
    }

    fn send_all(&mut self, requests: impl IntoIterator<Item = Request>, reply: Reply) {
        let begin = self.outbox.end();
        if !self.outbox.is_under_way() {
            self.last_progress = Instant::now();
        }
        let first = self.pipeline.next_opaque();
        let (mut last, mut opcode) = (first, Opcode::Noop);
        for mut request in requests {
            last = self.pipeline.take_opaque();
            opcode = request.opcode();
            self.outbox.push(&mut request, last);
        }
        self.pipeline.push(Sent { first, last, opcode, begin, end: self.outbox.end(), reply });
    }

    /// Ends the connection if the server is overdue, tells callers that have waited too long, and sets the timer.
    fn check_deadlines(&mut self) -> Result<(), ErrorKind> {
        let now = Instant::now();
        let response = if self.pipeline.is_probing() { self.limits.probe } else { self.limits.response };
        let writing = self.outbox.is_under_way().then(|| later(self.last_progress, response));
        let reading = self.pipeline.awaited_since(self.outbox.written()).map(|since| later(since, response));
        let overdue = [writing, reading].into_iter().flatten().min();
        if overdue.is_some_and(|deadline| deadline <= now) {
            // An idle connection that is lost is made again; what waits has not been written.
            return Err(match self.pipeline.is_probing() {
                true => ErrorKind::Closed("lost while it was idle".into()),
                false => ErrorKind::Timeout(self.limits.response),
            });
        }
        let given_up = |queued: &Queued| later(queued.since, self.limits.waiting);
        while let Some(queued) = self.waiting.pop_front_if(|queued| given_up(queued) <= now) {
            queued.fail(ErrorKind::Timeout(self.limits.waiting));
        }
        let waiting = self.waiting.front().map(given_up);
        let mut keep_alive = self.is_idle().then(|| later(self.last_read, self.limits.keep_alive));
        if keep_alive.is_some_and(|due| due <= now) {
            self.probe();
            keep_alive = Some(later(now, self.limits.probe));
        }
        let next = [overdue, waiting, keep_alive].into_iter().flatten().min();
        if let Some(next) = next.filter(|next| self.alarm.is_none_or(|alarm| *next < alarm)) {
            self.timer.as_mut().reset(next);
            self.alarm = Some(next);
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.pipeline.is_empty() && !self.outbox.is_under_way()
    }

    fn on_read(&mut self, read: io::Result<usize>) -> Result<(), ErrorKind> {
        if read.map_err(|error| ErrorKind::Closed(error.to_string().into()))? == 0 {
            return Err(ErrorKind::Closed("by the server".into()));
        }
        self.last_read = Instant::now();
        let malformed = |error: Malformed| ErrorKind::Protocol(error.to_string().into());
        while let Some(response) = decode(&mut self.inbox).map_err(malformed)? {
            self.pipeline.on_response(response, self.last_read)?;
        }
        if self.pipeline.take_refused_login() && self.last_read >= self.authenticate_again_from {
            return Err(ErrorKind::Authentication);
        }
        Ok(())
    }

    fn on_written(&mut self, written: io::Result<usize>) -> Result<(), ErrorKind> {
        let count = written.map_err(|error| ErrorKind::Closed(error.to_string().into()))?;
        if count == 0 && self.outbox.length() > 0 {
            return Err(ErrorKind::Closed("nothing can be written".into()));
        }
        self.last_progress = Instant::now();
        let before = self.outbox.written();
        self.outbox.advance(count);
        self.pipeline.on_written(before, self.outbox.written(), self.last_progress);
        Ok(())
    }

    /// Hangs up. After a failure nothing that is still on its way may arrive later than what a next connection sends,
    /// so the system is told to forget it.
    fn end(self, cause: Option<ErrorKind>) -> End {
        if cause.is_some() {
            self.reader.unsplit(self.writer).forget_unsent();
        }
        let kind = cause.clone().unwrap_or(ErrorKind::Closed("the client is gone".into()));
        for Sent { begin, reply, .. } in self.pipeline.into_sent() {
            let was_written = begin < self.outbox.written();
            reply.fail(Failure { kind: kind.clone(), was_written });
        }
        End { cause, unwritten: self.waiting }
    }
}

#[cfg(test)]
mod tests;
