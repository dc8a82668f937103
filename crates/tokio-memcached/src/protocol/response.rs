//! Responses, decoded as far as they have arrived.

use bytes::{Buf, Bytes, BytesMut};

use super::status::Status;

/// Bytes of the header before every message ("Packet Structure").
pub const HEADER: usize = 24;

/// The first byte of a response.
const MAGIC: u8 = 0x81;

/// A whole response. Key and value share the buffer they were read into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The command of the request.
    pub opcode: u8,
    /// How it went.
    pub status: Status,
    /// What the request bore.
    pub opaque: u32,
    /// The version of the value.
    pub cas: u64,
    /// What comes before the key: the flags of a value.
    pub extras: Bytes,
    /// The key, where the command returns it.
    pub key: Bytes,
    /// The value, or a message where the status is an error.
    pub value: Bytes,
}

/// Bytes that are no response of this protocol, or none to what was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The first byte is not that of a response.
    #[error("wrong magic byte")]
    Magic,
    /// Extras and key are longer than the body they are part of.
    #[error("lengths do not fit")]
    Lengths,
    /// The body is longer than the caller takes.
    #[error("body of {0} bytes")]
    TooLong(u32),
    /// A part of the response does not fit the request.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
}

/// Takes one response off the front of what has arrived, or returns `None` if it is not all there yet.
///
/// # Errors
///
/// [`Malformed`], also if its body has more than `max_body` bytes; nothing that follows can be trusted then.
pub fn decode(arrived: &mut BytesMut, max_body: usize) -> Result<Option<Response>, Malformed> {
    // What is no memcached may say less than a header, and would be waited for.
    if arrived.first().is_some_and(|magic| *magic != MAGIC) {
        return Err(Malformed::Magic);
    }
    let Some(mut header) = arrived.get(1..HEADER) else { return Ok(None) };
    let opcode = header.get_u8();
    let key = usize::from(header.get_u16());
    let extras = usize::from(header.get_u8());
    header.advance(1); // data type
    let status = Status(header.get_u16());
    let length = header.get_u32();
    let opaque = header.get_u32();
    let cas = header.get_u64();
    let body = length as usize;
    if body > max_body {
        return Err(Malformed::TooLong(length));
    }
    if extras + key > body {
        return Err(Malformed::Lengths);
    }
    if arrived.len() < HEADER + body {
        arrived.reserve(HEADER + body - arrived.len());
        return Ok(None);
    }
    arrived.advance(HEADER);
    let mut body = arrived.split_to(body).freeze();
    let (extras, key) = (body.split_to(extras), body.split_to(key));
    Ok(Some(Response { opcode, status, opaque, cas, extras, key, value: body }))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LONGEST: usize = 1024 * 1024;

    /// Bytes as a server writes them.
    fn encode(response: &Response) -> Vec<u8> {
        let Response { opcode, status, opaque, cas, extras, key, value } = response;
        let body = u32::try_from(extras.len() + key.len() + value.len()).unwrap();
        let mut bytes = vec![0x81, *opcode];
        bytes.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
        bytes.extend([u8::try_from(extras.len()).unwrap(), 0]);
        bytes.extend(status.0.to_be_bytes());
        bytes.extend(body.to_be_bytes());
        bytes.extend(opaque.to_be_bytes());
        bytes.extend(cas.to_be_bytes());
        for part in [extras, key, value] {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    fn any_response() -> impl Strategy<Value = Response> {
        let bytes = |longest| vec(any::<u8>(), 0..=longest).prop_map(Bytes::from);
        let numbers = any::<(u8, u16, u32, u64)>();
        let parts = (numbers, bytes(20), bytes(250), bytes(300));
        parts.prop_map(|((opcode, status, opaque, cas), extras, key, value)| Response {
            opcode,
            status: Status(status),
            opaque,
            cas,
            extras,
            key,
            value,
        })
    }

    /// All answers that are whole, taken off the front.
    fn decode_all(arrived: &mut BytesMut) -> Vec<Response> {
        std::iter::from_fn(|| decode(arrived, LONGEST).unwrap()).collect()
    }

    /// A header that claims these lengths.
    fn header(key: u16, extras: u8, body: u32) -> BytesMut {
        let mut bytes = encode(&empty());
        bytes[2..4].copy_from_slice(&key.to_be_bytes());
        bytes[4] = extras;
        bytes[8..12].copy_from_slice(&body.to_be_bytes());
        BytesMut::from(&bytes[..])
    }

    /// An answer without a body.
    fn empty() -> Response {
        let mut bytes = BytesMut::zeroed(HEADER);
        bytes[0] = 0x81;
        decode(&mut bytes, LONGEST).unwrap().unwrap()
    }

    #[test]
    fn an_answer_from_the_protocol_text_is_read() {
        let hello = b"\x81\0\0\0\x04\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\x01\xde\xad\xbe\xefWorld";
        let response = decode(&mut BytesMut::from(&hello[..]), LONGEST).unwrap().unwrap();
        let expected = Response {
            cas: 1,
            extras: Bytes::from_static(b"\xde\xad\xbe\xef"),
            value: Bytes::from_static(b"World"),
            ..empty()
        };
        assert_eq!(response, expected);
    }

    #[test]
    fn what_no_server_says_is_refused() {
        for magic in (0..=255).filter(|magic| *magic != 0x81) {
            let mut bytes = BytesMut::zeroed(HEADER);
            bytes[0] = magic;
            assert_eq!(decode(&mut bytes, LONGEST), Err(Malformed::Magic));
        }
        assert_eq!(decode(&mut BytesMut::from("ERROR\r\n"), LONGEST), Err(Malformed::Magic));
        for (key, extras, body) in [(1, 0, 0), (0, 1, 0), (2, 3, 4), (u16::MAX, u8::MAX, 65_000)] {
            assert_eq!(decode(&mut header(key, extras, body), LONGEST), Err(Malformed::Lengths));
        }
        for body in [1024 * 1024 + 1, u32::MAX] {
            assert_eq!(decode(&mut header(0, 0, body), LONGEST), Err(Malformed::TooLong(body)));
        }
    }

    proptest! {
        #[test]
        fn answers_are_the_same_wherever_they_are_split(
            responses in vec(any_response(), 0..4),
            cuts in vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let bytes: Vec<u8> = responses.iter().flat_map(encode).collect();
            // At every byte, and in several places at once.
            let mut splits: Vec<_> = (0..=bytes.len()).map(|place| vec![place]).collect();
            splits.push(cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect());
            splits.push((0..bytes.len()).collect());
            for mut places in splits {
                places.extend([0, bytes.len()]);
                places.sort_unstable();
                let (mut arrived, mut decoded) = (BytesMut::new(), Vec::new());
                for part in places.windows(2) {
                    arrived.extend_from_slice(&bytes[part[0]..part[1]]);
                    decoded.extend(decode_all(&mut arrived));
                }
                prop_assert_eq!(&decoded, &responses);
                prop_assert!(arrived.is_empty());
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_reserve_without_measure(
            mut bytes in vec(any::<u8>(), 0..200),
            is_answer in any::<bool>(),
        ) {
            if let (true, Some(first)) = (is_answer, bytes.first_mut()) {
                *first = 0x81;
            }
            let mut arrived = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut arrived, LONGEST) {}
            prop_assert!(arrived.capacity() <= HEADER + LONGEST);
        }

        #[test]
        fn no_length_is_reserved_beyond_the_longest_body(key: u16, extras: u8, body: u32) {
            let mut arrived = header(key, extras, body);
            let decoded = decode(&mut arrived, LONGEST);
            let is_refused = body as usize > LONGEST || u32::from(key) + u32::from(extras) > body;
            prop_assert_eq!(decoded.is_err(), is_refused);
            prop_assert!(arrived.capacity() <= HEADER + LONGEST);
        }
    }
}
