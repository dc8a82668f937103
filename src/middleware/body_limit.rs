//! Refuses a body that is too long, in a way that its sender gets to see.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::BodyExt;

use crate::error::Error;

/// The longest body that is served. A form with the longest name needs a tenth of it.
const LIMIT: usize = 64 * 1024;

/// How much more of a longer one is read and dropped. A server that answers and closes while a browser still sends
/// makes the browser show a broken connection in place of the answer.
const DRAINED: usize = 1024 * 1024;

pub(super) async fn check(request: Request, next: Next) -> Response {
    let (parts, mut body) = request.into_parts();
    let (mut kept, mut length) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Error::new(StatusCode::BAD_REQUEST, error).into_response(),
        };
        let data = frame.data_ref().map(AsRef::as_ref).unwrap_or_default();
        length += data.len();
        if length <= LIMIT {
            kept.extend_from_slice(data);
        } else if length > LIMIT + DRAINED {
            break;
        }
    }
    if length > LIMIT {
        return Error::new(StatusCode::PAYLOAD_TOO_LARGE, TooLong).into_response();
    }
    next.run(Request::from_parts(parts, Body::from(kept.freeze()))).await
}

#[derive(Debug, thiserror::Error)]
#[error("the body is longer than {} KiB", LIMIT / 1024)]
struct TooLong;
