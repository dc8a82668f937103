//! Responses for one visitor, in the place of a page that is everybody's.

use std::sync::Arc;

use axum::http::{Extensions, request};
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};

use super::headers::{has_directive, patch_cache_control};

/// Finds out what a visitor alone is to see, while the page is looked for.
#[derive(Clone)]
pub(super) struct Personal {
    /// The request header that the look-up goes by.
    pub(super) header: &'static str,
    look_up: Arc<LookUp>,
}

/// What is found goes among the request's extensions.
type LookUp = dyn Fn(&request::Parts) -> Option<BoxFuture<'static, Option<Extensions>>> + Send + Sync;

impl Personal {
    pub(super) fn new<T, F>(
        header: &'static str,
        look_up: impl Fn(&request::Parts) -> Option<F> + Send + Sync + 'static,
    ) -> Self
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let look_up = move |parts: &request::Parts| {
            let found = look_up(parts)?;
            let extensions = async {
                let mut extensions = Extensions::new();
                extensions.insert(found.await?);
                Some(extensions)
            };
            Some(extensions.boxed())
        };
        Self { header, look_up: Arc::new(look_up) }
    }

    /// Begins to look up, if the request may have a response of its own.
    pub(super) fn look_up(&self, parts: &request::Parts) -> Option<BoxFuture<'static, Option<Extensions>>> {
        (self.look_up)(parts)
    }
}

/// Lets no cache keep a response, unless the handler has said so itself.
pub(super) fn keep_nowhere(response: &mut Response) {
    let headers = response.headers_mut();
    if !["private", "no-store"].iter().any(|name| has_directive(headers, name)) {
        patch_cache_control(headers, &[("private", None), ("no-store", None)]);
    }
}
