//! The 24 bytes before every message ("Packet Structure").

use bytes::{Buf, BufMut, BytesMut};

/// Bytes of a header.
pub const LENGTH: usize = 24;

const REQUEST: u8 = 0x80;
pub(super) const RESPONSE: u8 = 0x81;

/// What a header says about the message behind it. `code` is the status of a response, 0 in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which command, or the answer to which.
    pub opcode: u8,
    /// Bytes of the key.
    pub key_length: u16,
    /// Bytes before the key.
    pub extras_length: u8,
    /// The status.
    pub code: u16,
    /// Bytes of extras, key and value together.
    pub body_length: u32,
    /// What the request bore; the answer bears the same.
    pub opaque: u32,
    /// The version of the value, for `cas`.
    pub cas: u64,
}

impl Header {
    /// Appends a request's header.
    pub fn put_request(&self, out: &mut BytesMut) {
        let mut bytes = [0; LENGTH];
        let mut rest = &mut bytes[..];
        rest.put_u8(REQUEST);
        rest.put_u8(self.opcode);
        rest.put_u16(self.key_length);
        rest.put_u8(self.extras_length);
        rest.put_u8(0); // data type: raw bytes, the only one
        rest.put_u16(self.code);
        rest.put_u32(self.body_length);
        rest.put_u32(self.opaque);
        rest.put_u64(self.cas);
        out.extend_from_slice(&bytes);
    }

    /// Reads a response's header, or `None` if this is none.
    #[must_use]
    pub fn response(bytes: &[u8; LENGTH]) -> Option<Self> {
        let mut bytes = &bytes[..];
        if bytes.get_u8() != RESPONSE {
            return None;
        }
        let opcode = bytes.get_u8();
        let key_length = bytes.get_u16();
        let extras_length = bytes.get_u8();
        bytes.advance(1);
        let code = bytes.get_u16();
        let body_length = bytes.get_u32();
        let opaque = bytes.get_u32();
        let cas = bytes.get_u64();
        Some(Self { opcode, key_length, extras_length, code, body_length, opaque, cas })
    }
}
