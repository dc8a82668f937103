//! Bodies as they are sent: plain, or compressed once for all who can read that.

use std::io::Write;

use axum::http::{HeaderMap, HeaderValue, header};
use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

/// Of brotli's eleven levels and gzip's nine, those after which more time buys little.
const BROTLI_QUALITY: i32 = 4;
const GZIP_LEVEL: u32 = 6;

/// A coding of a body (RFC 9110, section 8.4.1). Of two that a client likes as much, the first is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Encoding {
    Br,
    Gzip,
}

impl Encoding {
    pub(super) const ALL: [Self; 2] = [Self::Br, Self::Gzip];

    /// Returns what to send of what there is: the one that the client likes best; none is the plain body.
    pub(super) fn choose(asked: &HeaderMap, there_are: impl IntoIterator<Item = Self>) -> Option<Self> {
        let plain = weight(asked, "identity").unwrap_or_default();
        let mut best = None;
        for encoding in there_are {
            let weight = weight(asked, encoding.name()).or_else(|| weight(asked, "*")).unwrap_or_default();
            if weight > 0.0 && weight >= plain && best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, encoding));
            }
        }
        best.map(|(_, encoding)| encoding)
    }

    /// Returns whether a client takes a plain body, which it need not say.
    pub(super) fn accepts_plain(asked: &HeaderMap) -> bool {
        weight(asked, "identity").or_else(|| weight(asked, "*")) != Some(0.0)
    }

    /// Encodes a body, away from the threads that serve others; none if that makes it no shorter.
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

    fn name(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }
}

/// Returns how much a client likes a coding, from 0 for not at all to 1, if it says so by this name. What is no weight
/// says nothing.
fn weight(asked: &HeaderMap, coding: &str) -> Option<f32> {
    let lists = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    let mut weights = lists.flat_map(|list| list.split(',')).filter_map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next()?;
        let name = name.strip_prefix("x-").unwrap_or(name);
        name.eq_ignore_ascii_case(coding).then_some(())?;
        match parts.next() {
            None => Some(1.0),
            Some(weight) => {
                let (name, weight) = weight.split_once('=')?;
                let weight: f32 = weight.trim().parse().ok()?;
                (name.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&weight)).then_some(weight)
            }
        }
    });
    weights.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accepted: &str, chosen: Option<Encoding>) {
        let mut asked = HeaderMap::new();
        asked.insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
        assert_eq!(Encoding::choose(&asked, Encoding::ALL.into_iter()), chosen, "{accepted}");
    }

    #[test]
    fn the_client_gets_what_it_likes_best() {
        check("gzip", Some(Encoding::Gzip));
        check("gzip, deflate, br, zstd", Some(Encoding::Br));
        check("br;q=0.4, gzip;q=0.5", Some(Encoding::Gzip));
        check("GZIP ; Q=0.5", Some(Encoding::Gzip));
        check("x-gzip", Some(Encoding::Gzip));
        check("*", Some(Encoding::Br));
        check("br;q=0, *;q=0.1", Some(Encoding::Gzip));
    }

    #[test]
    fn the_plain_body_is_sent_where_nothing_else_is_wanted() {
        for accepted in ["", "identity", "deflate", "gzip;q=0", "*;q=0", "gzip;q=0.3, identity;q=0.7"] {
            check(accepted, None);
        }
        assert_eq!(Encoding::choose(&HeaderMap::new(), Encoding::ALL.into_iter()), None);
    }

    #[test]
    fn a_plain_body_is_taken_unless_it_is_refused() {
        for (accepted, takes) in [
            ("", true),
            ("gzip", true),
            ("gzip;q=0", true),
            ("identity;q=0", false),
            ("Identity;Q=0.000, gzip", false),
            ("*;q=0", false),
            ("*;q=0, identity;q=0.1", true),
        ] {
            let asked = HeaderMap::from_iter([(header::ACCEPT_ENCODING, accepted.parse().unwrap())]);
            assert_eq!(Encoding::accepts_plain(&asked), takes, "{accepted}");
        }
    }

    #[test]
    fn what_is_no_weight_says_nothing() {
        for accepted in ["gzip;q=", "gzip;q=x", "gzip;q=2", "gzip;q=-1", "gzip;q=NaN", "gzip;q", "gzip;p=1"] {
            check(accepted, None);
        }
        check("gzip;q=x, br;q=0.1", Some(Encoding::Br));
    }

    #[test]
    fn only_what_there_is_is_chosen() {
        let mut asked = HeaderMap::new();
        asked.append(header::ACCEPT_ENCODING, HeaderValue::from_static("br"));
        asked.append(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip;q=0.1"));
        assert_eq!(Encoding::choose(&asked, [Encoding::Gzip].into_iter()), Some(Encoding::Gzip));
        assert_eq!(Encoding::choose(&asked, [].into_iter()), None);
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
