//! The privacy marker: whether private state was looked at while a request was handled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::Extensions;

/// The privacy marker of one request, shared through the request's extensions by all layers and the handler.
///
/// A layer or an extractor that gives out private state, such as a session or credentials, [marks](Self::mark) it.
/// [`CachePageLayer`](crate::CachePageLayer) stores no response whose request is marked, and shows no stored page to a
/// request that was marked further out. So the order of the layers makes no difference.
///
/// ```
/// use axum::{extract::FromRequestParts, http::{StatusCode, request::Parts}};
/// use neverstale_axum::Privacy;
///
/// /// An extractor of the user's name.
/// struct User(String);
///
/// impl<S: Sync> FromRequestParts<S> for User {
///     type Rejection = StatusCode;
///
///     async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
///         Privacy::of(&mut parts.extensions).mark();
///         let name = parts.headers.get("x-user").and_then(|name| name.to_str().ok());
///         name.map(|name| Self(name.into())).ok_or(StatusCode::UNAUTHORIZED)
///     }
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Privacy(Arc<AtomicBool>);

impl Privacy {
    /// Returns the marker of a request. A request that has none gets one.
    pub fn of(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// Records that private state was looked at.
    pub fn mark(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns whether private state was looked at.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
