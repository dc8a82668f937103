//! Answers that are one visitor's own, in the place of a page that is everybody's.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Extensions, request};
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};

use super::headers::{has_directive, patch_cache_control, patch_vary};
use super::order::Left;

/// Finds out what is a visitor's own, while the page is looked for.
#[derive(Clone)]
pub(super) struct Personal {
    header: &'static str,
    ask: Arc<Ask>,
}

type Ask = dyn Fn(&request::Parts) -> Option<BoxFuture<'static, Option<Own>>> + Send + Sync;

/// What a request's answer shows and nobody else's does.
pub(super) struct Own(Box<dyn FnOnce(&mut Extensions) + Send>);

impl Personal {
    pub(super) fn new<T, F>(
        header: &'static str,
        ask: impl Fn(&request::Parts) -> Option<F> + Send + Sync + 'static,
    ) -> Self
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let put = |own: T| Own(Box::new(|extensions| _ = extensions.insert(own)));
        let ask = move |parts: &request::Parts| Some(ask(parts)?.map(move |found| found.map(put)).boxed());
        Self { header, ask: Arc::new(ask) }
    }

    /// Begins to find out, if the request can be somebody's own.
    pub(super) fn ask(&self, parts: &request::Parts) -> Option<BoxFuture<'static, Option<Own>>> {
        (self.ask)(parts)
    }

    /// Says in an answer what it was chosen by.
    pub(super) fn say(&self, mut response: Response) -> Response {
        patch_vary(response.headers_mut(), &[self.header]);
        if response.extensions().get::<Left>().is_some() {
            let left = Left::of(response.headers());
            response.extensions_mut().insert(left);
        }
        response
    }
}

impl Own {
    /// Returns the request for the visitor's own answer.
    pub(super) fn request(self, parts: request::Parts) -> Request {
        let mut request = Request::from_parts(parts, Body::empty());
        (self.0)(request.extensions_mut());
        request
    }
}

/// Lets nobody keep an answer, unless the view has said who may.
pub(super) fn keep_nowhere(response: &mut Response) {
    let headers = response.headers_mut();
    if !["private", "no-store"].iter().any(|name| has_directive(headers, name)) {
        patch_cache_control(headers, &[("private", None), ("no-store", None)]);
    }
}

impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Personal({})", self.header)
    }
}
