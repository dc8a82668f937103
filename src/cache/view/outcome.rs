//! What the layer did with a request, as `Cache-Status` says it (RFC 9211).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What the layer did with a request. It is also among the extensions of every answer, for layers further out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Answered from the cache; the page lives so much longer, or until it is purged.
    Hit(Option<Duration>),
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

impl Outcome {
    /// Adds to the answer's `Cache-Status`, behind what caches further in have said.
    pub(super) fn say(self, headers: &mut HeaderMap, extensions: &mut axum::http::Extensions) {
        let value = HeaderValue::try_from(self.to_string());
        headers.append(CACHE_STATUS, value.expect("words, numbers and a reason of our own"));
        extensions.insert(self);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tasklist; ")?;
        match self {
            Self::Hit(None) => f.write_str("hit"),
            Self::Hit(Some(left)) => write!(f, "hit; ttl={}", left.as_secs()),
            Self::Collapsed => f.write_str("fwd=uri-miss; collapsed"),
            Self::Stored(Fwd::UriMiss) => f.write_str("fwd=uri-miss; stored"),
            Self::Stored(Fwd::VaryMiss) => f.write_str("fwd=vary-miss; stored"),
            Self::Miss(reason) => write!(f, "fwd=miss; detail=\"{reason}\""),
            Self::Bypass(reason) => write!(f, "fwd=bypass; detail=\"{reason}\""),
            Self::Method => f.write_str("fwd=method"),
        }
    }
}
