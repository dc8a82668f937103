//! Encodings of bodies: plain, or compressed once for all clients that accept it.

use std::io::Write;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};

use super::headers::has_directive;

/// Of brotli's eleven levels and gzip's nine, those after which more time buys little.
const BROTLI_QUALITY: i32 = 4;
const GZIP_LEVEL: u32 = 6;

/// A coding of a body (RFC 9110, section 8.4.1). Of two with the same weight, the first is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Encoding {
    Br,
    Gzip,
}

impl Encoding {
    pub(super) const ALL: [Self; 2] = [Self::Br, Self::Gzip];

    /// Returns the available encoding that a client prefers; none is the plain body.
    pub(super) fn choose(request: &HeaderMap, available: impl IntoIterator<Item = Self>) -> Option<Self> {
        let [br, gzip, identity, others] = weights(request);
        let mut best = None;
        for encoding in available {
            let weight = match encoding {
                Self::Br => br,
                Self::Gzip => gzip,
            };
            let weight = weight.or(others).unwrap_or_default();
            let is_preferred = weight > 0.0 && weight >= identity.unwrap_or_default();
            if is_preferred && best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, encoding));
            }
        }
        best.map(|(_, encoding)| encoding)
    }

    /// Encodes a body on a thread for blocking work; none if that makes it no shorter.
    pub(super) async fn encode(self, body: Bytes) -> Option<Bytes> {
        let encoded = spawn_blocking(move || {
            let encoded = self.write(&body).expect("writing into memory does not fail");
            (encoded.len() < body.len()).then(|| encoded.into_boxed_slice().into())
        });
        encoded.await.ok().flatten()
    }

    fn write(self, body: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Br => {
                let parameters = BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    size_hint: body.len(),
                    ..BrotliEncoderParams::default()
                };
                let mut encoder = CompressorWriter::with_params(Vec::new(), 4096, &parameters);
                encoder.write_all(body)?;
                Ok(encoder.into_inner())
            }
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }
}

/// Returns whether a client refuses every available coding of a body, the plain one among them.
#[must_use]
pub fn accepts_nothing(request: &HeaderMap) -> bool {
    Encoding::choose(request, Encoding::ALL).is_none() && !accepts_plain(request)
}

/// Returns whether a body may be sent in an encoding, and a layer further out that compresses would do so.
pub(super) fn is_encodable(headers: &HeaderMap, body: &Bytes) -> bool {
    let kept = [header::CONTENT_ENCODING, header::CONTENT_RANGE];
    if has_directive(headers, "no-transform") || kept.iter().any(|name| headers.contains_key(name)) {
        return false;
    }
    let mut response = Response::new(Body::from(body.clone()));
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    // The predicate compares media types letter by letter.
    if let Some(Ok(content_type)) = content_type.map(|value| HeaderValue::from_bytes(&value)) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    DefaultPredicate::new().should_compress(&response)
}

/// Returns whether a client accepts a plain body, which it need not name.
fn accepts_plain(request: &HeaderMap) -> bool {
    let [_, _, identity, others] = weights(request);
    identity.or(others) != Some(0.0)
}

/// Returns the weights, from 0 to 1, that a client gives to these codings; `*` stands for all that it does not name.
fn weights(request: &HeaderMap) -> [Option<f32>; 4] {
    let mut weights = [None; 4];
    let lists = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    for member in lists.flat_map(|list| list.split(',')) {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let name = name.strip_prefix("x-").unwrap_or(name);
        let index =
            ["br", "gzip", "identity", "*"].iter().position(|coding| name.eq_ignore_ascii_case(coding));
        if let Some(index) = index {
            // Of several weights the first counts.
            weights[index] = weights[index].or_else(|| parts.next().map_or(Some(1.0), parse_weight));
        }
    }
    weights
}

/// Parses a parameter such as `q=0.5`. A weight that is none is ignored.
fn parse_weight(parameter: &str) -> Option<f32> {
    let (name, weight) = parameter.split_once('=')?;
    let weight: f32 = weight.trim().parse().ok()?;
    (name.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&weight)).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(encodings: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, encodings.parse().unwrap())])
    }

    #[test]
    fn the_encoding_of_the_greatest_weight_is_chosen() {
        let (br, gzip) = (Some(Encoding::Br), Some(Encoding::Gzip));
        for (accepted, chosen) in [
            ("gzip", gzip),
            ("gzip, deflate, br, zstd", br),
            ("br;q=0.4, gzip;q=0.5", gzip),
            ("GZIP ; Q=0.5", gzip),
            ("x-gzip", gzip),
            ("*", br),
            ("br;q=0, *;q=0.1", gzip),
            ("", None),
            ("identity", None),
            ("deflate", None),
            ("gzip;q=0", None),
            ("*;q=0", None),
            ("gzip;q=0.3, identity;q=0.7", None),
            // These are no weights.
            ("gzip;q=", None),
            ("gzip;q=x", None),
            ("gzip;q=2", None),
            ("gzip;q=-1", None),
            ("gzip;q=NaN", None),
            ("gzip;q", None),
            ("gzip;p=1", None),
            ("gzip;q=x, br;q=0.1", br),
        ] {
            assert_eq!(Encoding::choose(&accepting(accepted), Encoding::ALL), chosen, "{accepted}");
        }
        assert_eq!(Encoding::choose(&HeaderMap::new(), Encoding::ALL), None);
    }

    #[test]
    fn only_an_available_encoding_is_chosen() {
        let mut request = accepting("br");
        request.append(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip;q=0.1"));
        assert_eq!(Encoding::choose(&request, [Encoding::Gzip]), Some(Encoding::Gzip));
        assert_eq!(Encoding::choose(&request, []), None);
    }

    #[test]
    fn a_plain_body_is_accepted_unless_it_is_refused() {
        for (accepted, is_accepted) in [
            ("", true),
            ("gzip", true),
            ("gzip;q=0", true),
            ("identity;q=0", false),
            ("Identity;Q=0.000, gzip", false),
            ("*;q=0", false),
            ("*;q=0, identity;q=0.1", true),
        ] {
            assert_eq!(accepts_plain(&accepting(accepted)), is_accepted, "{accepted}");
        }
    }

    #[tokio::test]
    async fn what_becomes_no_shorter_stays_plain() {
        for encoding in Encoding::ALL {
            assert_eq!(encoding.encode(Bytes::from_static(b"short")).await, None);
            let long = Bytes::from("long ".repeat(100));
            assert!(encoding.encode(long.clone()).await.is_some_and(|encoded| encoded.len() < long.len()));
        }
    }
}
