//! The service around a view: answers with everybody's page, or with the visitor's own.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, mem};

use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use futures_util::future::{BoxFuture, Either, FutureExt, select};
use tokio::time::Instant;
use tower::Service;

use super::again::KnownVersion;
use super::conditional::Conditions;
use super::head::{WasHead, turn_into_get, without_body};
use super::key::PageKey;
use super::outcome::{Arrival, Outcome, Report};
use super::personal::keep_nowhere;
use super::privacy::Privacy;
use super::verdict::PRIVATE;
use super::visit::{Pages, Visit, pass_by};

/// A handler whose responses are cached, made by [`CachePageLayer`](crate::CachePageLayer).
#[derive(Clone)]
pub struct CachePageService<S> {
    pub(super) inner: S,
    pub(super) pages: Arc<Pages>,
}

impl<S: fmt::Debug> fmt::Debug for CachePageService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachePageService")
            .field("inner", &self.inner)
            .field("policy", &self.pages.policy)
            .finish_non_exhaustive()
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

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that is ready goes, the clone stays.
        let clone = self.inner.clone();
        let view = mem::replace(&mut self.inner, clone);
        let pages = Arc::clone(&self.pages);
        visit(pages, view, request).boxed()
    }
}

async fn visit<S>(pages: Arc<Pages>, view: S, mut request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response> + Clone,
{
    let is_head = turn_into_get(&mut request);
    let conditions = Conditions::of(request.headers()).filter(|_| *request.method() == Method::GET);
    let personal = pages.policy.personal.clone();
    let mut response = shared_or_own(pages, view, request).await?;
    if let Some(personal) = personal {
        response = personal.say(response);
    }
    let is_page = response.extensions().get().is_some_and(Outcome::is_as_stored);
    if let Some(conditions) = conditions.filter(|_| is_page) {
        response = conditions.apply(response);
    }
    Ok(if is_head { without_body(response) } else { response })
}

/// Answers with the page that is everybody's, or with the visitor's own.
async fn shared_or_own<S>(pages: Arc<Pages>, view: S, mut request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response> + Clone,
{
    // Whoever has asked for the version already has waited since then.
    let told = request.extensions().get::<KnownVersion>().and_then(KnownVersion::arrival);
    let arrival = told.unwrap_or_else(|| Arrival(Instant::now()));
    let report = Report { cache: pages.policy.name, arrival, gate: None, view: None };
    request.extensions_mut().insert(arrival);
    if *request.method() != Method::GET {
        return pass_by(view, request, Outcome::Method, report).await;
    }
    let privacy = Privacy::of(request.extensions_mut());
    // What was found out further out may be among the request's extensions.
    if privacy.is_marked() {
        return pass_by(view, request, Outcome::Bypass(PRIVATE), report).await;
    }
    let (parts, body) = request.into_parts();
    let Some(keys) = PageKey::of(&parts, &pages.policy) else {
        let request = Request::from_parts(parts, body);
        return pass_by(view, request, Outcome::Bypass("host"), report).await;
    };
    let is_seen = parts.extensions.get::<WasHead>().is_none();
    let own = pages.policy.personal.as_ref().filter(|_| is_seen);
    let Some(own) = own.and_then(|personal| personal.ask(&parts)) else {
        return Visit { pages, view, keys, parts, body, report, privacy, may_be_own: false }.answer().await;
    };
    let (own_view, own_parts) = (view.clone(), parts.clone());
    // The session is asked for first, so that both go the same way together.
    let shared = Visit { pages, view, keys, parts, body, report, privacy, may_be_own: true }.answer();
    let own = match select(own, Box::pin(shared)).await {
        Either::Left((None, shared)) => return shared.await,
        // Whoever waits for the page does not wait for this visitor to build it: it is dropped.
        Either::Left((Some(own), _)) => own,
        // A page that cannot be shown has no room for more.
        Either::Right((Ok(response), _)) if response.status().is_server_error() => return Ok(response),
        Either::Right((response, own)) => match own.await {
            None => return response,
            Some(own) => own,
        },
    };
    let outcome = Outcome::Bypass("personal");
    let mut response = pass_by(own_view, own.request(own_parts), outcome, report).await?;
    keep_nowhere(&mut response);
    Ok(response)
}
