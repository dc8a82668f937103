//! What a handler has learned of one visitor is shown to no other, whatever the order of the layers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use hyper::body::{Frame, SizeHint};
use neverstale::version::{Lost, VersionSource};
use neverstale::{Cache, CacheOptions};
use neverstale_axum::{CachePageLayer, PageCache, PageContext, PageVersion, Privacy};
use neverstale_sessions::{Session, Sessions};
use tokio::sync::Semaphore;
use tower::Layer;

use super::site::MINUTE;
use super::{Answer, ask};
use testkit::eventually;
use testkit::stores::Store;

/// Where the layer of pages stands, seen from that of sessions.
#[derive(Clone, Copy, Debug)]
enum Pages {
    /// Around the handler, and the sessions around all routes.
    Inside,
    /// As before, and a layer between the two has looked at the session already.
    InsideOfALook,
    /// Around the sessions.
    Outside,
}

const ORDERS: [Pages; 3] = [Pages::Inside, Pages::InsideOfALook, Pages::Outside];

async fn greet(Extension(session): Extension<Session>) -> String {
    let name = session.get::<String>("name").await.unwrap();
    format!("Hello, {}!", name.unwrap_or_else(|| "stranger".into()))
}

async fn enter(Extension(session): Extension<Session>, Path(name): Path<String>) {
    session.insert("name", name).await.unwrap();
}

/// A middleware that looks at the session before it goes on, as one that checks who is logged in.
async fn look(request: Request, next: Next) -> Response {
    let session: Session = request.extensions().get().cloned().unwrap();
    let _: Option<String> = session.get("name").await.unwrap();
    next.run(request).await
}

fn site(cache: &Cache, pages: CachePageLayer, order: Pages, handler: MethodRouter) -> Router {
    let secret = b"a secret of thirty-two bytes, about"[..].try_into().unwrap();
    let sessions = Sessions::in_cache(cache, &secret).layer();
    let site = Router::new().route("/enter/{name}", post(enter)).layer(sessions.clone());
    let shown = match order {
        Pages::Inside => Router::new().route("/", handler.layer(pages)).layer(sessions),
        Pages::InsideOfALook => {
            Router::new().route("/", handler.layer(pages)).layer(from_fn(look)).layer(sessions)
        }
        Pages::Outside => Router::new().route("/", handler.layer(sessions)).layer(pages),
    };
    site.merge(shown)
}

async fn cookie_of(site: &Router, name: &str) -> String {
    let entered = ask(site, Method::POST, &format!("/enter/{name}"), &[]).await;
    entered.header("set-cookie").split(';').next().unwrap().to_owned()
}

async fn shown_to(site: &Router, cookie: &str) -> Answer {
    let headers = [("cookie", cookie)];
    ask(site, Method::GET, "/", if cookie.is_empty() { &[] } else { &headers }).await
}

fn cache_over(store: &Store) -> Cache {
    Cache::new(store.backend.clone(), CacheOptions::default())
}

pub async fn a_page_that_was_made_of_a_session_is_shown_to_no_other_visitor(store: &Store) {
    for order in ORDERS {
        for first in 0..3 {
            let cache = cache_over(store);
            let prefix = format!("{order:?}{first}");
            let pages = PageCache::new(&cache).key_prefix(prefix).cache_page(MINUTE);
            let site = site(&cache, pages, order, get(greet));
            let mut visitors = [("stranger", String::new()), ("ann", String::new()), ("bob", String::new())];
            for (name, cookie) in &mut visitors[1..] {
                *cookie = cookie_of(&site, name).await;
            }
            visitors.rotate_left(first);
            for (name, cookie) in visitors.iter().chain(&visitors) {
                let answer = shown_to(&site, cookie).await;
                answer.says(&format!("Hello, {name}!"));
                let reason = if matches!(order, Pages::InsideOfALook) { "fwd=bypass" } else { "fwd=miss" };
                answer.is(&format!("{reason}; detail=\"private\""));
                assert_eq!(answer.header("vary"), "Cookie", "{order:?}");
            }
        }
    }
}

pub async fn a_page_that_looks_at_no_session_is_everybodys(store: &Store) {
    for order in [Pages::Inside, Pages::Outside] {
        let cache = cache_over(store);
        let pages = PageCache::new(&cache).key_prefix(format!("{order:?}")).cache_page(MINUTE);
        let site = site(&cache, pages, order, get(async |Extension(_): Extension<Session>| "Hello, all!"));
        let cookie = cookie_of(&site, "ann").await;
        shown_to(&site, &cookie).await.is_stored();
        shown_to(&site, "").await.is_hit().says("Hello, all!");
        shown_to(&site, &cookie).await.is_hit().says("Hello, all!");
    }
}

pub async fn who_waits_for_a_page_of_another_visitor_gets_a_page_of_their_own(store: &Store) {
    for order in [Pages::Inside, Pages::Outside] {
        let cache = cache_over(store);
        let pages = PageCache::new(&cache).key_prefix(format!("waits{order:?}")).cache_page(MINUTE);
        let go = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&go);
        let handler = get(move |session: Extension<Session>| async move {
            let greeting = greet(session).await;
            held.acquire().await.unwrap().forget();
            greeting
        });
        let site = site(&cache, pages, order, handler);
        let mut asked = vec![];
        for name in ["ann", "bob"] {
            let (cookie, site) = (cookie_of(&site, name).await, site.clone());
            let misses = || cache.stats().iter().map(|stats| stats.misses).sum::<u64>();
            let before = misses();
            let shown = async move { shown_to(&site, &cookie).await };
            asked.push((name, tokio::spawn(shown)));
            eventually("it has found no page", async || misses() > before).await;
        }
        go.add_permits(2);
        for (name, shown) in asked {
            shown.await.unwrap().says(&format!("Hello, {name}!"));
        }
    }
}

pub async fn a_personal_request_has_a_response_of_its_own_and_the_others_share(store: &Store) {
    let pages = PageCache::new(&cache_over(store)).cache_page(MINUTE);
    let pages = pages.personal("Cookie", |request| request.headers.contains_key("cookie"));
    let handler = get(async |Extension(context): Extension<PageContext>| format!("{}", context.is_personal));
    let site = Router::new().route("/", handler).layer(pages);
    shown_to(&site, "").await.is_stored().says("false");
    for _ in 0..2 {
        let own = shown_to(&site, "a=b").await;
        own.is("fwd=bypass; detail=\"personal\"").says("true");
        assert_eq!((own.header("cache-control"), own.header("vary")), ("private, no-store", "Cookie"));
        let shared = shown_to(&site, "").await;
        shared.is_hit().says("false");
        assert!(shared.header("vary").contains("Cookie"));
        // It shows nothing.
        ask(&site, Method::HEAD, "/", &[("cookie", "a=b")]).await.is_hit();
    }
}

#[derive(Debug)]
struct Never;

impl From<Lost> for Never {
    fn from(_: Lost) -> Self {
        Self
    }
}

pub async fn no_copy_in_the_process_is_made_of_a_session(store: &Store) {
    for order in [Pages::Inside, Pages::Outside] {
        let cache = cache_over(store);
        let gate = VersionSource::new(async || Ok::<_, Never>(1));
        let pages = PageCache::new(&cache).with_local_copies(1 << 20).key_prefix(format!("copies{order:?}"));
        let handler = get(async |session| (Extension(PageVersion("1".into())), greet(session).await));
        let site = site(
            &cache,
            pages.cache_page(MINUTE).versioned(&gate, |_| StatusCode::SERVICE_UNAVAILABLE),
            order,
            handler,
        );
        let site = Router::new().fallback_service(pages.replay_layer(|_| true).layer(site));
        for name in ["ann", "bob", "ann"] {
            let cookie = cookie_of(&site, name).await;
            for _ in 0..3 {
                shown_to(&site, &cookie).await.says(&format!("Hello, {name}!"));
            }
        }
    }
}

/// A body of a known length that looks at private state when it is read.
struct Late(Privacy, bool);

impl HttpBody for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.mark();
        let is_over = std::mem::replace(&mut self.1, true);
        Poll::Ready((!is_over).then(|| Ok(Frame::data(Bytes::from_static(b"mine")))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(4)
    }
}

pub async fn a_body_that_is_made_of_private_state_is_not_stored(store: &Store) {
    let handler = async |Extension(privacy): Extension<Privacy>| Body::new(Late(privacy, false));
    let pages = PageCache::new(&cache_over(store)).cache_page(MINUTE);
    let site = Router::new().route("/", get(handler)).layer(pages);
    for _ in 0..2 {
        shown_to(&site, "").await.is("fwd=miss; detail=\"private\"").says("mine");
    }
}
