//! HEAD is GET without the body (RFC 9110, section 9.3.2): the headers are those of GET because GET made them.

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

/// Marks a GET that was a HEAD, among the request's extensions: its body is not shown.
#[derive(Clone, Copy)]
pub(super) struct WasHead;

/// Makes a GET of a HEAD for all that is further in, and removes the body of the response.
///
/// A layer for the outermost place, made by `axum::middleware::from_fn`: then compression and error pages treat both
/// methods alike.
///
/// [`CachePageLayer`](crate::CachePageLayer) does the same for its own pages.
pub async fn as_get(mut request: Request, next: Next) -> Response {
    let is_head = turn_into_get(&mut request);
    let response = next.run(request).await;
    if is_head { without_body(response) } else { response }
}

/// Makes a GET of a HEAD, and returns whether it was one.
pub(super) fn turn_into_get(request: &mut Request) -> bool {
    let is_head = *request.method() == Method::HEAD;
    if is_head {
        *request.method_mut() = Method::GET;
        request.extensions_mut().insert(WasHead);
    }
    is_head
}

/// Removes the body of a response, and leaves its length. A body whose length is not known stays, for the server to
/// drop: without it the length would seem to be 0.
pub(super) fn without_body(mut response: Response) -> Response {
    let Some(length) = response.body().size_hint().exact() else { return response };
    if !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    *response.body_mut() = Body::empty();
    response
}
