//! The envelope around what the app stores: format version, length, checksum, then the value as JSON.
//!
//! Whatever does not fit is a miss: a value written by another version, cut short, damaged, or set by hand.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Changes with the layout of the envelope or the encoding of what is in it.
const FORMAT: u8 = 1;

/// Format (1 byte), length of the value (4, big endian), CRC-32 of the value (4, big endian).
const HEADER: usize = 9;

/// Returns a value in its envelope.
///
/// # Errors
///
/// What the value's own `Serialize` refuses, and values of 4 GiB and over.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, serde_json::Error> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).map_err(serde::ser::Error::custom)?;
    let mut envelope = BytesMut::with_capacity(HEADER + body.len());
    envelope.put_u8(FORMAT);
    envelope.put_u32(length);
    envelope.put_u32(crc32fast::hash(&body));
    envelope.put_slice(&body);
    Ok(envelope.freeze())
}

/// Returns the value of an envelope, or `None` if it is not one that [`encode`] made of a `T`.
#[must_use]
pub(super) fn decode<T: DeserializeOwned>(envelope: &[u8]) -> Option<T> {
    let (header, body) = envelope.split_at_checked(HEADER)?;
    let (format, rest) = header.split_first()?;
    let (length, checksum) = rest.split_first_chunk::<4>()?;
    let intact = *format == FORMAT
        && u32::from_be_bytes(*length) as usize == body.len()
        && checksum == crc32fast::hash(body).to_be_bytes();
    if intact { serde_json::from_slice(body).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back() {
        assert_eq!(decode(&encode(&vec!["a", ""]).unwrap()), Some(vec![String::from("a"), String::new()]));
        assert_eq!(decode::<Vec<i64>>(&encode::<[i64]>(&[]).unwrap()), Some(vec![]));
        assert_eq!(decode::<Option<i64>>(&encode(&None::<i64>).unwrap()), Some(None));
    }

    #[test]
    fn anything_else_is_a_miss() {
        let envelope = encode(&vec![1, 2, 3]).unwrap();
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
