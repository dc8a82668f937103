//! The envelope around what the app stores: format version, encoding, lengths, checksum, then the value as JSON, or as
//! the bytes it is; compressed (LZ4) where it is long.
//!
//! Whatever does not fit is a miss: a value written by another version, cut short, damaged, or set by hand.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lz4_flex::block::{compress, decompress};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Changes with the layout of the envelope or the encoding of what is in it.
const FORMAT: u8 = 2;

/// Format and encoding (1 byte each), length of the body as it is here, length of the value, CRC-32 of all this and the
/// body (4 bytes each, big endian).
const HEADER: usize = 14;

/// The longest value believed in. Beyond it a length is garbage, and must not be allocated for.
const LONGEST_VALUE: usize = 32 * 1024 * 1024;

const PLAIN: u8 = 0;
const LZ4: u8 = 1;

/// Returns a value in its envelope; compressed if it has at least so many bytes, and if that makes it shorter.
///
/// # Errors
///
/// What the value's own `Serialize` refuses, and values over 32 MiB.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, compress_from: usize) -> serde_json::Result<Bytes> {
    let value = serde_json::to_vec(value)?;
    if value.len() > LONGEST_VALUE {
        return Err(serde::ser::Error::custom(format!("{} bytes are too many", value.len())));
    }
    Ok(encode_bytes(&value, compress_from))
}

/// Returns bytes of at most 32 MiB in their envelope, compressed as in [`encode`]. Whoever reads them must know them
/// from JSON by what they are.
#[must_use]
pub(super) fn encode_bytes(value: &[u8], compress_from: usize) -> Bytes {
    let compressed = if value.len() >= compress_from { Some(compress(value)) } else { None };
    match compressed.filter(|compressed| compressed.len() < value.len()) {
        Some(body) => seal(LZ4, &body, value.len()),
        None => seal(PLAIN, value, value.len()),
    }
}

/// Returns the value of an envelope, or `None` if it is not one that [`encode`] made of a `T`.
#[must_use]
pub(super) fn decode<T: DeserializeOwned>(envelope: &[u8]) -> Option<T> {
    serde_json::from_slice(&open(envelope)?).ok()
}

/// Returns what is in an envelope; without a copy, where it is not compressed.
#[must_use]
pub(super) fn decode_bytes(envelope: &Bytes) -> Option<Bytes> {
    Some(match open(envelope)? {
        Cow::Borrowed(value) => envelope.slice_ref(value),
        Cow::Owned(value) => value.into(),
    })
}

fn seal(encoding: u8, body: &[u8], length: usize) -> Bytes {
    let to_u32 = |length| u32::try_from(length).expect("values are far below 4 GiB");
    let mut envelope = BytesMut::with_capacity(HEADER + body.len());
    envelope.put_u8(FORMAT);
    envelope.put_u8(encoding);
    envelope.put_u32(to_u32(body.len()));
    envelope.put_u32(to_u32(length));
    envelope.put_u32(checksum(&envelope, body));
    envelope.put_slice(body);
    envelope.freeze()
}

fn open(envelope: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (header, body) = envelope.split_at_checked(HEADER)?;
    let (checked, mut rest) = header.split_at(HEADER - 4);
    if rest.get_u32() != checksum(checked, body) {
        return None;
    }
    let mut fields = checked;
    let (format, encoding) = (fields.get_u8(), fields.get_u8());
    let (body_length, length) = (fields.get_u32() as usize, fields.get_u32() as usize);
    if format != FORMAT || body_length != body.len() || length > LONGEST_VALUE {
        return None;
    }
    match encoding {
        PLAIN => Some(body.into()),
        LZ4 => decompress(body, length).ok().filter(|value| value.len() == length).map(Cow::Owned),
        _ => None,
    }
}

/// Returns the CRC-32 of a header and what follows it.
pub(super) fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything is compressed, or nothing.
    const THRESHOLDS: [usize; 2] = [0, usize::MAX];

    #[test]
    fn a_value_comes_back() {
        for threshold in THRESHOLDS {
            let texts = vec!["a".repeat(1000), String::new()];
            assert_eq!(decode(&encode(&texts, threshold).unwrap()), Some(texts));
            assert_eq!(decode::<Vec<i64>>(&encode::<[i64]>(&[], threshold).unwrap()), Some(vec![]));
            assert_eq!(decode::<Option<i64>>(&encode(&None::<i64>, threshold).unwrap()), Some(None));
        }
    }

    #[test]
    fn bytes_come_back() {
        for threshold in THRESHOLDS {
            for bytes in [&b""[..], b"\0\xff", &[7; 1000]] {
                assert_eq!(decode_bytes(&encode_bytes(bytes, threshold)).as_deref(), Some(bytes));
            }
        }
        assert_eq!(decode_bytes(&Bytes::from_static(b"set by hand")), None);
    }

    #[test]
    fn a_long_value_is_compressed_if_that_makes_it_shorter() {
        let text = "task ".repeat(1000);
        let plain = encode(&text, text.len() + 3).unwrap();
        assert_eq!(plain.len(), HEADER + text.len() + 2, "JSON adds two quotes");
        assert!(encode(&text, text.len() + 2).unwrap().len() < 200);
        assert_eq!(encode("k", 0).unwrap().len(), HEADER + 3);
    }

    #[test]
    fn anything_else_is_a_miss() {
        for threshold in THRESHOLDS {
            let envelope = encode(&vec![1; 100], threshold).unwrap();
            for length in 0..envelope.len() {
                assert_eq!(decode::<Vec<i64>>(&envelope[..length]), None, "cut to {length}");
            }
            for index in 0..envelope.len() {
                let mut damaged = envelope.to_vec();
                damaged[index] ^= 1;
                assert_eq!(decode::<Vec<i64>>(&damaged), None, "damaged at {index}");
            }
            assert_eq!(decode::<Vec<i64>>(b"set by hand"), None);
            assert_eq!(decode::<Vec<String>>(&envelope), None);
        }
    }

    #[test]
    fn a_length_that_lies_is_a_miss() {
        for length in [LONGEST_VALUE, LONGEST_VALUE + 1] {
            assert_eq!(open(&seal(LZ4, &compress(b"short"), length)), None);
        }
    }
}
