//! The service around a view: look up, or else run it once and store.

use std::mem;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, header, request};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use super::answer;
use super::entry::{Entry, Page};
use super::headers;
use super::key::{self, PageKey};
use super::layer::CachePage;
use super::outcome::{Arrival, Outcome, Timing};
use super::store::{Found, Slot, Store};
use crate::cache::Key;
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
        visit(layer, view, request).boxed()
    }
}

/// One request on its way.
struct Visit<S> {
    layer: CachePage,
    view: S,
    keys: PageKey,
    parts: request::Parts,
    body: Body,
    arrival: Arrival,
}

async fn visit<S>(layer: CachePage, view: S, mut request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let arrival = Arrival(Instant::now());
    request.extensions_mut().insert(arrival);
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return pass_by(view, request, Outcome::Method, arrival).await;
    }
    let (parts, body) = request.into_parts();
    let Some(keys) = PageKey::of(&parts, &layer) else {
        let request = Request::from_parts(parts, body);
        return pass_by(view, request, Outcome::Bypass("host"), arrival).await;
    };
    Visit { layer, view, keys, parts, body, arrival }.answer().await
}

async fn pass_by<S>(
    view: S,
    request: Request,
    outcome: Outcome,
    arrival: Arrival,
) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let (mut response, view) = run(view, request).await?;
    outcome.say(Timing { arrival, view: Some(view) }, &mut response);
    Ok(response)
}

/// Runs the view, and returns how long it took.
async fn run<S>(view: S, request: Request) -> Result<(Response, Duration), S::Error>
where
    S: Service<Request, Response = Response>,
{
    let start = Instant::now();
    let response = view.oneshot(request).await?;
    Ok((response, start.elapsed()))
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
                    return self.pass_by(Outcome::Bypass("cache-unavailable")).await;
                }
                Found::Nothing(slot) => {
                    let (cache, flight) = (self.store().cache.clone(), slot.build());
                    let name = cache.name(&flight);
                    // Kept until the answer is there: whoever comes meanwhile learns what came of the build.
                    let seat = cache.flights().join(&name);
                    let read = |envelope: &Bytes| Store::open(envelope, &slot.generation);
                    match cache.turn(&seat, &flight, &slot.key, self.layer.patience, read).await {
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
        self.pass_by(Outcome::Miss("varies-too-often".into())).await
    }

    /// Runs the view, stores its answer if it may be, and returns it with what those who wait are told.
    async fn build(self, slot: &Slot) -> Result<(Response, Bytes), S::Error> {
        let (layer, page) = (self.layer.clone(), self.page().clone());
        let store = &layer.pages.store;
        let asked = self.parts.clone();
        let (response, view) = run(self.view, Request::from_parts(self.parts, self.body)).await?;
        let timing = Timing { arrival: self.arrival, view: Some(view) };
        let (mut parts, body) = response.into_parts();
        match answer::keep(&layer, &asked.method, &asked.headers, &mut parts, body).await {
            Ok(mut content) => {
                content.generation.clone_from(&slot.generation);
                let mut response = answer::respond(parts, &content, &asked);
                let (envelope, is_stored) = store.keep(&page, content, &asked.headers, layer.ttl).await;
                let outcome =
                    if is_stored { Outcome::Stored(slot.fwd) } else { Outcome::Miss("cache-refused".into()) };
                outcome.say(timing, &mut response);
                let told = if is_stored { envelope } else { store.pass(slot).await };
                Ok((response, told))
            }
            Err((body, reason)) => {
                let mut response = Response::from_parts(parts, body);
                Outcome::Miss(reason).say(timing, &mut response);
                Ok((response, store.pass(slot).await))
            }
        }
    }

    async fn pass_by(self, outcome: Outcome) -> Result<Response, S::Error> {
        let request = Request::from_parts(self.parts, self.body);
        pass_by(self.view, request, outcome, self.arrival).await
    }

    /// Answers with a page.
    fn show(&self, page: &Page, outcome: Outcome) -> Response {
        let (mut parts, ()) = Response::new(()).into_parts();
        (parts.status, parts.headers) = (page.status(), page.headers());
        if let Some(age) = headers::age(&parts.headers) {
            parts.headers.insert(header::AGE, age.into());
        }
        let mut response = answer::respond(parts, page, &self.parts);
        outcome.say(Timing { arrival: self.arrival, view: None }, &mut response);
        response
    }

    /// Returns whether a page was made for the same values of the headers it varies on.
    fn is_for_me(&self, page: &Page) -> bool {
        page.variant == key::variant(&page.vary_on, &self.parts.headers)
    }

    /// Returns where this request's answer is stored.
    fn page(&self) -> &Key {
        if self.parts.method == Method::HEAD { &self.keys.head } else { &self.keys.get }
    }

    fn store(&self) -> &Store {
        &self.layer.pages.store
    }
}
