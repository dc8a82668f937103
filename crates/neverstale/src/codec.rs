//! The envelope around what the app stores: format version, encoding, lengths, integrity, then the value as JSON, or
//! as the bytes it is; compressed (LZ4) where it is long.
//!
//! Whatever does not fit is a miss: a value written by another version, cut short, damaged, set by hand, or forged.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Key;
use super::integrity::HEAD;
use super::options::CacheOptions;

/// A value in its envelope, made by [`Cache::envelope`](super::Cache::envelope). It is read under its own key only.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub(super) key: Key,
    /// The name under which the backend stores the key.
    pub(super) name: String,
    pub(super) bytes: Bytes,
}

/// Where the length of the value is in the head.
const LENGTH: usize = HEAD - size_of::<u32>();

const PLAIN: u8 = 0;
const LZ4: u8 = 1;

impl CacheOptions {
    /// Returns a value in its envelope, to be stored under this name; compressed if it is long, and if that makes it
    /// shorter.
    ///
    /// # Errors
    ///
    /// What the value's own `Serialize` refuses, and a value that is too long to be read again.
    pub(super) fn encode<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> serde_json::Result<Bytes> {
        let value = serde_json::to_vec(value)?;
        if value.len() > self.largest_read {
            return Err(serde::ser::Error::custom(format!("{} bytes are too many", value.len())));
        }
        Ok(self.encode_bytes(name, &value))
    }

    /// Returns bytes in their envelope, compressed as in [`encode`](Self::encode). They need not be JSON.
    pub(super) fn encode_bytes(&self, name: &str, value: &[u8]) -> Bytes {
        let compressed = if value.len() >= self.compress_from { compress(value) } else { None };
        match compressed.filter(|compressed| compressed.len() < value.len()) {
            Some(body) => self.close(name, LZ4, &body, value.len()),
            None => self.close(name, PLAIN, value, value.len()),
        }
    }

    /// Returns the value of an envelope, or `None` if it is not one that [`encode`](Self::encode) made of a `T` for
    /// this name.
    pub(super) fn decode<T: DeserializeOwned>(&self, name: &str, envelope: &[u8]) -> Option<T> {
        from_json(&self.open(name, envelope)?)
    }

    /// Returns what is in an envelope; without a copy, where it is not compressed.
    pub(super) fn decode_bytes(&self, name: &str, envelope: &Bytes) -> Option<Bytes> {
        Some(match self.open(name, envelope)? {
            Cow::Borrowed(value) => envelope.slice_ref(value),
            Cow::Owned(value) => value.into(),
        })
    }

    /// Returns how many bytes are in an envelope by its own account, which may be wrong.
    pub(super) fn claimed_length(envelope: &[u8]) -> usize {
        let claimed = envelope.first_chunk::<HEAD>().map_or(0, |head| (&head[LENGTH..]).get_u32());
        envelope.len().max(claimed as usize)
    }

    fn close(&self, name: &str, encoding: u8, body: &[u8], length: usize) -> Bytes {
        // A length that does not fit is not the body's, and so a miss.
        let to_u32 = |length| u32::try_from(length).unwrap_or(u32::MAX);
        let mut head = [0; HEAD];
        let mut fields = &mut head[..];
        fields.put_u8(self.integrity.format());
        fields.put_u8(encoding);
        fields.put_u32(to_u32(body.len()));
        fields.put_u32(to_u32(length));
        self.integrity.close(name, head, body)
    }

    fn open<'a>(&self, name: &str, envelope: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let (head, body) = self.integrity.open(name, envelope)?;
        let mut fields = &head[..];
        let (format, encoding) = (fields.get_u8(), fields.get_u8());
        let (body_length, length) = (fields.get_u32() as usize, fields.get_u32() as usize);
        if format != self.integrity.format() || body_length != body.len() || length > self.largest_read {
            return None;
        }
        match encoding {
            PLAIN if length == body.len() => Some(body.into()),
            LZ4 => decompress(body, length).filter(|value| value.len() == length).map(Cow::Owned),
            _ => None,
        }
    }
}

#[cfg(feature = "compression")]
fn compress(value: &[u8]) -> Option<Vec<u8>> {
    Some(lz4_flex::block::compress(value))
}

#[cfg(not(feature = "compression"))]
fn compress(_: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(feature = "compression")]
fn decompress(body: &[u8], length: usize) -> Option<Vec<u8>> {
    lz4_flex::block::decompress(body, length).ok()
}

#[cfg(not(feature = "compression"))]
fn decompress(_: &[u8], _: usize) -> Option<Vec<u8>> {
    None
}

/// Returns the value that bytes in JSON stand for, or `None` if they are none of a `T`.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Integrity;

    const NAME: &str = "name";

    /// Everything is compressed, or nothing; with either protection.
    fn all_options() -> [CacheOptions; 4] {
        let with = |bytes, integrity| CacheOptions::default().compress_from(bytes).integrity(integrity);
        let signed = || Integrity::signed(&b"a secret of thirty-two bytes or more"[..].try_into().unwrap());
        [
            with(0, Integrity::default()),
            with(usize::MAX, Integrity::default()),
            with(0, signed()),
            with(usize::MAX, signed()),
        ]
    }

    #[test]
    fn values_and_bytes_come_back() {
        for options in all_options() {
            let texts = vec!["a".repeat(1000), String::new()];
            assert_eq!(options.decode(NAME, &options.encode(NAME, &texts).unwrap()), Some(texts));
            let null = options.encode(NAME, &None::<i64>).unwrap();
            assert_eq!(options.decode::<Option<i64>>(NAME, &null), Some(None));
            for bytes in [&b""[..], b"\0\xff", &[7; 1000]] {
                let envelope = options.encode_bytes(NAME, bytes);
                assert_eq!(options.decode_bytes(NAME, &envelope).as_deref(), Some(bytes));
            }
        }
    }

    #[test]
    fn a_long_value_is_compressed_if_that_makes_it_shorter() {
        let text = "task ".repeat(1000);
        let from = |bytes| CacheOptions::default().compress_from(bytes);
        let plain = from(text.len() + 3).encode(NAME, &text).unwrap();
        assert_eq!(plain.len(), HEAD + 4 + text.len() + 2, "JSON adds two quotes");
        assert!(from(text.len() + 2).encode(NAME, &text).unwrap().len() < 200);
        assert_eq!(from(0).encode(NAME, "k").unwrap().len(), HEAD + 4 + 3);
    }

    #[test]
    fn anything_else_is_a_miss() {
        for options in all_options() {
            let read = |envelope: &[u8]| options.decode::<Vec<i64>>(NAME, envelope);
            let envelope = options.encode(NAME, &vec![1; 100]).unwrap();
            for length in 0..envelope.len() {
                assert_eq!(read(&envelope[..length]), None, "cut to {length}");
            }
            for index in 0..envelope.len() {
                let mut damaged = envelope.to_vec();
                damaged[index] ^= 1;
                assert_eq!(read(&damaged), None, "damaged at {index}");
            }
            assert_eq!(read(&[&envelope[..], b"x"].concat()), None, "continued");
            assert_eq!(read(b"set by hand"), None);
            assert_eq!(options.decode::<Vec<String>>(NAME, &envelope), None);
        }
    }

    #[test]
    fn a_length_that_lies_is_a_miss() {
        const LONGEST: usize = 100_000;
        for options in all_options().map(|options| options.largest_read(LONGEST)) {
            for length in [LONGEST, LONGEST + 1] {
                let envelope = options.close(NAME, LZ4, &compress(b"short").unwrap(), length);
                assert_eq!(options.open(NAME, &envelope), None);
                assert_eq!(CacheOptions::claimed_length(&envelope), length);
            }
            let envelope = options.close(NAME, PLAIN, b"short", 4);
            assert_eq!(options.open(NAME, &envelope), None);
            for (length, is_read) in [(LONGEST, true), (LONGEST + 1, false)] {
                let envelope = options.close(NAME, LZ4, &compress(&vec![0; length]).unwrap(), length);
                assert_eq!(options.open(NAME, &envelope).is_some(), is_read, "{length} bytes");
            }
            assert!(options.encode(NAME, &"x".repeat(LONGEST)).is_err(), "JSON adds two quotes");
        }
    }
}
