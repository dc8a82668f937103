//! Commands, encoded.

use std::fmt;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::opcode::Opcode;
use super::response::HEADER;

/// The first byte of a request.
const MAGIC: u8 = 0x80;

/// Above this many seconds memcached reads an expiration as a point in time (memcached `doc/protocol.txt`,
/// "Expiration times").
const LONGEST_RELATIVE: u32 = 60 * 60 * 24 * 30;

/// A point in time that is long over: what is stored with it expires at once.
const LONG_OVER: u32 = LONGEST_RELATIVE + 1;

/// "Fail if the key does not exist", in place of a counter's lifetime ("Increment, Decrement").
const DO_NOT_CREATE: u32 = u32::MAX;

/// When a value expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// Not before it is deleted or evicted.
    Never,
    /// After so long, rounded up to whole seconds; zero is at once.
    After(Duration),
}

impl Expiration {
    /// Returns the expiration as the server reads it. `now` is the Unix time in seconds.
    #[must_use]
    pub fn to_wire(self, now: u64) -> u32 {
        let Self::After(lifetime) = self else { return 0 };
        let seconds = lifetime.as_secs().saturating_add((lifetime.subsec_nanos() > 0).into());
        match u32::try_from(seconds) {
            Ok(0) => LONG_OVER,
            Ok(seconds @ ..=LONGEST_RELATIVE) => seconds,
            _ => u32::try_from(seconds.saturating_add(now)).unwrap_or(u32::MAX),
        }
    }
}

/// A command with all that it carries. Its `Debug` shows no value, which may be a password or a visitor's data.
#[derive(Clone)]
pub struct Request {
    opcode: Opcode,
    extras: Vec<u8>,
    key: Bytes,
    value: Bytes,
    cas: u64,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("opcode", &self.opcode)
            .field("key", &self.key)
            .field("value", &format_args!("{} bytes", self.value.len()))
            .finish_non_exhaustive()
    }
}

impl Request {
    /// A command that needs a key at most: get, delete, noop, version, stat, flush.
    #[must_use]
    pub fn of(opcode: Opcode, key: Bytes) -> Self {
        Self { opcode, extras: Vec::new(), key, value: Bytes::new(), cas: 0 }
    }

    /// `Set`, `Add`, `Replace` and their quiet forms. `cas` other than 0 stores only over that version.
    #[must_use]
    pub fn store(opcode: Opcode, key: Bytes, value: Bytes, flags: u32, expiration: u32, cas: u64) -> Self {
        let extras = [flags.to_be_bytes(), expiration.to_be_bytes()].concat();
        Self { opcode, extras, key, value, cas }
    }

    /// `Append` and `Prepend`.
    #[must_use]
    pub fn extend(opcode: Opcode, key: Bytes, value: Bytes) -> Self {
        Self { value, ..Self::of(opcode, key) }
    }

    /// `Increment` and `Decrement` of a number that exists.
    #[must_use]
    pub fn count(opcode: Opcode, key: Bytes, delta: u64) -> Self {
        const INITIAL: [u8; 8] = [0; 8];
        let extras = [&delta.to_be_bytes()[..], &INITIAL, &DO_NOT_CREATE.to_be_bytes()].concat();
        Self { extras, ..Self::of(opcode, key) }
    }

    /// `Touch`.
    #[must_use]
    pub fn touch(key: Bytes, expiration: u32) -> Self {
        Self { extras: expiration.to_be_bytes().into(), ..Self::of(Opcode::Touch, key) }
    }

    /// A login with SASL PLAIN (RFC 4616): no other identity, user name, password.
    #[must_use]
    pub fn plain_login(username: &str, password: &str) -> Self {
        let value = ["", username, password].join("\0");
        Self { value: value.into(), ..Self::of(Opcode::SaslAuth, Bytes::from_static(b"PLAIN")) }
    }

    /// Returns the command.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// Appends the command to `out`. Its response bears the same `opaque`.
    ///
    /// # Panics
    ///
    /// If the key has more than 64 KiB, or the value 4 GiB, which no header can say.
    pub fn put(&self, opaque: u32, out: &mut BytesMut) {
        let body = self.extras.len() + self.key.len() + self.value.len();
        out.reserve(HEADER + body);
        out.put_u8(MAGIC);
        out.put_u8(self.opcode as u8);
        out.put_u16(u16::try_from(self.key.len()).expect("keys have at most 250 bytes"));
        out.put_u8(u8::try_from(self.extras.len()).expect("extras have at most 20 bytes"));
        out.put_u8(0); // data type: raw bytes, the only one
        out.put_u16(0); // reserved
        out.put_u32(u32::try_from(body).expect("values are far below 4 GiB"));
        out.put_u32(opaque);
        out.put_u64(self.cas);
        out.put_slice(&self.extras);
        out.put_slice(&self.key);
        out.put_slice(&self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    const OPAQUE: [u8; 4] = [1, 2, 3, 4];

    /// Header until the opaque, version, and body are those of the protocol text where it has them.
    #[test]
    fn requests_are_as_the_protocol_text_has_them() {
        let get = Request::of(Opcode::Get, key("Hello"));
        let add = Request::store(Opcode::Add, key("Hello"), key("World"), 0xdead_beef, 3600, 0);
        let cas = Request::store(Opcode::Set, key("k"), Bytes::new(), 0, 0, 0x0807_0605_0403_0201);
        let count = Request::count(Opcode::Increment, key("counter"), 1);
        let append = Request::extend(Opcode::Append, key("Hello"), key("!"));
        let touch = Request::touch(key("k"), 0x0a0b_0c0d);
        let noop = Request::of(Opcode::Noop, Bytes::new());
        let login = Request::plain_login("user", "hello");
        let cases: [(_, [u8; 12], [u8; 8], &[u8]); 8] = [
            (get, [0x80, 0x00, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5], [0; 8], b"Hello"),
            (
                add,
                [0x80, 0x02, 0, 5, 8, 0, 0, 0, 0, 0, 0, 18],
                [0; 8],
                b"\xde\xad\xbe\xef\0\0\x0e\x10HelloWorld",
            ),
            (cas, [0x80, 0x01, 0, 1, 8, 0, 0, 0, 0, 0, 0, 9], [8, 7, 6, 5, 4, 3, 2, 1], b"\0\0\0\0\0\0\0\0k"),
            (
                count,
                [0x80, 0x05, 0, 7, 20, 0, 0, 0, 0, 0, 0, 27],
                [0; 8],
                b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\xff\xff\xff\xffcounter",
            ),
            (append, [0x80, 0x0e, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6], [0; 8], b"Hello!"),
            (touch, [0x80, 0x1c, 0, 1, 4, 0, 0, 0, 0, 0, 0, 5], [0; 8], b"\x0a\x0b\x0c\x0dk"),
            (noop, [0x80, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0; 8], b""),
            (login, [0x80, 0x21, 0, 5, 0, 0, 0, 0, 0, 0, 0, 16], [0; 8], b"PLAIN\0user\0hello"),
        ];
        for (request, header, version, body) in cases {
            let mut bytes = BytesMut::new();
            request.put(u32::from_be_bytes(OPAQUE), &mut bytes);
            assert_eq!(bytes, [&header[..], &OPAQUE, &version, body].concat(), "{request:?}");
        }
    }

    #[test]
    fn a_lifetime_is_seconds_up_to_a_month_and_a_point_in_time_beyond() {
        const MONTH: u64 = 30 * 24 * 60 * 60;
        let now = 1_700_000_000;
        let seconds = |seconds| Expiration::After(Duration::from_secs(seconds)).to_wire(now);
        assert_eq!(Expiration::Never.to_wire(now), 0);
        assert_eq!(u64::from(seconds(0)), MONTH + 1, "in 1970, since 0 is never");
        assert_eq!(Expiration::After(Duration::from_nanos(1)).to_wire(now), 1);
        assert_eq!(u64::from(seconds(MONTH)), MONTH);
        assert_eq!(u64::from(seconds(MONTH + 1)), now + MONTH + 1);
        assert_eq!(seconds(u64::MAX), u32::MAX);
        assert_eq!(Expiration::After(Duration::MAX).to_wire(u64::MAX), u32::MAX);
    }

    #[test]
    fn a_request_shows_neither_password_nor_value() {
        let login = Request::plain_login("user", "wrong-horse");
        let set = Request::store(Opcode::Set, key("k"), key("wrong-horse"), 0, 0, 0);
        for request in [login, set] {
            let shown = format!("{request:?} {request:#?}");
            assert!(!shown.contains("wrong-horse") && shown.contains("bytes"), "{shown}");
        }
    }
}
