//! Stored entries: a page, the headers that it varies on, the generation of a path.
//!
//! ```text
//! length of the head (4 bytes, big endian) │ head, JSON │ plain body │ encoded bodies
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, StatusCode, header, response};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::encoding::Encoding;
use super::headers::{list, select};
use neverstale::Ttl;

/// Headers of one connection (RFC 9110, section 7.6.1), one visitor or one response: never stored.
const UNSTORED: [&str; 12] = [
    "cache-status",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "server-timing",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// One value under one of our keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// The generation of a path.
    Generation(String),
    /// A page.
    Page(Page),
    /// The page is under another key, which depends on these request headers.
    Varies { generation: String, vary_on: Vec<String> },
    /// The page could not be stored a moment ago: no request needs to wait for it.
    Pass { generation: String },
}

/// The state of the site that a page shows, and how long it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Validity {
    /// Read before the handler ran; or the version that the handler's response names.
    pub(super) generation: String,
    /// Milliseconds since 1970; none is never.
    expires: Option<u64>,
}

/// A response, and the state of the site that it shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) validity: Validity,
    /// Names of request headers, sorted.
    pub(super) vary_on: Vec<String>,
    /// Their values, hashed.
    pub(super) variant: String,
    status: u16,
    #[serde(with = "pairs")]
    pub(super) headers: HeaderMap,
    /// The lengths of the body's encodings, which follow it; 0 of one that is not worth it.
    encoded: Vec<(Encoding, usize)>,
    #[serde(skip)]
    bodies: Bytes,
}

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let head = serde_json::to_vec(self).expect("strings and numbers have an encoding");
        let bodies = if let Self::Page(page) = self { &page.bodies[..] } else { &[] };
        let mut entry = BytesMut::with_capacity(4 + head.len() + bodies.len());
        entry.put_u32(u32::try_from(head.len()).expect("a head is far below 4 GiB"));
        entry.put_slice(&head);
        entry.put_slice(bodies);
        entry.into()
    }

    /// Returns the entry; none if it is not one.
    pub(super) fn decode(mut entry: Bytes) -> Option<Self> {
        let length = entry.try_get_u32().ok()? as usize;
        if length > entry.len() {
            return None;
        }
        let head = entry.split_to(length);
        let mut decoded: Self = serde_json::from_slice(&head).ok()?;
        if let Self::Page(page) = &mut decoded {
            let lengths = page.encoded.iter().try_fold(0_usize, |sum, (_, length)| sum.checked_add(*length));
            lengths.filter(|lengths| *lengths <= entry.len())?;
            page.bodies = entry;
        }
        Some(decoded)
    }

    /// Returns whether it was made under this generation and has not expired.
    pub(super) fn is_current(&self, at: &str) -> bool {
        match self {
            Self::Generation(_) => false,
            Self::Page(page) => page.validity.is_current(at),
            Self::Varies { generation, .. } | Self::Pass { generation } => generation == at,
        }
    }
}

impl Validity {
    pub(super) fn new(generation: String, ttl: Ttl) -> Self {
        let expires = match ttl {
            Ttl::Never => None,
            Ttl::After(lifetime) => Some(millis(since_1970().saturating_add(lifetime))),
        };
        Self { generation, expires }
    }

    /// Returns whether it is of this generation and has not expired.
    pub(super) fn is_current(&self, at: &str) -> bool {
        self.generation == at && self.remaining() != Some(Duration::ZERO)
    }

    /// Returns how long the page still lives; none is for ever.
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.expires.map(|at| Duration::from_millis(at).saturating_sub(since_1970()))
    }
}

impl Page {
    pub(super) fn new(parts: &response::Parts, body: Bytes, validity: Validity) -> Self {
        let (vary_on, variant, encoded) = Default::default();
        let (status, headers) = (parts.status.as_u16(), stored(&parts.headers));
        Self { validity, vary_on, variant, status, headers, encoded, bodies: body }
    }

    /// Adds the body in these encodings. One that is not worth it is empty.
    pub(super) fn add_encoded(&mut self, encoded: &[(Encoding, Bytes)]) {
        let mut bodies = BytesMut::from(self.bodies.clone());
        for (encoding, body) in encoded {
            self.encoded.push((*encoding, body.len()));
            bodies.put_slice(body);
        }
        self.bodies = bodies.freeze();
    }

    /// Returns the body that a client prefers, and its encoding if it has one.
    ///
    /// An encoding that the page was not stored in is made for each request: it takes about a millisecond, only few
    /// clients prefer another encoding than the first one, and the replay keeps what is made.
    pub(super) async fn body(&self, request: &HeaderMap) -> (Option<Encoding>, Bytes) {
        let is_worth = |encoding: &Encoding| self.encoded(*encoding).is_none_or(|body| !body.is_empty());
        let chosen = Encoding::choose(request, Encoding::ALL.into_iter().filter(is_worth));
        let Some(encoding) = chosen else { return (None, self.plain()) };
        let body = match self.encoded(encoding) {
            Some(body) => Some(body),
            None => encoding.encode(self.plain()).await,
        };
        body.map_or_else(|| (None, self.plain()), |body| (chosen, body))
    }

    /// Returns the body as the handler made it.
    fn plain(&self) -> Bytes {
        let encoded: usize = self.encoded.iter().map(|(_, length)| length).sum();
        self.bodies.slice(..self.bodies.len() - encoded)
    }

    /// Returns the body in an encoding, if that is known; empty if the encoding is not worth it.
    fn encoded(&self, encoding: Encoding) -> Option<Bytes> {
        let index = self.encoded.iter().position(|(other, _)| *other == encoding)?;
        let behind: usize = self.encoded[index + 1..].iter().map(|(_, length)| length).sum();
        let end = self.bodies.len() - behind;
        Some(self.bodies.slice(end - self.encoded[index].1..end))
    }

    /// Returns its size in bytes, about.
    pub(super) fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 8).sum();
        self.bodies.len() + headers
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or_default()
    }
}

/// Returns the headers that are stored.
fn stored(headers: &HeaderMap) -> HeaderMap {
    let named = list(headers, &header::CONNECTION);
    let is_named = |name: &HeaderName| named.iter().any(|named| named.eq_ignore_ascii_case(name.as_str()));
    select(headers, |name| !UNSTORED.contains(&name.as_str()) && !is_named(name))
}

/// Headers as pairs of names and values, which have a character for each byte, since they need not be UTF-8.
mod pairs {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(headers: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect::<String>();
        serializer.collect_seq(headers.iter().map(|(name, value)| (name.as_str(), text(value))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderMap, D::Error> {
        let header = |(name, value): (String, String)| {
            let value: Option<Vec<_>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value?).ok()?))
        };
        let pairs = Vec::deserialize(deserializer)?;
        Ok(pairs.into_iter().filter_map(header).collect())
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Response};

    use super::*;

    fn page(ttl: Ttl) -> Page {
        let response = Response::builder()
            .header("x-name", HeaderValue::from_bytes(b"caf\xe9").unwrap())
            .header("x-twice", "1")
            .header("x-twice", "2")
            .header("connection", "close, X-Hop")
            .header("x-hop", "1")
            .header("set-cookie", "a=b");
        let (parts, ()) = response.body(()).unwrap().into_parts();
        Page::new(&parts, Bytes::from_static(b"\0\xffbody"), Validity::new("1".into(), ttl))
    }

    #[test]
    fn a_page_comes_back_without_headers_of_one_response() {
        let entry = Entry::Page(page(Ttl::Never));
        assert_eq!(Entry::decode(entry.encode().into()), Some(entry.clone()));
        let Entry::Page(page) = entry else { unreachable!() };
        let headers = page.headers;
        assert_eq!(headers["x-name"].as_bytes(), b"caf\xe9");
        assert_eq!(headers.get_all("x-twice").iter().count(), 2);
        assert_eq!(headers.len(), 3, "{headers:?}");
    }

    #[tokio::test]
    async fn a_body_comes_back_in_each_of_its_encodings() {
        for (gzipped, accepted, expected) in [
            ("gzipped", "br", &b"br"[..]),
            ("gzipped", "gzip", b"gzipped"),
            ("gzipped", "zstd", b"\0\xffbody"),
            ("", "gzip", b"\0\xffbody"),
            ("", "gzip, br;q=0.1", b"br"),
        ] {
            let mut page = page(Ttl::Never);
            page.add_encoded(&[(Encoding::Br, Bytes::from_static(b"br")), (Encoding::Gzip, gzipped.into())]);
            let Some(Entry::Page(page)) = Entry::decode(Entry::Page(page).encode().into()) else {
                unreachable!()
            };
            let request = HeaderMap::from_iter([(header::ACCEPT_ENCODING, accepted.parse().unwrap())]);
            assert_eq!(page.body(&request).await.1, expected);
        }
    }

    #[test]
    fn what_is_no_entry_is_not_decoded() {
        let entry = Entry::Pass { generation: "1".into() }.encode();
        for length in 0..entry.len() {
            assert_eq!(Entry::decode(entry[..length].to_vec().into()), None);
        }
        assert_eq!(Entry::decode(Bytes::from_static(b"\xff\xff\xff\xff{}")), None);
        let mut page = page(Ttl::Never);
        page.add_encoded(&[(Encoding::Br, Bytes::from_static(b"br"))]);
        let entry = Entry::Page(page).encode();
        assert_eq!(Entry::decode(entry[..entry.len() - 8].to_vec().into()), None);
    }

    #[test]
    fn a_page_is_current_in_its_generation_until_it_expires() {
        let current = |ttl| Entry::Page(page(ttl));
        assert!(current(Ttl::Never).is_current("1"));
        assert!(!current(Ttl::Never).is_current("2"));
        assert!(current(Ttl::After(Duration::from_secs(9))).is_current("1"));
        assert!(!current(Ttl::After(Duration::ZERO)).is_current("1"));
        assert!(!Entry::Generation("1".into()).is_current("1"));
    }
}
