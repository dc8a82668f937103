//! Conditional requests (RFC 9110, section 13): 304 for a client that has the page already, 412 for an unmet condition.
//!
//! [`CachePageLayer`](crate::CachePageLayer) evaluates the conditions for its own pages. [`evaluate`] and [`tag`] do
//! the same for all other responses, as layers made by `axum::middleware::from_fn`: `tag` inside compression,
//! `evaluate` outside.
//!
//! ```
//! use axum::{Router, middleware::from_fn, routing::get};
//! use neverstale_axum::conditional::{evaluate, tag};
//!
//! let site: Router = Router::new().route("/", get("hello"));
//! let site = site.layer(from_fn(tag)).layer(from_fn(evaluate));
//! ```
//!
//! A compressed response is another representation than the plain one: its tag has the encoding at its end.

use std::time::SystemTime;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;

use super::headers::{WEAK, etag, has_directive, name_encoding, select};
use super::outcome::Outcome;
use super::storable::broken;

/// The headers of a body, which a 304 does not have (RFC 9110, section 15.4.5).
static OF_A_BODY: [HeaderName; 5] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
];

/// The headers that hold a request's conditions.
static CONDITIONS: [HeaderName; 4] =
    [header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];

/// Gives a response to GET a strong tag if it has none. Streams, empty responses and those with `no-store` get none.
pub async fn tag(request: Request, next: Next) -> Response {
    let is_get = request.method() == Method::GET;
    let response = next.run(request).await;
    let length = response.body().size_hint().exact();
    let is_page = is_get && response.status() == StatusCode::OK && length.is_some_and(|length| length > 0);
    if !is_page
        || response.headers().contains_key(header::ETAG)
        || has_directive(response.headers(), "no-store")
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            parts.headers.insert(header::ETAG, etag(&body));
            Response::from_parts(parts, Body::from(body))
        }
        Err(error) => Response::from_parts(parts, broken(error)),
    }
}

/// Responds to GET and HEAD with 304 or 412 where the request's conditions demand it.
pub async fn evaluate(request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let conditions = if is_read { conditions(request.headers()) } else { HeaderMap::new() };
    let mut response = next.run(request).await;
    let is_named = response.extensions().get().is_some_and(Outcome::is_as_stored);
    if !is_named {
        name_encoding(response.headers_mut());
    }
    apply(&conditions, response)
}

/// Returns the headers that hold a request's conditions.
pub(super) fn conditions(request: &HeaderMap) -> HeaderMap {
    select(request, |name| CONDITIONS.contains(name))
}

/// Returns the response, or the 304 or 412 in its place, with its extensions.
pub(super) fn apply(conditions: &HeaderMap, mut response: Response) -> Response {
    if !response.status().is_success() {
        return response;
    }
    let Some(status) = decide(conditions, response.headers()) else { return response };
    let headers = response.headers_mut();
    match status {
        StatusCode::NOT_MODIFIED => OF_A_BODY.iter().for_each(|name| drop(headers.remove(name))),
        _ => headers.clear(),
    }
    *response.status_mut() = status;
    *response.body_mut() = Body::empty();
    response
}

/// Returns the status that conditions put in the place of a response, by the order of precedence of RFC 9110, section
/// 13.2.2.
fn decide(conditions: &HeaderMap, validators: &HeaderMap) -> Option<StatusCode> {
    let tag = validators.get(header::ETAG).map(HeaderValue::as_bytes);
    let modified = date(validators, header::LAST_MODIFIED);
    if tag.is_none() && modified.is_none() {
        return None;
    }
    let is_unmet = if conditions.contains_key(header::IF_MATCH) {
        !tags(conditions, header::IF_MATCH).any(|wanted| strong_match(wanted, tag))
    } else {
        matches!((date(conditions, header::IF_UNMODIFIED_SINCE), modified), (Some(since), Some(at)) if at > since)
    };
    if is_unmet {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let is_known = if conditions.contains_key(header::IF_NONE_MATCH) {
        tags(conditions, header::IF_NONE_MATCH).any(|wanted| weak_match(wanted, tag))
    } else {
        matches!((date(conditions, header::IF_MODIFIED_SINCE), modified), (Some(since), Some(at)) if at <= since)
    };
    is_known.then_some(StatusCode::NOT_MODIFIED)
}

/// Returns the date of a header, in any of its three forms. A date that cannot be read is none.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
}

/// Returns the tags of a list, `*` among them; of a malformed list, those before its first error. The bytes of a tag
/// need not be ASCII.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).iter().flat_map(|list| {
        let mut rest = list.as_bytes();
        std::iter::from_fn(move || {
            let start = rest.iter().position(|byte| !b" \t,".contains(byte))?;
            let (tag, after) = rest[start..].split_at(tag_length(&rest[start..])?);
            rest = after;
            Some(tag)
        })
    })
}

/// Returns the length of the tag at the start of a list, if there is one.
fn tag_length(list: &[u8]) -> Option<usize> {
    if list.starts_with(b"*") {
        return Some(1);
    }
    let start = if list.starts_with(WEAK) { WEAK.len() } else { 0 };
    let opaque = list[start..].strip_prefix(b"\"")?;
    Some(start + opaque.iter().position(|byte| *byte == b'"')? + 2)
}

fn strong_match(wanted: &[u8], tag: Option<&[u8]>) -> bool {
    tag.is_some_and(|tag| wanted == b"*" || wanted == tag && !tag.starts_with(WEAK))
}

fn weak_match(wanted: &[u8], tag: Option<&[u8]>) -> bool {
    let opaque = |tag| <[u8]>::strip_prefix(tag, WEAK).unwrap_or(tag);
    tag.is_some_and(|tag| wanted == b"*" || opaque(wanted) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIEST: &str = "Sat, 21 Nov 2026 09:00:00 GMT";
    const EARLIER: &str = "Sat, 21 Nov 2026 10:00:00 GMT";
    const LATER: &str = "Sat, 21 Nov 2026 11:00:00 GMT";

    type Pairs<'a> = &'a [(&'static str, &'a str)];

    fn headers(pairs: Pairs) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[track_caller]
    fn check(validators: Pairs, conditions: Pairs, expected: Option<u16>) {
        let decided = decide(&headers(conditions), &headers(validators));
        assert_eq!(decided.map(|status| status.as_u16()), expected, "{conditions:?} of {validators:?}");
    }

    #[test]
    fn tags_are_compared_weakly_for_304_and_strongly_for_412() {
        let (strong, weak) = ([("etag", "\"a\"")], [("etag", "W/\"a\"")]);
        for known in ["\"a\"", "W/\"a\"", "*", "\"x\", \"a\"", "\"x,y\" ,W/\"a\",\"b\"", ",, \"a\""] {
            check(&strong, &[("if-none-match", known)], Some(304));
            check(&weak, &[("if-none-match", known)], Some(304));
        }
        for other in ["\"b\"", "a", "\"a", "", "\"A\"", "w/\"a\"", "junk, \"a\"", "\"x\"junk\"a\""] {
            check(&strong, &[("if-none-match", other)], None);
        }
        for met in ["\"a\"", "*", "\"x\", \"a\""] {
            check(&strong, &[("if-match", met)], None);
        }
        check(&strong, &[("if-match", "W/\"a\"")], Some(412));
        check(&weak, &[("if-match", "W/\"a\"")], Some(412));
        check(&strong, &[("if-match", "\"b\"")], Some(412));
        check(&[("last-modified", EARLIER)], &[("if-match", "*")], Some(412));
        check(&[], &[("if-none-match", "*"), ("if-match", "*")], None);
    }

    #[test]
    fn a_list_may_take_several_fields_and_a_tag_any_bytes() {
        let mut conditions = headers(&[("if-none-match", "\"x\"")]);
        let odd = HeaderValue::from_bytes(b"\"caf\xe9\"").unwrap();
        conditions.append(header::IF_NONE_MATCH, odd.clone());
        let validators = HeaderMap::from_iter([(header::ETAG, odd)]);
        assert_eq!(decide(&conditions, &validators), Some(StatusCode::NOT_MODIFIED));
        assert_eq!(decide(&conditions, &headers(&[("etag", "\"cafe\"")])), None);
    }

    #[test]
    fn dates_in_all_their_forms_count_where_there_is_no_tag_to_compare() {
        for same in [EARLIER, "Saturday, 21-Nov-26 10:00:00 GMT", "Sat Nov 21 10:00:00 2026"] {
            let validators = [("last-modified", same)];
            for (condition, date, expected) in [
                ("if-modified-since", EARLIER, Some(304)),
                ("if-modified-since", LATER, Some(304)),
                ("if-modified-since", EARLIEST, None),
                ("if-modified-since", "yesterday", None),
                ("if-unmodified-since", EARLIEST, Some(412)),
                ("if-unmodified-since", EARLIER, None),
                ("if-unmodified-since", LATER, None),
            ] {
                check(&validators, &[(condition, date)], expected);
            }
            check(&[("last-modified", EARLIER)], &[("if-modified-since", same)], Some(304));
        }
        check(&[("etag", "\"a\"")], &[("if-modified-since", LATER)], None);
    }

    #[test]
    fn tags_come_before_dates_and_what_must_match_before_what_must_not() {
        let validators = [("etag", "\"a\""), ("last-modified", EARLIER)];
        check(&validators, &[("if-none-match", "\"b\""), ("if-modified-since", LATER)], None);
        check(&validators, &[("if-match", "\"a\""), ("if-unmodified-since", EARLIEST)], None);
        check(&validators, &[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Some(412));
    }

    #[test]
    fn an_encoding_has_a_tag_of_its_own() {
        for (encoding, tag) in [(None, "\"a\""), (Some("gzip"), "\"a-gzip\""), (Some("br"), "\"a-br\"")] {
            let mut headers = headers(&[("etag", "\"a\"")]);
            if let Some(encoding) = encoding {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            name_encoding(&mut headers);
            assert_eq!(headers[header::ETAG], tag);
        }
        let mut weak = headers(&[("etag", "W/\"a\""), ("content-encoding", "br")]);
        name_encoding(&mut weak);
        assert_eq!(weak[header::ETAG], "W/\"a\"", "which says nothing about bytes");
    }
}
