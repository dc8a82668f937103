//! From a view's answer to a page, and from a page to an answer.

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, Method, StatusCode, header, request, response};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http_body_util::BodyExt;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};

use super::encoding::Encoding;
use super::entry::Page;
use super::headers::{self, has_directive, patch_vary};
use super::key;
use super::layer::CachePage;
use super::verdict::{self, Reason};
use crate::cache::backend::LARGEST_VALUE;

/// Makes a page of an answer that may be stored, after giving it the headers that such an answer has; returns any other
/// answer's body, and why.
pub(super) async fn keep(
    layer: &CachePage,
    method: &Method,
    asked: &HeaderMap,
    parts: &mut response::Parts,
    body: Body,
) -> Result<Page, (Body, Reason)> {
    if let Some(reason) = verdict::left_alone(parts, body.size_hint().exact()) {
        return Err((body, reason));
    }
    verdict::tell(layer.browser, parts);
    verdict::keep_apart(parts, asked.get(header::AUTHORIZATION).is_some_and(|value| !value.is_empty()));
    let mut vary_on = match verdict::vary_on(parts) {
        Ok(vary_on) => vary_on,
        Err(reason) => return Err((body, reason)),
    };
    if parts.status != StatusCode::OK {
        return Err((body, "status-304".into()));
    }
    if layer.ttl.is_over() {
        return Err((body, "ttl-zero".into()));
    }
    let body = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        // The visitor is cut off, as without us.
        Err(error) => return Err((Body::from_stream(stream::iter([Err::<Bytes, _>(error)])), "body".into())),
    };
    let encoded = if method == Method::GET { encode(parts, &body).await } else { vec![] };
    if !encoded.is_empty() {
        // From here on it is the encoding that is chosen, and not how a client asks for it, that makes a difference.
        vary_on.retain(|name| **name != header::ACCEPT_ENCODING);
        patch_vary(&mut parts.headers, &["accept-encoding"]);
    }
    if method == Method::GET {
        parts.headers.remove(header::CONTENT_LENGTH);
        if !body.is_empty() && !parts.headers.contains_key(header::ETAG) {
            parts.headers.insert(header::ETAG, headers::etag(&body));
        }
    } else if !body.is_empty() {
        parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    let stored = if method == Method::GET { body.clone() } else { Bytes::new() };
    let mut page = Page::new(parts, stored, layer.ttl);
    let encoded_size: usize = encoded.iter().map(|(_, body)| body.len()).sum();
    if page.size() + encoded_size <= LARGEST_VALUE {
        page.add_encoded(&encoded);
    }
    if page.size() > LARGEST_VALUE {
        return Err((body.into(), "too-large".into()));
    }
    page.variant = key::variant(&vary_on, asked);
    page.vary_on = vary_on;
    Ok(page)
}

/// Returns the body in each encoding that makes it shorter; none where it must stay as it is.
async fn encode(parts: &mut response::Parts, body: &Bytes) -> Vec<(Encoding, Bytes)> {
    let must_stay = has_directive(&parts.headers, "no-transform");
    if must_stay || !is_compressible(parts, body) {
        return vec![];
    }
    let encode = |encoding: Encoding| async move { Some((encoding, encoding.encode(body.clone()).await?)) };
    join_all(Encoding::ALL.map(encode)).await.into_iter().flatten().collect()
}

/// Returns whether a layer further out that compresses would do so.
fn is_compressible(parts: &response::Parts, body: &Bytes) -> bool {
    let kept = [header::CONTENT_ENCODING, header::CONTENT_RANGE];
    if kept.iter().any(|name| parts.headers.contains_key(name)) {
        return false;
    }
    let mut response = Response::new(Body::from(body.clone()));
    if let Some(content_type) = parts.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    }
    DefaultPredicate::new().should_compress(&response)
}

/// Answers with a page, in the encoding that the client likes best: GET with its body, HEAD without and as long as if
/// it had one.
pub(super) fn respond(mut parts: response::Parts, page: &Page, request: &request::Parts) -> Response {
    let (encoding, body) = page.body(&request.headers);
    if let Some(encoding) = encoding {
        parts.headers.insert(header::CONTENT_ENCODING, encoding.header());
    }
    if request.method != Method::HEAD {
        return Response::from_parts(parts, body.into());
    }
    if !body.is_empty() {
        parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    Response::from_parts(parts, Body::empty())
}
