//! The outcome of a request at the page cache, and its timing: `Cache-Status` (RFC 9211) and `Server-Timing`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use tokio::time::Instant;

/// The `Cache-Status` header (RFC 9211): what caches did with a request.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The `Server-Timing` header: where the time went, for scripts in a browser.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What the page cache did with a request.
///
/// Every response of the page cache has it among its extensions, for layers further out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A page from the cache, and the rest of its lifetime if that has an end.
    Hit(Option<Duration>),
    /// A hit in this process: the whole response was replayed by a [`ReplayLayer`](crate::ReplayLayer).
    Replayed(Option<Duration>),
    /// A miss, and another request built the page.
    Collapsed,
    /// A miss: the handler ran, and its response was stored.
    Stored(Fwd),
    /// A miss: the handler ran, and the page that it made is not in the cache, for this reason.
    Unstored(&'static str),
    /// A miss: the handler ran, and its response is left as it is, for this reason.
    Miss(Cow<'static, str>),
    /// The handler ran and the cache was bypassed, for this reason.
    Bypass(&'static str),
    /// The method was neither GET nor HEAD.
    Method,
}

/// What the cache lacked on a miss, as `fwd` in `Cache-Status` (RFC 9211) names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fwd {
    /// The cache had no current page of this URL.
    UriMiss,
    /// The cache had no current page for these values of the headers that the URL varies on.
    VaryMiss,
}

/// What a response says of its request's way through the cache.
#[derive(Clone, Copy)]
pub(super) struct Report {
    /// The cache's name.
    pub(super) cache: &'static str,
    /// When the request reached it.
    pub(super) arrival: Instant,
    /// Of that, version checks, named `gate` in `Server-Timing`.
    pub(super) check: Option<Duration>,
    /// Of that, the handler, named `view` there.
    pub(super) handler: Option<Duration>,
}

impl Outcome {
    /// All values that [`word`](Self::word) can return.
    pub const WORDS: [&str; 6] = ["hit", "local", "shared", "stored", "miss", "bypass"];

    /// Adds to a response's `Cache-Status`, behind those of caches further in, and to its `Server-Timing`.
    pub(super) fn write(self, report: Report, response: &mut Response) {
        response.headers_mut().append(CACHE_STATUS, self.status(report.cache));
        let took = report.arrival.elapsed();
        response.headers_mut().append(SERVER_TIMING, self.timing(report, took));
        response.extensions_mut().insert(self);
    }

    /// Returns the value of `Cache-Status`.
    pub(super) fn status(&self, cache: &str) -> HeaderValue {
        let mut text = String::with_capacity(64);
        text.push_str(cache);
        text.push_str("; ");
        self.push_to(&mut text);
        value(text)
    }

    /// Returns the value of `Server-Timing` for a request that has taken so long.
    pub(super) fn timing(&self, report: Report, took: Duration) -> HeaderValue {
        let elsewhere = report.handler.unwrap_or_default() + report.check.unwrap_or_default();
        let took = took.saturating_sub(elsewhere);
        let mut text = String::with_capacity(64);
        text.push_str("cache;desc=\"");
        text.push_str(self.word());
        text.push_str("\";dur=");
        push_milliseconds(&mut text, took);
        for (name, took) in [(", gate;dur=", report.check), (", view;dur=", report.handler)] {
            if let Some(took) = took {
                text.push_str(name);
                push_milliseconds(&mut text, took);
            }
        }
        value(text)
    }

    /// Appends the outcome as `Cache-Status` names it. Every replay needs it, and `fmt` takes three times as long.
    fn push_to(&self, text: &mut String) {
        let ttl = match self {
            Self::Hit(left) | Self::Replayed(left) => {
                text.push_str("hit");
                left.as_ref()
            }
            Self::Collapsed => return text.push_str("fwd=uri-miss; collapsed"),
            Self::Stored(Fwd::UriMiss) => return text.push_str("fwd=uri-miss; stored"),
            Self::Stored(Fwd::VaryMiss) => return text.push_str("fwd=vary-miss; stored"),
            Self::Unstored(reason) => return push_detail(text, "fwd=miss", reason),
            Self::Miss(reason) => return push_detail(text, "fwd=miss", reason),
            Self::Bypass(reason) => return push_detail(text, "fwd=bypass", reason),
            Self::Method => return text.push_str("fwd=method"),
        };
        if let Some(ttl) = ttl {
            text.push_str("; ttl=");
            text.push_str(itoa::Buffer::new().format(ttl.as_secs()));
        }
        if matches!(self, Self::Replayed(_)) {
            push_detail(text, "", "local");
        }
    }

    /// Returns whether the response is a page as it is stored, in the encoding that the client prefers.
    #[must_use]
    pub fn is_as_stored(&self) -> bool {
        !matches!(self, Self::Miss(_) | Self::Bypass(_) | Self::Method)
    }

    /// Returns the outcome in one word, one of [`WORDS`](Self::WORDS).
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hit(_) => "hit",
            Self::Replayed(_) => "local",
            Self::Collapsed => "shared",
            Self::Stored(_) => "stored",
            Self::Unstored(_) | Self::Miss(_) => "miss",
            Self::Bypass(_) | Self::Method => "bypass",
        }
    }
}

/// Writes the outcome as `Cache-Status` names it, without the cache's name.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.push_to(&mut text);
        f.write_str(&text)
    }
}

fn push_detail(text: &mut String, status: &str, detail: &str) {
    for part in [status, "; detail=\"", detail, "\""] {
        text.push_str(part);
    }
}

/// Appends a duration in milliseconds, as `Server-Timing` has it, to a hundredth.
fn push_milliseconds(text: &mut String, took: Duration) {
    let hundredths = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).saturating_add(5) / 10;
    let mut buffer = itoa::Buffer::new();
    text.push_str(buffer.format(hundredths / 100));
    text.push_str(if hundredths % 100 < 10 { ".0" } else { "." });
    text.push_str(buffer.format(hundredths % 100));
}

/// Returns the value of a header. A name that no header may hold leaves it empty.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_in_milliseconds_to_a_hundredth() {
        for (micros, expected) in
            [(0, "0.00"), (4, "0.00"), (5, "0.01"), (994, "0.99"), (12_345, "12.35"), (1_000_000, "1000.00")]
        {
            let mut text = String::new();
            push_milliseconds(&mut text, Duration::from_micros(micros));
            assert_eq!(text, expected);
        }
    }
}
