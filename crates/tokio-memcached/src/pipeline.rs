//! Operations that were put on their way and have no response yet, in their order.

use std::collections::VecDeque;
use std::mem::size_of;
use std::ops::Range;

use tokio::time::Instant;

use super::operation::Reply;
use super::protocol::{Malformed, Opcode, Response, Status};

/// One operation, written or about to be.
pub(super) struct Sent {
    /// The `opaque` of its first request.
    pub(super) first: u32,
    /// How many requests it has.
    pub(super) count: u32,
    /// The command of its last request.
    pub(super) opcode: Opcode,
    /// The place of its bytes among all that the connection writes.
    pub(super) bytes: Range<u64>,
    /// None for a probe, which the connection sends by itself.
    pub(super) reply: Option<Reply>,
}

/// All of them, and the responses to the first as far as they have arrived.
pub(super) struct Pipeline {
    sent: VecDeque<Sent>,
    collected: Vec<Response>,
    collected_bytes: usize,
    /// How many bytes all responses to one operation may have.
    max_bytes: usize,
    /// Since when the first is waited for: it was written, and all before it were responded to.
    since: Instant,
}

impl Pipeline {
    pub(super) fn new(max_bytes: usize, now: Instant) -> Self {
        Self { sent: VecDeque::new(), collected: Vec::new(), collected_bytes: 0, max_bytes, since: now }
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn is_probing(&self) -> bool {
        self.sent.front().is_some_and(|first| first.reply.is_none())
    }

    pub(super) fn push(&mut self, sent: Sent) {
        self.sent.push_back(sent);
    }

    /// Returns since when the next response is waited for; none if its request is not written.
    pub(super) fn awaited_since(&self, written: u64) -> Option<Instant> {
        self.sent.front().filter(|first| first.bytes.end <= written).map(|_| self.since)
    }

    pub(super) fn on_written(&mut self, before: u64, written: u64, now: Instant) {
        if self.sent.front().is_some_and(|first| before < first.bytes.end && first.bytes.end <= written) {
            self.since = now;
        }
    }

    /// Gives a response to its caller. Responses come in the order of their requests.
    ///
    /// Returns whether the server says that it does not know the user of this connection.
    pub(super) fn on_response(&mut self, mut response: Response, now: Instant) -> Result<bool, Malformed> {
        let Some(first) = self.sent.front() else { return Err(Malformed::Unexpected("response")) };
        response.opaque = response.opaque.wrapping_sub(first.first);
        if response.opaque >= first.count {
            return Err(Malformed::Unexpected("opaque"));
        }
        let is_last = response.opaque + 1 == first.count;
        if is_last && response.opcode != first.opcode as u8 {
            return Err(Malformed::Unexpected("opcode"));
        }
        // A server may forbid a flush to everybody, and says the same.
        let is_login_refused = response.status == Status::UNAUTHENTICATED && first.opcode != Opcode::Flush;
        // Statistics are as many responses to one request; the last has no key.
        let is_statistic = first.opcode == Opcode::Stat && !response.key.is_empty();
        if !is_last && self.collected.len() + 1 == first.count as usize {
            return Err(Malformed::Unexpected("number of responses"));
        }
        self.collected_bytes +=
            size_of::<Response>() + response.extras.len() + response.key.len() + response.value.len();
        if self.collected_bytes > self.max_bytes {
            return Err(Malformed::Unexpected("length of all responses"));
        }
        self.collected.push(response);
        if is_last && !is_statistic {
            self.since = now;
            self.collected_bytes = 0;
            let responses = std::mem::take(&mut self.collected);
            if let Some(reply) = self.sent.pop_front().and_then(|sent| sent.reply) {
                // A caller that has given up is not missed.
                let _ = reply.send(Ok(responses));
            }
        }
        Ok(is_login_refused)
    }

    /// Returns all that has no response.
    pub(super) fn into_sent(self) -> VecDeque<Sent> {
        self.sent
    }
}
