//! Which responses may be compressed.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};

use super::headers::has_directive;

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
