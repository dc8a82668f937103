//! The service around a handler: responds with everybody's page, or with the visitor's own.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::Instant;
use tower::Service;

use super::conditional::{apply, conditions};
use super::context::PageContext;
use super::head::{turn_into_get, without_body};
use super::headers::patch_vary;
use super::key::PageKey;
use super::order::Stored;
use super::outcome::{Outcome, Report};
use super::personal::keep_nowhere;
use super::policy::Policy;
use super::privacy::Privacy;
use super::request::{PageRequest, bypass};
use super::storable::PRIVATE;
use super::version::Keyed;

/// A handler whose responses are cached, made by [`CachePageLayer`](crate::CachePageLayer).
#[derive(Clone)]
pub struct CachePageService<S> {
    pub(super) inner: S,
    pub(super) policy: Arc<Policy>,
}

impl<S: fmt::Debug> fmt::Debug for CachePageService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachePageService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S> Service<Request> for CachePageService<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    /// Is always ready: a request waits for the handler once that is to run.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        respond(Arc::clone(&self.policy), self.inner.clone(), request).boxed()
    }
}

async fn respond<S>(policy: Arc<Policy>, handler: S, mut request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let is_head = turn_into_get(&mut request);
    let is_read = *request.method() == Method::GET;
    let conditions = if is_read { conditions(request.headers()) } else { HeaderMap::new() };
    let header = policy.personal.as_ref().map(|rule| rule.header);
    let mut response = shared_or_own(policy, handler, request).await?;
    if let Some(header) = header {
        patch_vary(response.headers_mut(), &[header]);
    }
    if response.extensions().get().is_some_and(Outcome::is_as_stored) {
        response = apply(&conditions, response);
        if response.status() == StatusCode::PRECONDITION_FAILED {
            // A layer further out may make it private, as any other error.
            Stored::forget(&mut response);
        } else {
            Stored::record_vary(&mut response);
        }
    }
    Ok(if is_head { without_body(response) } else { response })
}

/// Responds with the page that is everybody's, or with the visitor's own.
async fn shared_or_own<S>(policy: Arc<Policy>, handler: S, mut request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let keyed: Option<Keyed> = request.extensions_mut().remove();
    let arrival = keyed.as_ref().map_or_else(Instant::now, |keyed| keyed.arrival);
    request.extensions_mut().insert(PageContext { arrival, version: None, is_personal: false });
    let report = Report { cache: policy.name, arrival, check: None, handler: None };
    if *request.method() != Method::GET {
        return bypass(handler, request, Outcome::Method, report).await;
    }
    let privacy = Privacy::of(request.extensions_mut());
    // A layer further out may have looked at private state, and added it to the request's extensions.
    if privacy.is_marked() {
        return bypass(handler, request, Outcome::Bypass(PRIVATE), report).await;
    }
    let (mut parts, body) = request.into_parts();
    if policy.personal.as_ref().is_some_and(|rule| rule.applies_to(&parts)) {
        if let Some(context) = parts.extensions.get_mut::<PageContext>() {
            context.is_personal = true;
        }
        let request = Request::from_parts(parts, body);
        let mut response = bypass(handler, request, Outcome::Bypass("personal"), report).await?;
        keep_nowhere(&mut response);
        return Ok(response);
    }
    let (prefix, parameters, digest) = (&policy.prefix, policy.parameters.as_deref(), &policy.digest);
    let Some(keys) = PageKey::of(&parts, prefix, parameters, digest) else {
        let request = Request::from_parts(parts, body);
        return bypass(handler, request, Outcome::Bypass("host"), report).await;
    };
    PageRequest { policy, handler, keys, parts, body, report, privacy, keyed }.respond().await
}
