//! One connection, owned by one task that writes operations in batches and matches responses to them by `opaque`.
//!
//! Callers wait on a channel of their own, so one that gives up cannot put the connection out of step: its response is
//! read like any other and dropped, and what was not written by then is not sent. Whatever goes wrong ends the
//! connection and fails what was written; what was not written yet is left to the server's task.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::connect::Stream;
use super::error::{Error, ErrorKind};
use super::operation::{Operation, Reply};
use super::options::Options;
use super::pipeline::{Pipeline, Sent};
use super::protocol::{Opcode, Request, decode};

/// Room for reading; a value that does not fit gets its own.
pub(super) const READ_BUFFER: usize = 64 * 1024;

/// Room for writing; a longer batch gets more for as long as it takes.
const WRITE_BUFFER: usize = 4 * 1024;

/// The state of a connection, moved along by [`run`](Connection::run).
pub(super) struct Connection {
    options: Arc<Options>,
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    inbox: BytesMut,
    outbox: BytesMut,
    /// How many bytes were handed to the stream.
    written: u64,
    /// Whether the stream may keep written bytes to itself, as TLS does when its socket is full.
    needs_flush: bool,
    next_opaque: u32,
    pipeline: Pipeline,
    /// From when on a refused login ends the connection, so that the next one authenticates again.
    authenticate_again_from: Instant,
    /// When something was read last.
    last_read: Instant,
    /// When something was written last, or put into an empty outbox.
    last_progress: Instant,
}

impl Connection {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        options: Arc<Options>,
        authenticate_again_from: Instant,
    ) -> Self {
        let (reader, writer) = split(stream);
        let now = Instant::now();
        Self {
            reader,
            writer,
            inbox: BytesMut::with_capacity(READ_BUFFER),
            outbox: BytesMut::with_capacity(WRITE_BUFFER),
            written: 0,
            needs_flush: false,
            next_opaque: 0,
            pipeline: Pipeline::new(options.max_response_bytes, now),
            options,
            authenticate_again_from,
            last_read: now,
            last_progress: now,
        }
    }

    /// Serves what waits already, and then the queue, until it is closed and every operation is done.
    ///
    /// # Errors
    ///
    /// What has ended the connection before. What then still waits was not written.
    pub(super) async fn run(
        mut self,
        waiting: &mut VecDeque<Operation>,
        queue: &mut mpsc::Receiver<Operation>,
    ) -> Result<(), Error> {
        let error = match self.serve(waiting, queue).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Nothing that is still on its way may arrive later than what a next connection sends.
        self.reader.unsplit(self.writer).forget_unsent();
        for Sent { bytes, reply, .. } in self.pipeline.into_sent() {
            if let Some(reply) = reply {
                let _ = reply.send(Err(error.clone().written(bytes.start < self.written)));
            }
        }
        Err(error)
    }

    async fn serve(
        &mut self,
        waiting: &mut VecDeque<Operation>,
        queue: &mut mpsc::Receiver<Operation>,
    ) -> Result<(), Error> {
        let mut is_open = true;
        loop {
            while self.may_take(waiting)
                && let Ok(operation) = queue.try_recv()
            {
                waiting.push_back(operation);
            }
            self.fill(waiting);
            // Whatever else is ready: a server that always sends something must not put off its deadline.
            let deadline = self.check_deadlines(waiting)?;
            if !is_open && waiting.is_empty() && self.is_idle() {
                return Ok(());
            }
            if self.inbox.capacity() - self.inbox.len() < READ_BUFFER / 8 {
                self.inbox.reserve(READ_BUFFER);
            }
            tokio::select! {
                biased;
                read = self.reader.read_buf(&mut self.inbox) => self.on_read(read)?,
                operation = queue.recv(), if is_open && self.may_take(waiting) => match operation {
                    Some(operation) => waiting.push_back(operation),
                    None => is_open = false,
                },
                written = write_or_flush(&mut self.writer, &self.outbox), if self.is_writing() => {
                    self.on_written(written)?;
                }
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// Returns whether another operation may be taken from the queue. What is taken is told when it waits too long, so
    /// more is taken than the outbox has room for.
    fn may_take(&self, waiting: &VecDeque<Operation>) -> bool {
        waiting.len() + self.pipeline.len() < self.options.queue_length
    }

    /// Puts what waits into the outbox, as far as there is room, but not what nobody waits for any more.
    fn fill(&mut self, waiting: &mut VecDeque<Operation>) {
        while self.outbox.len() < self.options.batch_bytes && !self.pipeline.is_probing() {
            let Some(next) = waiting.pop_front() else { return };
            if next.reply.is_closed() {
                continue;
            }
            if self.is_idle() && self.last_read.elapsed() >= self.options.probe_after {
                waiting.push_front(next);
                return self.probe();
            }
            self.send(&next.requests, Some(next.reply));
        }
    }

    /// Sees whether the connection still works. A router may have forgotten it meanwhile, and then says nothing.
    fn probe(&mut self) {
        self.send(&[Request::of(Opcode::Noop, Bytes::new())], None);
    }

    fn send(&mut self, requests: &[Request], reply: Option<Reply>) {
        let was_writing = self.is_writing();
        let (first, begin) = (self.next_opaque, self.written + self.outbox.len() as u64);
        let mut opcode = Opcode::Noop;
        for request in requests {
            opcode = request.opcode();
            request.put(self.next_opaque, &mut self.outbox);
            self.next_opaque = self.next_opaque.wrapping_add(1);
        }
        let count = self.next_opaque.wrapping_sub(first);
        let bytes = begin..self.written + self.outbox.len() as u64;
        self.pipeline.push(Sent { first, count, opcode, bytes, reply });
        if !was_writing {
            self.last_progress = Instant::now();
        }
    }

    /// Ends the connection if the server is overdue, fails operations that have waited too long, and probes an idle
    /// connection. Returns when this must be done next.
    fn check_deadlines(&mut self, waiting: &mut VecDeque<Operation>) -> Result<Instant, Error> {
        let now = Instant::now();
        if self.is_idle() && self.last_read + self.options.keep_alive_interval <= now {
            self.probe();
        }
        let limit = self.options.operation_timeout;
        let is_probing = self.pipeline.is_probing();
        let response = if is_probing { limit / 2 } else { limit };
        let writing = self.is_writing().then(|| self.last_progress + response);
        let reading = self.pipeline.awaited_since(self.written).map(|since| since + response);
        let overdue = [writing, reading].into_iter().flatten().min();
        if overdue.is_some_and(|deadline| deadline <= now) {
            // An idle connection that is lost is made again; what waits has not been written.
            return Err(match is_probing {
                true => {
                    Error::disconnected(io::Error::new(io::ErrorKind::TimedOut, "lost while it was idle"))
                }
                false => Error::new(ErrorKind::Timeout(limit)),
            });
        }
        let max_wait = self.options.max_wait();
        while let Some(operation) = waiting.pop_front_if(|operation| operation.since + max_wait <= now) {
            operation.fail(Error::new(ErrorKind::Timeout(max_wait)));
        }
        let waiting = waiting.front().map(|operation| operation.since + max_wait);
        let next = [overdue, waiting].into_iter().flatten().min();
        Ok(next.unwrap_or(self.last_read + self.options.keep_alive_interval))
    }

    fn is_writing(&self) -> bool {
        self.needs_flush || !self.outbox.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.pipeline.len() == 0 && !self.is_writing()
    }

    fn on_read(&mut self, read: io::Result<usize>) -> Result<(), Error> {
        if read.map_err(Error::disconnected)? == 0 {
            return Err(Error::closed_by_server());
        }
        self.last_read = Instant::now();
        let mut is_login_refused = false;
        while let Some(response) =
            decode(&mut self.inbox, self.options.max_response_bytes).map_err(Error::protocol)?
        {
            is_login_refused |=
                self.pipeline.on_response(response, self.last_read).map_err(Error::protocol)?;
        }
        if is_login_refused && self.last_read >= self.authenticate_again_from {
            return Err(Error::new(ErrorKind::Authentication));
        }
        Ok(())
    }

    fn on_written(&mut self, written: io::Result<usize>) -> Result<(), Error> {
        let count = written.map_err(Error::disconnected)?;
        if count == 0 && !self.outbox.is_empty() {
            return Err(Error::disconnected(io::ErrorKind::WriteZero.into()));
        }
        let before = self.written;
        self.last_progress = Instant::now();
        self.written += count as u64;
        self.needs_flush = count > 0;
        self.outbox.advance(count);
        if count > 0 && self.outbox.is_empty() {
            // The room that a long value needed is not kept.
            self.outbox = BytesMut::with_capacity(WRITE_BUFFER);
        }
        self.pipeline.on_written(before, self.written, self.last_progress);
        Ok(())
    }
}

/// Writes some bytes and returns how many, or flushes if there are none.
async fn write_or_flush(writer: &mut WriteHalf<Box<dyn Stream>>, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() { writer.flush().await.map(|()| 0) } else { writer.write(bytes).await }
}

#[cfg(test)]
mod tests;
