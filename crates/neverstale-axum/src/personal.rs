//! Personal requests: one visitor gets a response of their own in place of the shared page.

use std::sync::Arc;

use axum::http::request;
use axum::response::Response;

use super::head::WasHead;
use super::headers::{has_directive, patch_cache_control};

/// The rule that says which requests are personal.
#[derive(Clone)]
pub(super) struct PersonalRule {
    /// The request header that the rule looks at.
    pub(super) header: &'static str,
    pub(super) applies: Arc<dyn Fn(&request::Parts) -> bool + Send + Sync>,
}

impl PersonalRule {
    /// Returns whether a request is personal. A HEAD never is, since it shows nothing.
    pub(super) fn applies_to(&self, parts: &request::Parts) -> bool {
        parts.extensions.get::<WasHead>().is_none() && (self.applies)(parts)
    }
}

/// Lets no cache keep a response, unless the handler has said so itself.
pub(super) fn keep_nowhere(response: &mut Response) {
    let headers = response.headers_mut();
    if !["private", "no-store"].iter().any(|name| has_directive(headers, name)) {
        patch_cache_control(headers, &[("private", None), ("no-store", None)]);
    }
}
