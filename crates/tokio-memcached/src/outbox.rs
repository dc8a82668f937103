//! Bytes on their way to the socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWriteExt, WriteHalf};

use super::connect::Stream;
use super::protocol::Request;

/// A value this long is sent from where it is, a shorter one is copied behind its command.
const COPIED_VALUE: usize = 4096;

/// Pieces handed to one write.
const MOST_SLICES: usize = 64;

/// What is to be written: commands one behind the other, and between them long values where they are.
#[derive(Default)]
pub(super) struct Outbox {
    sealed: VecDeque<Bytes>,
    open: BytesMut,
    length: usize,
    written: u64,
    /// Whether the stream may keep written bytes to itself, as TLS does when its socket is full.
    needs_flush: bool,
}

impl Outbox {
    pub(super) fn push(&mut self, request: &mut Request, opaque: u32) {
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

    /// Returns how many bytes wait to be written.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Returns how many bytes of this connection have been handed to the stream.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Returns how many will have been once all that waits is written.
    pub(super) fn end(&self) -> u64 {
        self.written + self.length as u64
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.length > 0 || self.needs_flush
    }

    /// Writes some bytes and returns how many, or flushes if all are written.
    pub(super) async fn write(&self, writer: &mut WriteHalf<Box<dyn Stream>>) -> io::Result<usize> {
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

    /// Notes that so many bytes were written, or that all were flushed.
    pub(super) fn advance(&mut self, mut count: usize) {
        self.length -= count;
        self.written += count as u64;
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
