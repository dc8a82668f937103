//! A response that is replayed is the one that the site would give.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use neverstale::backend::dummy::Dummy;
use neverstale::{Cache, CacheOptions, Ttl};
use neverstale_axum::conditional::evaluate;
use neverstale_axum::{Outcome, PageCache, PageVersion, Privacy, ReplayLayer, ReplayService};
use tokio::sync::{Notify, Semaphore};
use tower::{Layer, ServiceExt};

use super::around;
use super::site::{MINUTE, View, with};
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
        Self { origin, service: set(pages.replay_layer(|_| true)).layer(router), pages, passed }
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

    /// Requests the page, and returns whether the next request gets the same response.
    async fn is_replayed(&self, headers: &[(&str, &str)]) -> bool {
        self.get(headers).await;
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
    let built = site.get(&[]).await;
    let replayed = site.get(&[]).await;
    assert!(!built.is_replayed && replayed.is_replayed);
    assert_eq!((built.status, &built.body), (replayed.status, &replayed.body));
    assert_eq!(lasting(&built.headers), lasting(&replayed.headers));
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

pub async fn a_304_is_made_of_the_page_that_is_kept(store: &Store) {
    let site = Site::new(store);
    let tag = site.get(&[]).await.headers["etag"].clone();
    let known = [("if-none-match", tag.to_str().unwrap())];
    site.pages.drop_copies();
    let first = site.get(&known).await;
    let replayed = site.get(&known).await;
    assert!(!first.is_replayed && replayed.is_replayed);
    for response in [&first, &replayed] {
        assert_eq!((response.status, response.body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(response.headers["etag"], tag);
        assert_eq!(response.headers["x-frame-options"], "DENY");
    }
    assert_eq!(lasting(&first.headers), lasting(&replayed.headers));
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

/// A versioned page. A layer puts into `x-seen` what reaches the site of a request: the values of `names`, the version
/// of HTTP and an extension.
fn showing(
    store: &Store,
    names: [&'static str; 2],
    set: impl Fn(ReplayLayer) -> ReplayLayer,
) -> ReplayService<Router> {
    let show = from_fn(move |request: Request, next: Next| async move {
        let values =
            names.map(|name| request.headers().get(name).map_or("none", |value| value.to_str().unwrap()));
        let extension = request.extensions().get::<&str>().unwrap_or(&"none");
        let seen = format!("{} {extension} {:?}", values.join(" "), request.version());
        let mut response = next.run(request).await;
        response.headers_mut().insert("x-seen", seen.parse().unwrap());
        response
    });
    let pages = with_copies(PageCache::new(&Cache::new(store.backend.clone(), CacheOptions::default())));
    let origin = Origin::default();
    let page = pages.cache_page(MINUTE).versioned(&origin.gate(), Down::response);
    set(pages.replay_layer(|uri| uri.path() != "/file")).layer(around(&origin.view(&[]), page).layer(show))
}

/// Requests a path with these headers, over HTTP/1.0 and with an extension.
async fn seen(service: &ReplayService<Router>, path: &str, headers: [(&str, &str); 2]) -> String {
    let mut request = Request::builder().uri(path).version(Version::HTTP_10).extension("extension");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let is_replayed = matches!(response.extensions().get(), Some(Outcome::Replayed(_)));
    let again = if is_replayed { ", replayed" } else { "" };
    format!("{}{again}", response.headers()["x-seen"].to_str().unwrap())
}

pub async fn the_site_sees_nothing_that_is_not_in_the_key(store: &Store) {
    let names = ["user-agent", "cookie"];
    let service = showing(store, names, |layer| layer.bypass(|_| false));
    assert_eq!(seen(&service, "/", [(names[0], "a"), (names[1], "a")]).await, "none none none HTTP/1.1");
    let other = seen(&service, "/", [(names[0], "b"), (names[1], "b")]).await;
    assert_eq!(other, "none none none HTTP/1.1, replayed");
}

pub async fn a_header_in_the_key_gives_each_value_its_own_response(store: &Store) {
    let names = ["user-agent", "accept-encoding"];
    let service = showing(store, names, |layer| layer.vary_on([header::USER_AGENT]));
    for end in ["", ", replayed"] {
        for (value, encoding, expected) in [
            ("a", "zstd, gzip, br;q=0.9", "a gzip none HTTP/1.1"),
            ("b", "x-gzip", "b gzip none HTTP/1.1"),
            ("b", "br, gzip", "b br none HTTP/1.1"),
            ("b", "identity, deflate", "b none none HTTP/1.1"),
        ] {
            let asked = [(names[0], value), (names[1], encoding)];
            assert_eq!(seen(&service, "/", asked).await, format!("{expected}{end}"));
        }
    }
}

pub async fn a_header_that_is_passed_on_changes_no_key(store: &Store) {
    let names = ["x-request-id", "accept"];
    let service = showing(store, names, |layer| layer.pass([HeaderName::from_static("x-request-id")]));
    assert_eq!(seen(&service, "/", [(names[0], "a"), (names[1], "b")]).await, "a none none HTTP/1.1");
    assert_eq!(
        seen(&service, "/", [(names[0], "b"), (names[1], "b")]).await,
        "a none none HTTP/1.1, replayed"
    );
}

pub async fn a_request_for_no_page_reaches_the_site_untouched(store: &Store) {
    let names = ["range", "x-forwarded-for"];
    let service = showing(store, names, |layer| layer);
    for _ in 0..2 {
        let file = seen(&service, "/file", [(names[0], "bytes=0-1"), (names[1], "::1")]).await;
        assert_eq!(file, "bytes=0-1 ::1 extension HTTP/1.0");
    }
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
    let replay = site.pages.replay_layer(|_| true);
    let service = replay.layer(around(&site.origin.view(&[]), page).layer(mark));
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
    let service = pages.replay_layer(|_| true).layer(router);
    let status = async || {
        let request = Request::get("/").body(Body::empty()).unwrap();
        service.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(status().await, StatusCode::OK);
    let calls = gate.stats().calls;
    origin.is_down.store(true, Ordering::SeqCst);
    assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(gate.stats().calls - calls, 1);
}

pub async fn a_response_that_was_on_its_way_while_all_were_dropped_is_not_replayed(store: &Store) {
    let origin = Origin::default();
    let pages = with_copies(PageCache::new(&Cache::new(store.backend.clone(), CacheOptions::default())));
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
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
    let service = pages.replay_layer(|_| true).layer(around(&origin.view(&[]), page).layer(hold));
    let get = || {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = service.clone().oneshot(request);
        tokio::spawn(async { response.await.unwrap().extensions().get::<Outcome>().cloned().unwrap() })
    };
    let held = get();
    arrived.notified().await;
    pages.drop_copies();
    go.add_permits(9);
    assert!(matches!(held.await.unwrap(), Outcome::Stored(_)));
    assert!(matches!(get().await.unwrap(), Outcome::Hit(_)));
    assert!(matches!(get().await.unwrap(), Outcome::Replayed(_)));
}

pub async fn nothing_is_replayed_without_copies(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let (origin, pages) = (Origin::default(), PageCache::new(&cache));
    for (prefix, is_versioned) in [("a", true), ("b", false)] {
        let pages = pages.clone().key_prefix(prefix);
        let page = pages.cache_page(MINUTE);
        let page = if is_versioned { page.versioned(&origin.gate(), Down::response) } else { page };
        let service = pages.replay_layer(|_| true).layer(around(&origin.view(&[]), page));
        for _ in 0..4 {
            let request = Request::get("/").body(Body::empty()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            assert!(!matches!(response.extensions().get(), Some(Outcome::Replayed(_))), "{prefix}");
        }
    }
}

#[tokio::test]
async fn a_page_that_the_cache_refuses_is_finished_and_kept_all_the_same() {
    let (origin, cache) = (Origin::default(), Cache::new(Dummy, CacheOptions::default()));
    let view = View::new(|run, _| {
        let mut response = with(&[("content-type", "text/plain")], format!("run {run} ").repeat(500));
        response.extensions_mut().insert(PageVersion("0".into()));
        response
    });
    let pages = with_copies(PageCache::new(&cache));
    let page = pages.cache_page(MINUTE).versioned(&origin.gate(), Down::response);
    let service = pages.replay_layer(|_| true).layer(around(&view, page).layer(from_fn(evaluate)));
    let mut tags = vec![];
    for is_replayed in [false, true] {
        let request = Request::get("/").header("accept-encoding", "br").body(Body::empty()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(matches!(response.extensions().get(), Some(Outcome::Replayed(_))), is_replayed);
        tags.push(response.headers()["etag"].to_str().unwrap().to_owned());
    }
    assert!(tags[0] == tags[1] && tags[0].matches("-br").count() == 1, "{tags:?}");
}
