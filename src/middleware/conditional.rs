//! Conditional requests (RFC 9110, section 13): a browser that has the page already is told so.
//!
//! As Django's `ConditionalGetMiddleware`, GET only. The tag is made of the page as it is rendered; a page that is sent
//! compressed is another representation and has its encoding behind the tag.

use std::time::SystemTime;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;

use crate::cache::view::headers::{etag, has_directive};
use crate::cache::view::{CACHE_STATUS, SERVER_TIMING};
use crate::error::Error;

/// What a 304 keeps of the answer it stands for. Django keeps the same, but for what says where the answer came from.
const KEPT: [HeaderName; 10] = [
    CACHE_STATUS,
    header::CACHE_CONTROL,
    header::CONTENT_LOCATION,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    SERVER_TIMING,
    header::SET_COOKIE,
    header::VARY,
];

/// What a request's conditions are in.
static CONDITIONS: [HeaderName; 4] =
    [header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];

/// Gives a page that has no tag a strong one. Streams, empty answers and what nobody may store get none.
pub(super) async fn tag(request: Request, next: Next) -> Response {
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
        Err(error) => Error::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

/// Answers 304 or 412 where the request's conditions say so. Stands outside compression, which is never begun then.
pub(super) async fn evaluate(request: Request, next: Next) -> Response {
    let has_conditions = request.method() == Method::GET && has_conditions(request.headers());
    let conditions = has_conditions.then(|| request.headers().clone());
    let mut response = next.run(request).await;
    name_encoding(response.headers_mut());
    let Some(conditions) = conditions.filter(|_| response.status().is_success()) else { return response };
    match decide(&conditions, response.headers()) {
        None => response,
        Some(status) => {
            let mut answer = status.into_response();
            if status == StatusCode::NOT_MODIFIED {
                *answer.headers_mut() = not_modified(response.headers(), &[]);
            }
            answer
        }
    }
}

pub(super) fn has_conditions(asked: &HeaderMap) -> bool {
    asked.keys().any(|name| CONDITIONS.contains(name))
}

/// Returns what a 304 has of the headers of the answer it stands for; of an answer that has passed further layers, with
/// what they have added.
pub(super) fn not_modified(headers: &HeaderMap, added: &[HeaderName]) -> HeaderMap {
    let kept = |(name, _): &(&HeaderName, &HeaderValue)| KEPT.contains(name) || added.contains(name);
    headers.iter().filter(kept).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Puts the encoding behind a strong tag: the same page in another encoding is not the same bytes.
fn name_encoding(headers: &mut HeaderMap) {
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    let tag = headers.get(header::ETAG).and_then(|value| value.to_str().ok());
    let (Some(encoding), Some(tag)) = (encoding, tag.and_then(|tag| tag.strip_suffix('"'))) else { return };
    if let Ok(tag) = HeaderValue::try_from(format!("{tag}-{encoding}\"")) {
        headers.insert(header::ETAG, tag);
    }
}

/// Returns what to answer in place of the page, by the order of precedence of RFC 9110, section 13.2.2.
pub(super) fn decide(conditions: &HeaderMap, validators: &HeaderMap) -> Option<StatusCode> {
    let tag = validators.get(header::ETAG).and_then(|tag| tag.to_str().ok());
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

/// A date that cannot be read is none.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Returns the tags of a list, `*` among them; those of a list that is none up to where it ends to be one.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(name).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| {
        let mut rest = list;
        std::iter::from_fn(move || {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let (tag, after) = rest.split_at(tag_length(rest)?);
            rest = after;
            Some(tag)
        })
    })
}

/// Returns how long the tag at the front of a list is, if there is one.
fn tag_length(list: &str) -> Option<usize> {
    if list.starts_with('*') {
        return Some(1);
    }
    let start = if list.starts_with("W/") { 2 } else { 0 };
    let opaque = list[start..].strip_prefix('"')?;
    Some(start + opaque.find('"')? + 2)
}

fn strong_match(wanted: &str, tag: Option<&str>) -> bool {
    tag.is_some_and(|tag| wanted == "*" || wanted == tag && !tag.starts_with("W/"))
}

fn weak_match(wanted: &str, tag: Option<&str>) -> bool {
    let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
    tag.is_some_and(|tag| wanted == "*" || opaque(wanted) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = "Sat, 21 Nov 2026 10:00:00 GMT";
    const LATER: &str = "Sat, 21 Nov 2026 11:00:00 GMT";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[track_caller]
    fn check(
        validators: &[(&'static str, &str)],
        conditions: &[(&'static str, &str)],
        expected: Option<u16>,
    ) {
        let decided = decide(&headers(conditions), &headers(validators));
        assert_eq!(decided.map(|status| status.as_u16()), expected, "{conditions:?} of {validators:?}");
    }

    #[test]
    fn a_tag_that_is_known_is_not_modified() {
        for known in ["\"a\"", "W/\"a\"", "*", "\"x\", \"a\"", "\"x,y\" ,W/\"a\",\"b\"", ",, \"a\""] {
            check(&[("etag", "\"a\"")], &[("if-none-match", known)], Some(304));
            check(&[("etag", "W/\"a\"")], &[("if-none-match", known)], Some(304));
        }
        for other in ["\"b\"", "a", "\"a", "", "\"A\"", "w/\"a\"", "junk, \"a\"", "\"x\"junk\"a\""] {
            check(&[("etag", "\"a\"")], &[("if-none-match", other)], None);
        }
    }

    #[test]
    fn a_match_that_is_asked_for_is_strong() {
        for met in ["\"a\"", "*", "\"x\", \"a\""] {
            check(&[("etag", "\"a\"")], &[("if-match", met)], None);
        }
        check(&[("etag", "\"a\"")], &[("if-match", "W/\"a\"")], Some(412));
        check(&[("etag", "W/\"a\"")], &[("if-match", "W/\"a\"")], Some(412));
        check(&[("etag", "\"a\"")], &[("if-match", "\"b\"")], Some(412));
        check(&[("last-modified", EARLIER)], &[("if-match", "*")], Some(412));
    }

    #[test]
    fn dates_count_where_there_is_no_tag_to_compare() {
        let validators = [("last-modified", EARLIER)];
        check(&validators, &[("if-modified-since", EARLIER)], Some(304));
        check(&validators, &[("if-modified-since", LATER)], Some(304));
        check(&[("last-modified", LATER)], &[("if-modified-since", EARLIER)], None);
        check(&[("last-modified", LATER)], &[("if-unmodified-since", EARLIER)], Some(412));
        check(&validators, &[("if-unmodified-since", LATER)], None);
        check(&validators, &[("if-modified-since", "yesterday")], None);
        check(&[("etag", "\"a\"")], &[("if-modified-since", LATER)], None);
    }

    #[test]
    fn tags_come_before_dates_and_what_must_match_before_what_must_not() {
        let validators = [("etag", "\"a\""), ("last-modified", EARLIER)];
        check(&validators, &[("if-none-match", "\"b\""), ("if-modified-since", LATER)], None);
        check(
            &validators,
            &[("if-match", "\"a\""), ("if-unmodified-since", "Sat, 21 Nov 2026 09:00:00 GMT")],
            None,
        );
        check(&validators, &[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Some(412));
        check(&[], &[("if-none-match", "*"), ("if-match", "*")], None);
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
    }
}
