//! The service around a view: look up, or else run it once and store.

use std::mem;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, header, request, response};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream;
use http_body_util::BodyExt;
use tower::{Service, ServiceExt};

use super::entry::{Entry, Page};
use super::headers;
use super::key::{self, PageKey};
use super::layer::CachePage;
use super::outcome::Outcome;
use super::store::{Found, Slot, Store};
use super::verdict::{self, Reason};
use crate::cache::backend::LARGEST_VALUE;
use crate::cache::get_or_set::Turn;

/// How often a request looks again because it waited for a page that turned out to be another variant.
const LOOKS: usize = 3;

/// A view whose answers are kept. Made by [`CachePage`].
#[derive(Clone, Debug)]
pub struct CachePageService<S> {
    pub(super) inner: S,
    pub(super) layer: CachePage,
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
        let layer = self.layer.clone();
        answer(layer, view, request).boxed()
    }
}

/// One request on its way.
struct Visit<S> {
    layer: CachePage,
    view: S,
    keys: PageKey,
    parts: request::Parts,
    body: Body,
}

async fn answer<S>(layer: CachePage, view: S, request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let (parts, body) = request.into_parts();
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return pass_by(view, Request::from_parts(parts, body), Outcome::Method).await;
    }
    let Some(keys) = PageKey::of(&parts, &layer.pages.prefix, &layer.parameters) else {
        return pass_by(view, Request::from_parts(parts, body), Outcome::Bypass("host")).await;
    };
    Visit { layer, view, keys, parts, body }.answer().await
}

async fn pass_by<S>(view: S, request: Request, outcome: Outcome) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let mut response = view.oneshot(request).await?;
    say(outcome, &mut response);
    Ok(response)
}

impl<S: Service<Request, Response = Response>> Visit<S> {
    async fn answer(self) -> Result<Response, S::Error> {
        for _ in 0..LOOKS {
            let (method, headers) = (&self.parts.method, &self.parts.headers);
            match self.store().find(&self.keys, method, headers).await {
                Found::Page(page) => {
                    let outcome = Outcome::Hit(page.remaining());
                    return Ok(self.show(&page, outcome));
                }
                Found::Pass(slot) => return Ok(self.build(&slot).await?.0),
                Found::Unavailable => {
                    let request = Request::from_parts(self.parts, self.body);
                    return pass_by(self.view, request, Outcome::Bypass("cache-unavailable")).await;
                }
                Found::Nothing(slot) => {
                    let (cache, flight) = (self.store().cache.clone(), slot.build());
                    let name = cache.name(&flight);
                    // Kept until the answer is there: whoever comes meanwhile learns what came of the build.
                    let seat = cache.flights().join(&name);
                    let read = |envelope: &Bytes| Store::open(envelope, &slot.generation);
                    match cache.turn(&seat, &flight, &slot.key, read).await {
                        Turn::Theirs(Entry::Page(page)) if self.is_for_me(&page) => {
                            return Ok(self.show(&page, Outcome::Collapsed));
                        }
                        Turn::Theirs(Entry::Page(page)) => {
                            self.store().learned.insert(self.page().clone(), page.vary_on);
                        }
                        Turn::Theirs(Entry::Varies { .. } | Entry::Generation(_)) => {}
                        Turn::Theirs(Entry::Pass { .. }) | Turn::Alone => {
                            return Ok(self.build(&slot).await?.0);
                        }
                        Turn::Ours(permit) => {
                            let (response, envelope) = permit.during(self.build(&slot)).await?;
                            permit.end(Some(envelope)).await;
                            return Ok(response);
                        }
                    }
                }
            }
        }
        let request = Request::from_parts(self.parts, self.body);
        pass_by(self.view, request, Outcome::Miss("varies-too-often".into())).await
    }

    /// Runs the view, stores its answer if it may be, and returns it with what those who wait are told.
    async fn build(self, slot: &Slot) -> Result<(Response, Bytes), S::Error> {
        let (layer, page) = (self.layer.clone(), self.page().clone());
        let (method, asked) = (self.parts.method.clone(), self.parts.headers.clone());
        let response = self.view.oneshot(Request::from_parts(self.parts, self.body)).await?;
        let (mut parts, body) = response.into_parts();
        let prepared = prepare(&layer, &method, &asked, &mut parts, body).await;
        let (body, reason) = match prepared {
            Ok((mut content, body)) => {
                content.generation.clone_from(&slot.generation);
                let store = &layer.pages.store;
                let (envelope, is_stored) = store.keep(&page, content, &asked, layer.ttl).await;
                if is_stored {
                    let mut response = respond(parts, body, &method);
                    say(Outcome::Stored(slot.fwd), &mut response);
                    return Ok((response, envelope));
                }
                (Body::from(body), "cache-refused".into())
            }
            Err(left) => left,
        };
        let mut response = Response::from_parts(parts, body);
        say(Outcome::Miss(reason), &mut response);
        Ok((response, layer.pages.store.pass(slot).await))
    }

    /// Answers with a page.
    fn show(&self, page: &Page, outcome: Outcome) -> Response {
        let (mut parts, ()) = Response::new(()).into_parts();
        (parts.status, parts.headers) = (page.status(), page.headers());
        if let Some(age) = headers::age(&parts.headers) {
            parts.headers.insert(header::AGE, age.into());
        }
        let mut response = respond(parts, page.body.clone(), &self.parts.method);
        say(outcome, &mut response);
        response
    }

    /// Returns whether a page was made for the same values of the headers it varies on.
    fn is_for_me(&self, page: &Page) -> bool {
        page.variant == key::variant(&page.vary_on, &self.parts.headers)
    }

    /// Returns where this request's answer is stored.
    fn page(&self) -> &crate::cache::Key {
        if self.parts.method == Method::HEAD { &self.keys.head } else { &self.keys.get }
    }

    fn store(&self) -> &Store {
        &self.layer.pages.store
    }
}

/// Makes a page of an answer that may be stored, after giving it the headers that such an answer has; returns any other
/// answer's body, and why.
async fn prepare(
    layer: &CachePage,
    method: &Method,
    asked: &HeaderMap,
    parts: &mut response::Parts,
    body: Body,
) -> Result<(Page, Bytes), (Body, Reason)> {
    if let Some(reason) = verdict::left_alone(parts, body.size_hint().exact()) {
        return Err((body, reason));
    }
    verdict::tell(layer.browser, parts);
    verdict::keep_apart(parts, asked.get(header::AUTHORIZATION).is_some_and(|value| !value.is_empty()));
    let vary_on = match verdict::vary_on(parts) {
        Ok(vary_on) => vary_on,
        Err(reason) => return Err((body, reason)),
    };
    if parts.status != axum::http::StatusCode::OK {
        return Err((body, "status-304".into()));
    }
    if layer.ttl.is_over() {
        return Err((body, "ttl-zero".into()));
    }
    let body = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        // The visitor is cut off, as without us.
        Err(error) => return Err((Body::from_stream(stream::iter([Err::<Bytes, _>(error)])), "body".into())),
    };
    if method == Method::GET {
        parts.headers.remove(header::CONTENT_LENGTH);
        if !body.is_empty() && !parts.headers.contains_key(header::ETAG) {
            parts.headers.insert(header::ETAG, headers::etag(&body));
        }
    } else if !body.is_empty() {
        parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    let stored = if method == Method::GET { body.clone() } else { Bytes::new() };
    let mut page = Page::new(parts, stored, layer.ttl);
    if page.size() > LARGEST_VALUE {
        return Err((body.into(), "too-large".into()));
    }
    page.variant = key::variant(&vary_on, asked);
    page.vary_on = vary_on;
    Ok((page, body))
}

/// Returns the answer to GET with its body, and that to HEAD without and as long as if it had one.
fn respond(mut parts: response::Parts, body: Bytes, method: &Method) -> Response {
    if method != Method::HEAD {
        return Response::from_parts(parts, body.into());
    }
    if !parts.headers.contains_key(header::CONTENT_LENGTH) && !body.is_empty() {
        parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    Response::from_parts(parts, Body::empty())
}

fn say(outcome: Outcome, response: &mut Response) {
    let (mut parts, body) = mem::take(response).into_parts();
    outcome.say(&mut parts.headers, &mut parts.extensions);
    *response = Response::from_parts(parts, body);
}
