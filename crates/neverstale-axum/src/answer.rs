//! From a view's answer to a page, and from a page to an answer.

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode, header, response};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http_body_util::BodyExt;

use super::encodable::is_encodable;
use super::encoding::Encoding;
use super::entry::Page;
use super::headers::{self, patch_vary};
use super::key;
use super::policy::Policy;
use super::privacy::Privacy;
use super::verdict::{self, PRIVATE, Reason};
use neverstale::backend::LARGEST_VALUE;

/// Makes a page of an answer that may be stored, after giving it the headers that such an answer has; returns any other
/// answer's body, and why.
pub(super) async fn keep(
    policy: &Policy,
    has_copies: bool,
    privacy: &Privacy,
    asked: &HeaderMap,
    parts: &mut response::Parts,
    body: Body,
) -> Result<Page, (Body, Reason)> {
    if let Some(reason) = verdict::left_alone(parts, body.size_hint().exact(), privacy) {
        return Err((body, reason));
    }
    verdict::tell(policy.browser, parts);
    verdict::keep_apart(parts, asked.get_all(header::AUTHORIZATION).iter().any(|value| !value.is_empty()));
    let mut vary_on = match verdict::vary_on(parts) {
        Ok(vary_on) => vary_on,
        Err(reason) => return Err((body, reason)),
    };
    if parts.status != StatusCode::OK {
        return Err((body, "status-304".into()));
    }
    if policy.ttl.is_over() {
        return Err((body, "ttl-zero".into()));
    }
    let body = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return Err((broken(error), "body".into())),
    };
    // A body may be made while it is read.
    if privacy.is_marked() {
        return Err((body.into(), PRIVATE.into()));
    }
    let is_encodable = is_encodable(&parts.headers, &body);
    let encoded = if is_encodable {
        // From here on it is the encoding that is chosen, and not how a client asks for it, that makes a difference.
        vary_on.retain(|name| **name != header::ACCEPT_ENCODING);
        patch_vary(&mut parts.headers, &["accept-encoding"]);
        if has_copies && vary_on.is_empty() {
            // A copy gets its other encodings once somebody asks for them.
            encode(&body, Encoding::choose(asked, Encoding::ALL)).await
        } else {
            encode(&body, Encoding::ALL).await
        }
    } else {
        vec![]
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    if !body.is_empty() && !parts.headers.contains_key(header::ETAG) {
        parts.headers.insert(header::ETAG, headers::etag(&body));
    }
    let mut page = Page::new(parts, body.clone(), policy.ttl);
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

/// Returns the body in each of these encodings that makes it shorter.
async fn encode(body: &Bytes, encodings: impl IntoIterator<Item = Encoding>) -> Vec<(Encoding, Bytes)> {
    let encode = |encoding: Encoding| async move { Some((encoding, encoding.encode(body.clone()).await?)) };
    join_all(encodings.into_iter().map(encode)).await.into_iter().flatten().collect()
}

/// Returns a body that ends with an error: the client is cut off, as it would be without this layer.
pub(super) fn broken(error: axum::Error) -> Body {
    Body::from_stream(stream::iter([Err::<Bytes, _>(error)]))
}

/// Returns the response with a page's body, which may be encoded and then has a tag of its own.
pub(super) fn respond(mut parts: response::Parts, (encoding, body): (Option<Encoding>, Bytes)) -> Response {
    if let Some(encoding) = encoding {
        parts.headers.insert(header::CONTENT_ENCODING, encoding.header());
        headers::name_encoding(&mut parts.headers);
    }
    Response::from_parts(parts, body.into())
}
