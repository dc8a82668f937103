//! What is in a file: a format tag, a checksum, when the entry expires, the value.
//!
//! Whatever does not fit is no entry: a file that is empty, cut short, damaged, foreign, or another key's.

use bytes::{BufMut, Bytes};

use crate::Ttl;
use crate::backend::{end_of, unix_millis};
use crate::integrity::checksum;

/// Changes with the layout.
const MAGIC: [u8; 4] = *b"tlc2";

/// Magic (4 bytes), CRC-32 of expiry, key and value (4, big endian as the rest), expiry (8).
pub(super) const HEADER: usize = 16;

/// What expires at this time never does.
const NEVER: u64 = 0;

/// A value, and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    expires: u64,
}

impl Entry {
    pub(super) fn new(value: Bytes, ttl: Ttl) -> Self {
        Self { value, expires: end_of(ttl).unwrap_or(NEVER) }
    }

    /// Returns another value with the lifetime of this one.
    pub(super) fn with_value(&self, value: Bytes) -> Self {
        Self { value, expires: self.expires }
    }

    pub(super) fn is_live(&self) -> bool {
        is_live(self.expires)
    }

    /// Returns all that comes before the value.
    pub(super) fn header(&self, key: &str) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let mut fields = &mut header[..];
        fields.put_slice(&MAGIC);
        fields.put_u32(checksum(&[&self.expires.to_be_bytes(), key.as_bytes()].concat(), &self.value));
        fields.put_u64(self.expires);
        header
    }

    /// Returns the entry of a key, or `None` if the file holds something else.
    pub(super) fn decode(file: &Bytes, key: &str) -> Option<Self> {
        let entry = Self { expires: expiry(file)?, value: file.slice(HEADER..) };
        file.starts_with(&entry.header(key)).then_some(entry)
    }
}

/// Returns when the entry of a file that begins so expires, 0 if never; none if it has expired, or is no entry.
pub(super) fn live_expiry(header: &[u8]) -> Option<u64> {
    expiry(header).filter(|expires| is_live(*expires))
}

fn expiry(header: &[u8]) -> Option<u64> {
    let rest = header.strip_prefix(&MAGIC)?;
    Some(u64::from_be_bytes(*rest.get(4..)?.first_chunk()?))
}

fn is_live(expires: u64) -> bool {
    expires == NEVER || unix_millis() < expires
}
