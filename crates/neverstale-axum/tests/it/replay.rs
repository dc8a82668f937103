//! A response that is replayed is the one that the site would give.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use neverstale::{Cache, CacheOptions, Ttl};
use neverstale_axum::{Outcome, PageCache, Privacy, ReplayLayer, ReplayService};
use tokio::sync::{Notify, Semaphore};
use tower::{Layer, ServiceExt};

use super::around;
use super::site::MINUTE;
use super::versions::{Down, Origin, with_copies};
use testkit::eventually;
use testkit::stores::Store;

/// A page by version behind the replay, and a layer between the two that counts the requests that pass.
struct Site {
    origin: Origin,
    pages: PageCache,
    service: ReplayService<Router>,
    passed: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Replayed {
    is_replayed: bool,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Site {
    fn new(store: &Store) -> Self {
        Self::with(store, MINUTE, |layer| layer)
    }

    fn with(store: &Store, ttl: Ttl, set: impl Fn(ReplayLayer) -> ReplayLayer) -> Self {
        let origin = Origin::default();
        let pages = with_copies(PageCache::new(&Cache::new(store.backend.clone(), CacheOptions::default())));
        let passed = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&passed);
        let count = from_fn(move |request: Request, next: Next| {
            count.fetch_add(1, Ordering::SeqCst);
            next.run(request)
        });
        let page = pages.cache_page(ttl).versioned(&origin.gate(), Down::response);
        let router = around(&origin.view(&[]), page).layer(from_fn(add_header)).layer(count);
        Self { origin, service: set(pages.replay_layer()).layer(router), pages, passed }
    }

    async fn get(&self, headers: &[(&str, &str)]) -> Replayed {
        let mut request = Request::builder().method(Method::GET).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let before = self.passed.load(Ordering::SeqCst);
        let response = self.service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let is_replayed = matches!(response.extensions().get(), Some(Outcome::Replayed(_)));
        assert_eq!(is_replayed, self.passed.load(Ordering::SeqCst) == before, "{headers:?}");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().into();
        Replayed { is_replayed, status: parts.status, headers: parts.headers, body }
    }

    /// Requests the page until it is kept: it is built, shown from its copy, and then replayed.
    async fn is_replayed(&self, headers: &[(&str, &str)]) -> bool {
        for _ in 0..2 {
            self.get(headers).await;
        }
        self.get(headers).await.is_replayed
    }
}

/// A layer that gives every response a header.
async fn add_header(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-frame-options", "DENY".parse().unwrap());
    response
}

/// Returns the headers but for those that are of one request.
fn lasting(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut lasting: Vec<_> = headers
        .iter()
        .filter(|(name, _)| *name != "server-timing" && *name != "cache-status")
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    lasting.sort();
    lasting
}

pub async fn a_response_is_replayed_while_the_site_would_give_the_same(store: &Store) {
    let site = Site::with(store, Ttl::After(Duration::from_secs(2)), |layer| layer);
    site.get(&[]).await;
    let local = site.get(&[]).await;
    let replayed = site.get(&[]).await;
    assert!(!local.is_replayed && replayed.is_replayed);
    assert_eq!((local.status, &local.body), (replayed.status, &replayed.body));
    assert_eq!(lasting(&local.headers), lasting(&replayed.headers));
    assert!(replayed.headers["cache-status"].to_str().unwrap().ends_with("; detail=\"local\""));
    assert!(replayed.headers["server-timing"].to_str().unwrap().contains("gate;dur="));
    site.pages.drop_copies();
    assert!(!site.get(&[]).await.is_replayed, "dropped");
    assert!(site.is_replayed(&[]).await);
    site.origin.change();
    let changed = site.get(&[]).await;
    assert_eq!((changed.is_replayed, &changed.body[..]), (false, &b"run 2 of 1"[..]));
    assert!(site.is_replayed(&[]).await);
    eventually("it has expired", async || !site.get(&[]).await.is_replayed).await;
}

pub async fn a_304_is_replayed_as_the_site_gave_it(store: &Store) {
    let site = Site::new(store);
    assert!(site.is_replayed(&[]).await);
    let tag = site.get(&[]).await.headers["etag"].clone();
    let known = [("if-none-match", tag.to_str().unwrap())];
    let from_site = site.get(&known).await;
    let replayed = site.get(&known).await;
    assert!(!from_site.is_replayed && replayed.is_replayed);
    assert_eq!((replayed.status, replayed.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(lasting(&from_site.headers), lasting(&replayed.headers));
    // The whole page is kept beside it.
    for (condition, status) in [("\"other\"", 200), ("W/\"a\", *", 304)] {
        let replayed = site.get(&[("if-none-match", condition)]).await;
        assert_eq!((replayed.is_replayed, replayed.status.as_u16()), (true, status), "{condition}");
    }
    let unmet = site.get(&[("if-match", "\"other\"")]).await;
    assert_eq!((unmet.is_replayed, unmet.status), (false, StatusCode::PRECONDITION_FAILED));
    site.origin.change();
    let changed = site.get(&known).await;
    assert_eq!((changed.is_replayed, changed.status), (false, StatusCode::OK));
}

pub async fn a_request_that_may_be_private_passes(store: &Store) {
    let site = Site::new(store);
    assert!(site.is_replayed(&[]).await);
    for header in [("cookie", "a=b"), ("authorization", "Basic eDp5")] {
        assert!(!site.is_replayed(&[header]).await, "{header:?}");
    }
    let site = Site::with(store, MINUTE, |layer| {
        layer.bypass(|headers| headers.get("cookie").is_some_and(|cookie| cookie == "session=1"))
    });
    assert!(site.is_replayed(&[("cookie", "a=b")]).await);
    assert!(!site.is_replayed(&[("cookie", "session=1")]).await);
    assert!(!site.is_replayed(&[("authorization", "Basic eDp5")]).await);
}

pub async fn a_response_that_is_private_is_not_kept(store: &Store) {
    let site = Site::new(store);
    let mark = from_fn(async |mut request: Request, next: Next| {
        let privacy = Privacy::of(request.extensions_mut());
        let response = next.run(request).await;
        privacy.mark();
        response
    });
    let page = site.pages.cache_page(MINUTE).versioned(&site.origin.gate(), Down::response);
    let service = site.pages.replay_layer().layer(around(&site.origin.view(&[]), page).layer(mark));
    for _ in 0..4 {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert!(!matches!(response.extensions().get(), Some(Outcome::Replayed(_))));
    }
}

pub async fn a_request_without_a_permit_passes(store: &Store) {
    let permits = Arc::new(Semaphore::new(1));
    let site = Site::with(store, MINUTE, |layer| layer.permits(Arc::clone(&permits)));
    assert!(site.is_replayed(&[]).await);
    let permit = permits.acquire().await.unwrap();
    assert!(!site.get(&[]).await.is_replayed);
    drop(permit);
    assert!(site.get(&[]).await.is_replayed);
}

pub async fn a_failed_version_check_is_not_repeated(store: &Store) {
    let origin = Origin::default();
    let gate = origin.gate();
    let pages = with_copies(PageCache::new(&Cache::new(store.backend.clone(), CacheOptions::default())));
    let router = around(&origin.view(&[]), pages.cache_page(MINUTE).versioned(&gate, Down::response));
    let service = pages.replay_layer().layer(router);
    let status = async || {
        let request = Request::get("/").body(Body::empty()).unwrap();
        service.clone().oneshot(request).await.unwrap().status()
    };
    for _ in 0..3 {
        assert_eq!(status().await, StatusCode::OK);
    }
    let calls = gate.stats().calls;
    origin.is_down.store(true, Ordering::SeqCst);
    assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(gate.stats().calls - calls, 1);
}

pub async fn a_response_that_was_on_its_way_while_all_were_dropped_is_not_replayed(store: &Store) {
    let origin = Origin::default();
    let pages = with_copies(PageCache::new(&Cache::new(store.backend.clone(), CacheOptions::default())));
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(2)));
    let hold = {
        let (arrived, go) = (Arc::clone(&arrived), Arc::clone(&go));
        from_fn(move |request: Request, next: Next| {
            let (arrived, go) = (Arc::clone(&arrived), Arc::clone(&go));
            async move {
                let response = next.run(request).await;
                arrived.notify_one();
                go.acquire().await.unwrap().forget();
                response
            }
        })
    };
    let page = pages.cache_page(MINUTE).versioned(&origin.gate(), Down::response);
    let service = pages.replay_layer().layer(around(&origin.view(&[]), page).layer(hold));
    let get = || {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = service.clone().oneshot(request);
        tokio::spawn(async { response.await.unwrap().extensions().get::<Outcome>().cloned().unwrap() })
    };
    get().await.unwrap();
    arrived.notified().await;
    // Held with the copy in its hands.
    go.forget_permits(1);
    let held = get();
    arrived.notified().await;
    pages.drop_copies();
    go.add_permits(9);
    assert!(matches!(held.await.unwrap(), Outcome::Local(_)));
    assert!(!matches!(get().await.unwrap(), Outcome::Replayed(_)));
}

pub async fn nothing_is_replayed_without_copies_of_versions(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let origin = Origin::default();
    for (prefix, pages, is_versioned) in
        [("a", PageCache::new(&cache), true), ("b", with_copies(PageCache::new(&cache)), false)]
    {
        let pages = pages.key_prefix(prefix);
        let page = pages.cache_page(MINUTE);
        let page = if is_versioned { page.versioned(&origin.gate(), Down::response) } else { page };
        let service = pages.replay_layer().layer(around(&origin.view(&[]), page));
        for _ in 0..4 {
            let request = Request::get("/").body(Body::empty()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            assert!(!matches!(response.extensions().get(), Some(Outcome::Replayed(_))), "{prefix}");
        }
    }
}
