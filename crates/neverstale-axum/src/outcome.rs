//! What the layer did with a request and how long it took, as `Cache-Status` (RFC 9211) and `Server-Timing` say it.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Cursor, Write as _};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use tokio::time::Instant;

use super::order::Left;

/// The `Cache-Status` header (RFC 9211): what caches did with a request.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The `Server-Timing` header: where the time went, for scripts in a browser.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The longest value of these, in bytes.
const LONGEST: usize = 256;

/// What the layer did with a request. It is also among the extensions of every answer, for layers further out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Answered from the cache; the page lives so much longer, or until it is purged.
    Hit(Option<Duration>),
    /// As a hit, from the copy that this process has.
    Local(Option<Duration>),
    /// Not there; answered with what another request had built.
    Collapsed,
    /// Not there; the view ran, and its answer was stored.
    Stored(Fwd),
    /// The view ran, and its answer was not stored, for this reason.
    Miss(Cow<'static, str>),
    /// The view ran, and the cache had no say, for this reason.
    Bypass(&'static str),
    /// Neither GET nor HEAD.
    Method,
}

/// What was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fwd {
    /// Anything of this URL.
    UriMiss,
    /// A page for these values of the headers that the URL varies on.
    VaryMiss,
}

/// The time when a request reached the layer, among the request's extensions. A handler with a time limit counts from
/// it, since other builds may have been waited for before the handler runs.
#[derive(Clone, Copy, Debug)]
pub struct Arrival(pub Instant);

/// The version that was current after the request had arrived, among the request's extensions where pages are kept by
/// version, so that a view which looks for data of that version need not ask again.
#[derive(Clone, Debug)]
pub struct CurrentVersion(pub Arc<str>);

/// The version that a response shows. A handler reads it together with the data, and adds it to the response's
/// extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageVersion(pub String);

/// What a response says of its request's way through the cache.
#[derive(Clone, Copy)]
pub(super) struct Report {
    /// The cache's name.
    pub(super) cache: &'static str,
    pub(super) arrival: Arrival,
    /// Of that, asking for the version.
    pub(super) gate: Option<Duration>,
    /// Of that, the view.
    pub(super) view: Option<Duration>,
}

impl Outcome {
    /// All that [`word`](Self::word) says.
    pub const WORDS: [&str; 6] = ["hit", "local", "shared", "stored", "miss", "bypass"];

    /// Adds to the answer's `Cache-Status`, behind what caches further in have said, and to its `Server-Timing`.
    pub(super) fn say(self, report: Report, response: &mut Response) {
        let headers = response.headers_mut();
        headers.append(CACHE_STATUS, self.cache_status(report.cache));
        headers.append(SERVER_TIMING, self.server_timing(report, report.arrival.0.elapsed()));
        if self.is_as_stored() {
            let left = Left::of(response.headers());
            response.extensions_mut().insert(left);
        }
        response.extensions_mut().insert(self);
    }

    pub(super) fn cache_status(&self, cache: &str) -> HeaderValue {
        value(|text| write!(text, "{cache}; {}", self.summary()))
    }

    /// `took` is how long the answer took altogether.
    pub(super) fn server_timing(&self, report: Report, took: Duration) -> HeaderValue {
        let elsewhere = report.view.unwrap_or_default() + report.gate.unwrap_or_default();
        let cache = took.saturating_sub(elsewhere);
        value(|text| {
            for piece in ["cache;desc=\"", self.word(), "\";dur="] {
                text.write_all(piece.as_bytes())?;
            }
            write_milliseconds(text, cache)?;
            for (name, took) in [(", gate;dur=", report.gate), (", view;dur=", report.view)] {
                if let Some(took) = took {
                    text.write_all(name.as_bytes())?;
                    write_milliseconds(text, took)?;
                }
            }
            Ok(())
        })
    }

    /// Returns whether the answer is as it is stored, in the encoding that its receiver likes best.
    #[must_use]
    pub fn is_as_stored(&self) -> bool {
        matches!(self, Self::Hit(_) | Self::Local(_) | Self::Collapsed | Self::Stored(_))
    }

    /// Returns what was done and why, as `Cache-Status` says it, without the cache's name.
    #[must_use]
    pub fn summary(&self) -> impl fmt::Display {
        Summary(self)
    }

    /// Returns what was done in one word, of [`Self::WORDS`].
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hit(_) => "hit",
            Self::Local(_) => "local",
            Self::Collapsed => "shared",
            Self::Stored(_) => "stored",
            Self::Miss(_) => "miss",
            Self::Bypass(_) | Self::Method => "bypass",
        }
    }
}

/// Returns what is written, as a field's value. Every answer has two of these, so they are written in place and with
/// little formatting.
fn value(write: impl FnOnce(&mut Cursor<[u8; LONGEST]>) -> io::Result<()>) -> HeaderValue {
    let mut text = Cursor::new([0; LONGEST]);
    write(&mut text).expect("reasons are short");
    let length = usize::try_from(text.position()).expect("a place in the text");
    HeaderValue::from_bytes(&text.get_ref()[..length]).expect("words, numbers and a reason of our own")
}

/// Writes a duration as `Server-Timing` has it, to a hundredth.
fn write_milliseconds(text: &mut impl io::Write, took: Duration) -> io::Result<()> {
    let hundredths = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).saturating_add(5) / 10;
    let digit = |place| b'0' + u8::try_from(hundredths / place % 10).expect("a digit");
    text.write_all(itoa::Buffer::new().format(hundredths / 100).as_bytes())?;
    text.write_all(&[b'.', digit(10), digit(1)])
}

/// An outcome without the name of the cache.
struct Summary<'a>(&'a Outcome);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Outcome::{Bypass, Collapsed, Hit, Local, Method, Miss, Stored};
        match self.0 {
            Hit(None) => f.write_str("hit"),
            Hit(Some(left)) => write!(f, "hit; ttl={}", left.as_secs()),
            Local(None) => f.write_str("hit; detail=\"local\""),
            Local(Some(left)) => write!(f, "hit; ttl={}; detail=\"local\"", left.as_secs()),
            Collapsed => f.write_str("fwd=uri-miss; collapsed"),
            Stored(Fwd::UriMiss) => f.write_str("fwd=uri-miss; stored"),
            Stored(Fwd::VaryMiss) => f.write_str("fwd=vary-miss; stored"),
            Miss(reason) => write!(f, "fwd=miss; detail=\"{reason}\""),
            Bypass(reason) => write!(f, "fwd=bypass; detail=\"{reason}\""),
            Method => f.write_str("fwd=method"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_milliseconds_to_a_hundredth() {
        for (micros, expected) in
            [(0, "0.00"), (4, "0.00"), (5, "0.01"), (994, "0.99"), (12_345, "12.35"), (1_000_000, "1000.00")]
        {
            let text = value(|text| write_milliseconds(text, Duration::from_micros(micros)));
            assert_eq!(text, expected);
        }
    }
}
