//! What a handler behind the page cache can know of its request.

use std::sync::Arc;

use tokio::time::Instant;

/// What the page cache tells a handler about its request, among the request's extensions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PageContext {
    /// When the request reached the page cache. A handler with a time limit counts from it, since other builds may have
    /// been waited for before the handler runs.
    pub arrival: Instant,
    /// The current version, where pages are kept by version. A version check that began after the request arrived has
    /// returned it, so a handler that looks for data of the current version need not check again.
    pub version: Option<Arc<str>>,
    /// Whether the response is for this visitor alone: see
    /// [`CachePageLayer::personal`](crate::CachePageLayer::personal).
    pub is_personal: bool,
}
