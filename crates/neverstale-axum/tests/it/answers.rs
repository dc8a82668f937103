//! What is stored, what is not, and what the browser is told.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::response::Response;
use axum::routing::get;
use futures_util::stream;
use neverstale::{Cache, CacheOptions, Ttl};
use neverstale_axum::headers::{cache_control, never_cached};
use neverstale_axum::{Browser, Outcome, PageCache};
use tower::ServiceExt;

use super::site::{MINUTE, Site, View, numbered, with};
use super::{Answer, around, ask};
use testkit::eventually;
use testkit::stores::Store;

pub async fn a_page_is_rendered_once(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    site.get("/x").await.is("fwd=uri-miss; stored").says("run 1");
    for _ in 0..3 {
        site.get("/x").await.is_hit().says("run 1");
    }
    assert_eq!(site.runs(), 1);
}

pub async fn a_hit_is_the_answer_again_with_status_headers_and_bytes(store: &Store) {
    let bytes: Vec<u8> = (0..=255).cycle().take(30_000).collect();
    let view = View::new(move |_, _| {
        let mut response = with(&[("x-twice", "1"), ("x-twice", "2")], bytes.clone());
        response.headers_mut().insert("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        response
    });
    let site = Site::new(store, view);
    let (fresh, mut hit) = (site.get("/").await, site.get("/").await);
    hit.is_hit();
    for of_one_answer in ["cache-status", "server-timing"] {
        hit.headers.insert(of_one_answer, fresh.headers[of_one_answer].clone());
    }
    assert_eq!((hit.status, &hit.headers, &hit.body), (fresh.status, &fresh.headers, &fresh.body));
    assert_eq!(hit.headers.get_all("x-twice").iter().count(), 2);
}

pub async fn an_empty_page_is_a_page(store: &Store) {
    let site = Site::new(store, View::new(|_, _| with(&[], "")));
    site.get("/").await.is_stored();
    assert_eq!(site.get("/").await.is_hit().header("etag"), "");
}

pub async fn what_a_client_says_of_caching_is_ignored(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    site.get("/").await;
    let headers = [("cache-control", "no-cache, no-store, max-age=0"), ("pragma", "no-cache")];
    site.get_with("/", &headers).await.is_hit().says("run 1");
}

pub async fn other_methods_pass_by_and_store_nothing(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = site.ask(method, "/", &[]).await;
        assert_eq!(answer.is("fwd=method").header("etag"), "");
    }
    site.get("/").await.is_stored().says("run 5");
    site.ask(Method::POST, "/", &[]).await.is("fwd=method").says("run 6");
}

pub async fn a_refused_answer_is_left_as_it_is(store: &Store) {
    for name in ["private", "no-cache", "no-store"] {
        let view = View::new(move |run, _| with(&[("cache-control", name)], format!("run {run}")));
        let site = Site::new(store, view);
        for run in ["run 1", "run 2"] {
            let answer = site.get("/").await;
            answer.is(&format!("fwd=miss; detail=\"{name}\"")).says(run);
            assert_eq!((answer.header("cache-control"), answer.header("etag")), (name, ""));
        }
    }
}

pub async fn every_status_but_200_is_left_alone(store: &Store) {
    for status in [201, 204, 206, 301, 404, 410, 500, 503] {
        let view = View::new(move |_, _| Response::builder().status(status).body(Body::empty()).unwrap());
        let site = Site::new(store, view);
        for _ in 0..2 {
            let answer = site.get("/").await;
            answer.is(&format!("fwd=miss; detail=\"status-{status}\""));
            assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (status, ""));
        }
        assert_eq!(site.runs(), 2);
    }
}

pub async fn a_304_is_told_to_the_browser_and_not_stored(store: &Store) {
    let site = Site::new(
        store,
        View::new(|_, _| {
            let mut response = with(&[], "");
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }),
    );
    for _ in 0..2 {
        let answer = site.get("/").await;
        assert_eq!(answer.is("fwd=miss; detail=\"status-304\"").header("cache-control"), "no-cache");
    }
}

pub async fn an_answer_with_a_cookie_is_its_receivers_alone(store: &Store) {
    let site = Site::new(store, numbered(&[("set-cookie", "session=1")]));
    for run in ["run 1", "run 2"] {
        let answer = site.get("/").await;
        assert_eq!(answer.is("fwd=miss; detail=\"set-cookie\"").says(run).header("set-cookie"), "session=1");
    }
}

pub async fn directives_count_by_their_exact_name(store: &Store) {
    for (control, is_stored) in [
        ("PRIVATE=\"X\"", false),
        ("no-cache = \"X\"", false),
        ("public, No-Store", false),
        ("myprivate", true),
        ("x=\"a, private\"", true),
        ("public", true),
    ] {
        let site = Site::new(store, View::new(move |_, _| with(&[("cache-control", control)], "")));
        site.pages.purge("/").await;
        let answer = site.get("/").await;
        assert_eq!(answer.header("cache-status").ends_with("stored"), is_stored, "{control}: {answer:?}");
    }
}

pub async fn a_star_anywhere_in_vary_is_not_stored(store: &Store) {
    for vary in ["*", "Cookie, *", " * , Cookie"] {
        let site = Site::new(store, View::new(move |_, _| with(&[("vary", vary)], "")));
        site.get("/").await.is("fwd=miss; detail=\"vary-star\"");
    }
}

pub async fn a_name_in_vary_that_is_none_is_not_stored(store: &Store) {
    let site = Site::new(store, numbered(&[("vary", "two words")]));
    site.get("/").await.is("fwd=miss; detail=\"vary\"");
}

pub async fn a_page_that_streams_is_left_alone(store: &Store) {
    let view = View::new(|_, _| {
        let parts = ["one", " two"].map(|part| Ok::<_, std::io::Error>(Bytes::from(part)));
        with(&[("content-length", "7")], Body::from_stream(stream::iter(parts)))
    });
    let site = Site::new(store, view);
    for _ in 0..2 {
        let answer = site.get("/").await;
        assert_eq!(answer.is("fwd=miss; detail=\"streaming\"").says("one two").header("cache-control"), "");
    }
}

pub async fn a_page_that_is_too_large_is_left_alone(store: &Store) {
    let site = Site::new(store, View::new(|_, _| with(&[], vec![b'x'; 1_000_001])));
    for _ in 0..2 {
        let answer = site.get("/").await;
        assert_eq!(answer.is("fwd=miss; detail=\"too-large\"").body.len(), 1_000_001);
        assert_eq!(answer.header("etag"), "");
    }
}

pub async fn a_page_near_the_limit_is_stored(store: &Store) {
    let site = Site::new(store, View::new(|_, _| with(&[], vec![b'x'; 990_000])));
    site.get("/").await.is_stored();
    assert_eq!(site.get("/").await.is_hit().body.len(), 990_000);
}

pub async fn headers_that_make_a_page_too_large_are_counted(store: &Store) {
    let long = "y".repeat(20_000);
    let view = View::new(move |_, _| with(&[("x-long", &long)], vec![b'x'; 990_000]));
    Site::new(store, view).get("/").await.is("fwd=miss; detail=\"too-large\"");
}

pub async fn headers_of_one_connection_are_not_stored(store: &Store) {
    let headers = &[("connection", "x-hop"), ("x-hop", "1"), ("server-timing", "db;dur=1"), ("x-kept", "1")];
    let site = Site::new(store, numbered(headers));
    site.get("/").await.is_stored();
    let hit = site.get("/").await;
    let seen = ["connection", "x-hop", "server-timing", "x-kept"].map(|name| hit.header(name));
    assert_eq!(seen[..2], ["", ""]);
    assert!(seen[2].starts_with("cache;desc=\"hit\""), "only of this answer: {seen:?}");
    assert_eq!(seen[3], "1");
}

pub async fn a_lifetime_of_zero_stores_nothing(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let pages = PageCache::new(&cache).cache_page(Ttl::After(Duration::ZERO));
    let router = around(&numbered(&[]), pages);
    for run in ["run 1", "run 2"] {
        super::ask(&router, Method::GET, "/", &[]).await.is("fwd=miss; detail=\"ttl-zero\"").says(run);
    }
}

pub async fn a_page_without_an_end_has_no_ttl(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let router = around(&numbered(&[]), PageCache::new(&cache).cache_page(Ttl::Never));
    super::ask(&router, Method::GET, "/", &[]).await.is_stored();
    super::ask(&router, Method::GET, "/", &[]).await.is("hit");
    let limited = Site::new(store, numbered(&[]));
    limited.get("/limited").await;
    let hit = limited.get("/limited").await;
    let left = hit
        .header("cache-status")
        .strip_prefix("neverstale-axum; hit; ttl=")
        .unwrap()
        .parse::<u64>()
        .unwrap();
    assert!((50..=60).contains(&left), "{left}");
}

pub async fn a_page_expires(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let soon = Ttl::After(Duration::from_millis(300));
    let router = around(&numbered(&[]), PageCache::new(&cache).cache_page(soon));
    super::ask(&router, Method::GET, "/", &[]).await.is_stored();
    eventually("the page has expired", async || {
        super::ask(&router, Method::GET, "/", &[]).await.body != "run 1"
    })
    .await;
}

/// Asks twice, and returns what the browser was told, which must be the same.
async fn told(store: &Store, headers: &'static [(&str, &str)], browser: Browser) -> String {
    let site = Site::with(store, numbered(headers), |layer| layer.browser(browser));
    site.pages.purge("/").await;
    let (fresh, hit) = (site.get("/").await, site.get("/").await);
    hit.is_hit();
    assert_eq!(fresh.header("cache-control"), hit.header("cache-control"));
    hit.header("cache-control").to_owned()
}

pub async fn the_browser_is_told_to_ask_each_time(store: &Store) {
    assert_eq!(told(store, &[], Browser::default()).await, "no-cache");
}

pub async fn a_view_that_gives_a_lifetime_is_believed(store: &Store) {
    assert_eq!(told(store, &[("cache-control", "max-age=9")], Browser::default()).await, "max-age=9");
    let expires = &[("expires", "Thu, 01 Jan 2099 00:00:00 GMT")];
    assert_eq!(told(store, expires, Browser::default()).await, "");
}

pub async fn public_alone_is_no_lifetime(store: &Store) {
    assert_eq!(told(store, &[("cache-control", "public")], Browser::default()).await, "public, no-cache");
}

pub async fn a_route_may_give_the_browser_a_lifetime(store: &Store) {
    let browser = Browser::MaxAge(Duration::from_secs(30));
    assert_eq!(told(store, &[], browser).await, "max-age=30");
    assert_eq!(told(store, &[("cache-control", "max-age=90")], browser).await, "max-age=30");
}

pub async fn a_view_may_give_the_browser_a_shorter_one(store: &Store) {
    let browser = Browser::MaxAge(Duration::from_secs(30));
    assert_eq!(told(store, &[("cache-control", "max-age=9")], browser).await, "max-age=9");
}

pub async fn the_browser_may_be_told_nothing(store: &Store) {
    assert_eq!(told(store, &[], Browser::Unsaid).await, "");
}

pub async fn an_etag_is_that_of_the_bytes(store: &Store) {
    let site = Site::new(store, View::new(|_, request| with(&[], request.uri().query().unwrap().to_owned())));
    let (one, same, other) = (site.get("/a?1").await, site.get("/b?1").await, site.get("/a?2").await);
    assert_eq!(one.header("etag"), same.header("etag"));
    assert_ne!(one.header("etag"), other.header("etag"));
    assert!(one.header("etag").starts_with('"') && one.header("etag").len() == 34);
    assert_eq!(site.get("/a?1").await.is_hit().header("etag"), one.header("etag"));
}

pub async fn a_view_that_sets_an_etag_keeps_it(store: &Store) {
    let site = Site::new(store, numbered(&[("etag", "W/\"mine\"")]));
    for _ in 0..2 {
        assert_eq!(site.get("/").await.header("etag"), "W/\"mine\"");
    }
}

pub async fn a_stored_page_says_its_age_if_it_says_its_end(store: &Store) {
    let site = Site::new(
        store,
        numbered(&[("cache-control", "max-age=60"), ("expires", "Thu, 01 Jan 1970 00:00:00 GMT")]),
    );
    assert_eq!(site.get("/").await.header("age"), "", "a fresh one has none");
    assert_eq!(site.get("/").await.is_hit().header("age"), "60");
    let without = Site::new(store, numbered(&[("cache-control", "max-age=60")]));
    without.get("/without").await;
    assert_eq!(without.get("/without").await.is_hit().header("age"), "");
}

pub async fn the_outcome_is_among_the_extensions(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let router = around(&numbered(&[]), PageCache::new(&cache).cache_page(Ttl::Never));
    let ask = async || {
        let request = Request::builder().uri("/").body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        response.extensions().get::<Outcome>().cloned()
    };
    assert!(matches!(ask().await, Some(Outcome::Stored(_))));
    assert_eq!(ask().await, Some(Outcome::Hit(None)));
}

pub async fn what_a_cache_further_in_said_stays_in_front(store: &Store) {
    let site = Site::new(store, numbered(&[("cache-status", "inner; hit")]));
    let all = |answer: &super::Answer| answer.headers.get_all("cache-status").iter().count();
    assert_eq!(all(&site.get("/").await), 2);
    let hit = site.get("/").await;
    assert_eq!(all(&hit), 1, "it was said of another answer");
    hit.is_hit();
}

pub async fn an_answer_says_where_its_time_went(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let words = |answer: &Answer| -> Vec<String> {
        let timing = answer.header("server-timing");
        timing.split(", ").map(|entry| entry.rsplit_once(";dur=").unwrap().0.to_owned()).collect()
    };
    let built = site.get("/").await;
    assert_eq!(words(&built), ["cache;desc=\"stored\"", "view"]);
    assert_eq!(words(&site.get("/").await), ["cache;desc=\"hit\""]);
    assert_eq!(words(&site.ask(Method::POST, "/", &[]).await), ["cache;desc=\"bypass\"", "view"]);
    let private = Site::new(store, numbered(&[("cache-control", "private")]));
    assert_eq!(words(&private.get("/private").await), ["cache;desc=\"miss\"", "view"]);
    let (held, first) = site.begin_held("/held").await;
    let second = site.begin_in_line("/held").await;
    held.end(1);
    first.answer().await;
    assert_eq!(words(&second.answer().await), ["cache;desc=\"shared\""]);
    let milliseconds: f64 = built.header("server-timing").rsplit_once('=').unwrap().1.parse().unwrap();
    assert!(milliseconds >= 0.0);
}

pub async fn a_layer_over_a_router_keeps_what_its_views_may_not(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let site = Router::new()
        .route("/public", get(async || "public"))
        .route("/private", get(async || "private").layer(cache_control([("private", None)])))
        .route("/never", get(async || "never").layer(never_cached()))
        .layer(PageCache::new(&cache).cache_page(MINUTE));
    for path in ["/public", "/private", "/never", "/nowhere"] {
        ask(&site, Method::GET, path, &[]).await;
    }
    ask(&site, Method::GET, "/public", &[]).await.is_hit();
    ask(&site, Method::GET, "/private", &[]).await.is("fwd=miss; detail=\"private\"");
    ask(&site, Method::GET, "/never", &[]).await.is("fwd=miss; detail=\"private\"");
    ask(&site, Method::GET, "/nowhere", &[]).await.is("fwd=miss; detail=\"status-404\"");
}

pub async fn a_view_that_is_never_cached_says_so_to_everybody(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let view = get(async || "fresh").layer(never_cached());
    let site = Router::new().route("/", view).layer(PageCache::new(&cache).cache_page(MINUTE));
    for _ in 0..2 {
        let answer = ask(&site, Method::GET, "/", &[]).await;
        let told = "max-age=0, no-cache, no-store, must-revalidate, private";
        assert_eq!((answer.header("cache-control"), answer.header("etag")), (told, ""));
    }
}
