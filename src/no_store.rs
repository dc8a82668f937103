//! Responses that no cache may store.

use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};

/// Adds `Cache-Control: no-store` to a response.
#[derive(Clone, Copy, Debug)]
pub struct NoStore<T>(pub T);

impl<T: IntoResponse> IntoResponse for NoStore<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
