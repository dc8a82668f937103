//! What is in a file: a format tag, a checksum over all that follows, when it expires, the key, the value.
//!
//! Whatever does not fit is no entry: a file that is empty, cut short, damaged, foreign, or another key's.

use bytes::{BufMut, Bytes};

use crate::Ttl;
use crate::backend::{end_of, unix_millis};
use crate::integrity::checksum;

/// Changes with the layout.
const MAGIC: [u8; 4] = *b"tlc1";

/// Magic (4 bytes), CRC-32 of all that follows (4, big endian as the rest), expiry (8), lengths of key and value
/// (4, 4).
pub(super) const HEADER: usize = 24;

/// What expires at this time never does.
const NEVER: u64 = 0;

/// A value, and how long it lives.
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
    pub(super) fn head(&self, key: &str) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEADER + key.len());
        head.put_slice(&MAGIC);
        head.put_u32(0);
        head.put_u64(self.expires);
        head.put_u32(length(key.as_bytes()));
        head.put_u32(length(&self.value));
        head.put_slice(key.as_bytes());
        let checksum = checksum(&head[8..], &self.value);
        head[4..8].copy_from_slice(&checksum.to_be_bytes());
        head
    }

    /// Returns the entry of a key, or `None` if the file holds something else.
    pub(super) fn decode(file: &Bytes, key: &str) -> Option<Self> {
        let expires = expiry(file)?;
        let value = file.slice_ref(file.get(HEADER + key.len()..)?);
        let entry = Self { value, expires };
        file.starts_with(&entry.head(key)).then_some(entry)
    }
}

/// Returns when the value of a file that begins so expires, 0 if never; none if it has, as far as its first [`HEADER`]
/// bytes tell.
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

/// What is too long for its field is no entry when it is read.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn file(entry: &Entry, key: &str) -> Bytes {
        [entry.head(key), entry.value.to_vec()].concat().into()
    }

    #[test]
    fn an_entry_comes_back_to_its_own_key_only() {
        for value in [&b""[..], b"value"] {
            let entry = Entry::new(Bytes::copy_from_slice(value), Ttl::After(Duration::from_secs(9)));
            assert_eq!(Entry::decode(&file(&entry, "key"), "key"), Some(entry.clone()));
            for other in ["", "ke", "kez", "keyv", "keyvalue and more"] {
                assert_eq!(Entry::decode(&file(&entry, "key"), other), None, "{other}");
            }
        }
    }

    #[test]
    fn anything_else_is_no_entry() {
        let whole = file(&Entry::new(Bytes::from_static(b"value"), Ttl::Never), "key");
        for length in 0..whole.len() {
            assert_eq!(Entry::decode(&whole.slice(..length), "key"), None, "cut to {length}");
        }
        for index in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[index / 8] ^= 1 << (index % 8);
            assert_eq!(Entry::decode(&damaged.into(), "key"), None, "damaged at bit {index}");
        }
        assert_eq!(Entry::decode(&[&whole[..], b"x"].concat().into(), "key"), None, "continued");
    }

    #[test]
    fn an_entry_lives_for_its_lifetime() {
        let entry = |ttl| Entry::new(Bytes::new(), ttl);
        assert!(entry(Ttl::Never).is_live());
        assert!(entry(Ttl::After(Duration::from_secs(9))).is_live());
        assert!(entry(Ttl::After(Duration::MAX)).is_live());
        assert!(!entry(Ttl::After(Duration::ZERO)).is_live());
        let header = |ttl| live_expiry(&entry(ttl).head("key")[..HEADER]);
        assert_eq!(header(Ttl::Never), Some(NEVER));
        assert_eq!(header(Ttl::After(Duration::ZERO)).or(live_expiry(b"tlc1")), None);
    }
}
