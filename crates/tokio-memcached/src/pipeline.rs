//! Requests that were put on their way and are not answered yet, in their order.

use std::collections::VecDeque;
use std::mem::size_of;

use tokio::time::Instant;

use super::error::ErrorKind;
use super::protocol::{Opcode, Response, Status};
use super::work::Reply;

/// Requests under way on a connection; more wait in the queue.
const DEEPEST: usize = 4096;

/// Statistics of one server that are kept.
const MOST_STATISTICS: usize = 10_000;

/// Bytes of all responses to one operation. One response alone may be longer.
const MOST_BYTES: usize = 128 * 1024 * 1024;

/// Bytes of all statistics of one server.
const MOST_BYTES_OF_STATISTICS: usize = 4 * 1024 * 1024;

/// One operation, written or about to be.
pub(super) struct Sent {
    /// The `opaque` of its first request.
    pub(super) first: u32,
    /// The `opaque` of its last one.
    pub(super) last: u32,
    /// The command of its last one.
    pub(super) opcode: Opcode,
    /// Where its bytes begin among all that the connection writes.
    pub(super) begin: u64,
    /// Where they end.
    pub(super) end: u64,
    /// Where its result goes.
    pub(super) reply: Reply,
}

/// All of them, and the responses to the first as far as they have arrived.
pub(super) struct Pipeline {
    sent: VecDeque<Sent>,
    collected: Vec<(usize, Response)>,
    collected_bytes: usize,
    next_opaque: u32,
    /// Since when the first is waited for: it was written, and all before it were answered.
    since: Instant,
    /// Whether the server said to a command other than a login that it does not know the user.
    is_login_refused: bool,
}

impl Pipeline {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sent: VecDeque::new(),
            collected: Vec::new(),
            collected_bytes: 0,
            next_opaque: 0,
            since: now,
            is_login_refused: false,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= DEEPEST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn is_probing(&self) -> bool {
        self.sent.front().is_some_and(|first| matches!(first.reply, Reply::Probe))
    }

    /// Returns whether the server has refused the login of this connection since this was last asked.
    pub(super) fn take_refused_login(&mut self) -> bool {
        std::mem::take(&mut self.is_login_refused)
    }

    pub(super) fn next_opaque(&self) -> u32 {
        self.next_opaque
    }

    pub(super) fn take_opaque(&mut self) -> u32 {
        let opaque = self.next_opaque;
        self.next_opaque = opaque.wrapping_add(1);
        opaque
    }

    pub(super) fn push(&mut self, sent: Sent) {
        self.sent.push_back(sent);
    }

    /// Returns since when the next response is waited for; none if its request is not written.
    pub(super) fn awaited_since(&self, written: u64) -> Option<Instant> {
        self.sent.front().filter(|first| first.end <= written).map(|_| self.since)
    }

    pub(super) fn on_written(&mut self, before: u64, written: u64, now: Instant) {
        if self.sent.front().is_some_and(|first| before < first.end && first.end <= written) {
            self.since = now;
        }
    }

    /// Gives a response to its caller. Responses come in the order of their requests.
    pub(super) fn on_response(&mut self, response: Response, now: Instant) -> Result<(), ErrorKind> {
        let unexpected = |what: &str| Err(ErrorKind::Protocol(format!("unexpected {what}").into()));
        let Some(first) = self.sent.front() else { return unexpected("answer") };
        let (index, count) =
            (response.opaque.wrapping_sub(first.first), first.last.wrapping_sub(first.first));
        if index > count {
            return unexpected("opaque");
        }
        let is_last = index == count;
        if is_last && response.opcode != first.opcode as u8 {
            return unexpected("opcode");
        }
        // A server may forbid a flush to everybody, and says the same.
        self.is_login_refused |= response.status == Status::UNAUTHENTICATED && first.opcode != Opcode::Flush;
        let is_statistic = first.opcode == Opcode::Stat;
        if !is_last || is_statistic && !response.key.is_empty() {
            let (most, most_bytes) = match is_statistic {
                true => (MOST_STATISTICS, MOST_BYTES_OF_STATISTICS),
                false => (count as usize, MOST_BYTES),
            };
            return self.collect(index as usize, response, most, most_bytes);
        }
        if let Some(sent) = self.sent.pop_front() {
            self.since = now;
            self.collected_bytes = 0;
            let mut collected = std::mem::take(&mut self.collected);
            // A caller that has given up is not missed.
            match sent.reply {
                Reply::One(answer) => drop(answer.send(Ok(response))),
                Reply::Many(answers) => {
                    collected.push((index as usize, response));
                    drop(answers.send(Ok(collected)));
                }
                Reply::Probe => {}
            }
        }
        Ok(())
    }

    /// Keeps a response until the last one is there, unless there are more than the requests can have.
    fn collect(
        &mut self,
        index: usize,
        response: Response,
        most: usize,
        most_bytes: usize,
    ) -> Result<(), ErrorKind> {
        let unexpected = |what: &str| Err(ErrorKind::Protocol(format!("unexpected {what}").into()));
        if self.collected.len() == most {
            return unexpected("number of answers");
        }
        let Response { extras, key, value, .. } = &response;
        self.collected_bytes += size_of::<Response>() + extras.len() + key.len() + value.len();
        if self.collected_bytes > most_bytes {
            return unexpected("length of all answers");
        }
        if self.collected.is_empty() {
            self.collected.reserve(most.min(1000) + 1);
        }
        self.collected.push((index, response));
        Ok(())
    }

    /// Returns all that is not answered.
    pub(super) fn into_sent(self) -> VecDeque<Sent> {
        self.sent
    }
}
