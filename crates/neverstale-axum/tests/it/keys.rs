//! What is the same page, and what is another.

use axum::Router;
use axum::http::{HeaderMap, Method};
use axum::routing::get;
use neverstale::{Cache, CacheOptions};
use neverstale_axum::PageCache;
use neverstale_axum::headers::vary_on_headers;

use super::ask;
use super::site::{MINUTE, Site, View, echoing, numbered, with};
use testkit::stores::Store;

pub async fn the_query_counts_as_asked(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    for (target, run) in [("/x?a=1&b=2", "run 1"), ("/x?b=2&a=1", "run 2"), ("/x", "run 3"), ("/x?", "run 4")]
    {
        site.get(target).await.is_stored().says(run);
    }
}

pub async fn only_named_parameters_count(store: &Store) {
    let site = Site::with(store, numbered(&[]), |layer| layer.vary_on_query(["page", "q"]));
    site.get("/?page=2&q=a").await.is_stored();
    site.get("/?utm_source=mail&q=a&page=2").await.is_hit();
    site.get("/?page=3&q=a").await.is_stored();
    site.get("/").await.is_stored();
    site.get("/?other=1").await.is_hit();
}

pub async fn a_named_parameter_is_seen_through_its_escapes(store: &Store) {
    let site = Site::with(store, numbered(&[]), |layer| layer.vary_on_query(["page"]));
    site.get("/?%70age=2").await.is_stored();
    site.get("/").await.is_stored().says("run 2");
}

pub async fn hosts_have_pages_of_their_own(store: &Store) {
    let site = Site::new(store, echoing("host", &[]));
    for host in ["one.example", "two.example", "one.example:81"] {
        site.get_with("/", &[("host", host)]).await.is_stored();
        site.get_with("/", &[("host", host)]).await.is_hit();
    }
    site.get("http://one.example/").await.is_hit();
    assert_eq!(site.runs(), 3);
}

pub async fn schemes_have_pages_of_their_own(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    site.get_with("/", &[("x-forwarded-proto", "https")]).await.is_stored();
    site.get("/").await.is_stored();
    site.get_with("/", &[("x-forwarded-proto", "https")]).await.is_hit().says("run 1");
}

pub async fn a_host_that_is_none_bypasses(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    site.get_with("/b/c", &[("host", "a")]).await.is_stored();
    site.get_with("/c", &[("host", "a/b")]).await.is("fwd=bypass; detail=\"host\"").says("run 2");
    site.get_with("/", &[("host", "a"), ("host", "b")]).await.is("fwd=bypass; detail=\"host\"");
}

pub async fn a_prefix_keeps_pages_apart(store: &Store) {
    let site = |prefix| Site::prefixed(store, numbered(&[]), prefix);
    for prefix in ["", "one", "two words"] {
        site(prefix).get("/").await.is_stored();
        site(prefix).get("/").await.is_hit();
    }
}

pub async fn views_at_one_url_share_its_page(store: &Store) {
    Site::new(store, View::new(|_, _| with(&[], "one"))).get("/").await.is_stored();
    Site::new(store, View::new(|_, _| with(&[], "two"))).get("/").await.is_hit().says("one");
}

pub async fn nested_routers_do_not_share_pages(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let nested = |text: &'static str| {
        Router::new()
            .route("/x", get(move || async move { text }).layer(PageCache::new(&cache).cache_page(MINUTE)))
    };
    let router = Router::new().nest("/a", nested("in a")).nest("/b", nested("in b"));
    ask(&router, Method::GET, "/a/x", &[]).await.is_stored().says("in a");
    ask(&router, Method::GET, "/b/x", &[]).await.is_stored().says("in b");
    ask(&router, Method::GET, "/a/x", &[]).await.is_hit().says("in a");
}

pub async fn a_path_that_ends_like_a_lock_is_a_page(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    for path in ["/x~lock", "/x", "/x~@1~lock"] {
        site.get(path).await.is_stored();
    }
    site.get("/x~lock").await.is_hit().says("run 1");
}

pub async fn a_page_varies_on_what_it_names(store: &Store) {
    let site = Site::new(store, echoing("x-a", &[("vary", "X-A")]));
    site.get_with("/", &[("x-a", "1")]).await.is("fwd=uri-miss; stored").says("run 1 for 1");
    site.get_with("/", &[("x-a", "2")]).await.is("fwd=vary-miss; stored").says("run 2 for 2");
    site.get_with("/", &[("x-a", "1")]).await.is_hit().says("run 1 for 1");
    site.get_with("/", &[("x-a", "2"), ("x-b", "1")]).await.is_hit().says("run 2 for 2");
}

pub async fn a_missing_header_is_not_an_empty_one(store: &Store) {
    let site = Site::new(store, echoing("x-a", &[("vary", "X-A")]));
    site.get("/").await.is_stored().says("run 1 for none");
    site.get_with("/", &[("x-a", "")]).await.is_stored().says("run 2 for ");
}

pub async fn the_order_and_case_of_vary_do_not_count(store: &Store) {
    let view = View::new(|run, _| {
        with(&[("vary", if run == 1 { "X-A, x-b" } else { "X-B,X-a" })], format!("run {run}"))
    });
    let site = Site::new(store, view);
    site.get_with("/", &[("x-a", "1")]).await.is_stored();
    site.get_with("/", &[("x-a", "2")]).await.is_stored();
    site.get_with("/", &[("x-a", "1")]).await.is_hit().says("run 1");
}

pub async fn a_url_that_changes_its_vary_is_learned_again(store: &Store) {
    let view =
        View::new(|run, _| with(&[("vary", if run == 1 { "X-A" } else { "X-B" })], format!("run {run}")));
    let site = Site::new(store, view);
    let one = [("x-a", "1"), ("x-b", "1")];
    site.get_with("/", &one).await.is_stored();
    site.get_with("/", &[("x-a", "2"), ("x-b", "1")]).await.is_stored().says("run 2");
    site.get_with("/", &one).await.is_hit().says("run 2");
    site.get_with("/", &[("x-a", "1"), ("x-b", "2")]).await.is_stored().says("run 3");
}

pub async fn a_url_that_varies_no_more_is_one_page(store: &Store) {
    let view =
        View::new(|run, _| with(if run == 1 { &[("vary", "X-A")] } else { &[] }, format!("run {run}")));
    let site = Site::new(store, view);
    site.get_with("/", &[("x-a", "1")]).await.is_stored();
    site.get_with("/", &[("x-a", "2")]).await.is_stored();
    for value in ["1", "2", "3"] {
        site.get_with("/", &[("x-a", value)]).await.is_hit().says("run 2");
    }
}

pub async fn another_process_learns_what_a_url_varies_on(store: &Store) {
    let site = Site::new(store, echoing("x-a", &[("vary", "X-A")]));
    let other = site.elsewhere(store);
    site.get_with("/", &[("x-a", "1")]).await.is_stored();
    for _ in 0..2 {
        other.get_with("/", &[("x-a", "1")]).await.is_hit().says("run 1 for 1");
    }
    other.get_with("/", &[("x-a", "2")]).await.is_stored();
    site.get_with("/", &[("x-a", "2")]).await.is_hit();
}

pub async fn an_answer_to_a_login_is_its_receivers_alone(store: &Store) {
    let site = Site::new(store, echoing("authorization", &[("vary", "X-A")]));
    let answer = site.get_with("/", &[("authorization", "one")]).await;
    assert_eq!(answer.is_stored().header("vary"), "X-A, Authorization");
    site.get_with("/", &[("authorization", "two")]).await.is_stored().says("run 2 for two");
    site.get("/").await.is_stored().says("run 3 for none");
    site.get_with("/anonymous", &[("authorization", "")]).await.is_stored();
    assert_eq!(site.get_with("/anonymous", &[("authorization", "")]).await.header("vary"), "X-A");
}

pub async fn an_answer_to_a_login_that_is_public_is_everybodys(store: &Store) {
    let site = Site::new(store, echoing("authorization", &[("cache-control", "public")]));
    site.get_with("/", &[("authorization", "one")]).await.is_stored();
    site.get("/").await.is_hit().says("run 1 for one");
}

pub async fn head_is_answered_with_what_get_stored(store: &Store) {
    let site = Site::new(store, numbered(&[("x-kept", "1")]));
    let got = site.get("/").await;
    let head = site.ask(Method::HEAD, "/", &[]).await;
    head.is_hit().says("");
    let seen = ["content-length", "x-kept", "etag"].map(|name| head.header(name));
    assert_eq!(seen, ["5", "1", got.header("etag")]);
}

pub async fn get_is_answered_with_what_head_stored(store: &Store) {
    let view = View::new(|run, request| with(&[], format!("run {run} by {}", request.method())));
    let site = Site::new(store, view);
    for status in ["fwd=uri-miss; stored", "hit"] {
        let head = site.ask(Method::HEAD, "/", &[]).await;
        assert!(head.says("").header("cache-status").contains(status), "{head:?}");
        assert_eq!(head.header("content-length"), "12");
    }
    site.get("/").await.is_hit().says("run 1 by GET");
}

pub async fn all_credentials_count(store: &Store) {
    let site = Site::new(store, echoing("x-a", &[]));
    let several = [("authorization", ""), ("authorization", "one")];
    let answer = site.get_with("/", &several).await;
    assert_eq!(answer.is_stored().header("vary"), "Authorization");
    site.get_with("/", &[("authorization", "other")]).await.is_stored().says("run 2 for none");
    site.get_with("/", &several).await.is_hit().says("run 1 for none");
}

pub async fn head_of_a_page_that_varies_is_found(store: &Store) {
    let site = Site::new(store, echoing("x-a", &[("vary", "X-A")]));
    site.ask(Method::HEAD, "/", &[("x-a", "1")]).await.is_stored();
    site.ask(Method::HEAD, "/", &[("x-a", "1")]).await.is_hit();
    site.get_with("/", &[("x-a", "2")]).await.is_stored();
    site.ask(Method::HEAD, "/", &[("x-a", "2")]).await.is_hit();
    site.ask(Method::HEAD, "/", &[("x-a", "1")]).await.is_hit();
    site.ask(Method::HEAD, "/", &[("x-a", "3")]).await.is_stored();
}

pub async fn pages_of_another_build_are_not_found(store: &Store) {
    let view = numbered(&[]);
    let [old, new] = ["1f", "2e"].map(|digest| Site::with(store, view.clone(), |layer| layer.digest(digest)));
    old.get("/").await.is_stored().says("run 1");
    new.get("/").await.is_stored().says("run 2");
    old.get("/").await.is_hit().says("run 1");
    new.get("/").await.is_hit().says("run 2");
}

pub async fn a_view_that_varies_on_cookies_has_a_page_for_each(store: &Store) {
    let cache = Cache::new(store.backend.clone(), CacheOptions::default());
    let view = get(async |headers: HeaderMap| format!("{:?}", headers.get("cookie")));
    let site = Router::new()
        .route("/", view)
        .layer(vary_on_headers(["Cookie"]))
        .layer(PageCache::new(&cache).cache_page(MINUTE));
    for cookie in ["a=1", "a=2"] {
        ask(&site, Method::GET, "/", &[("cookie", cookie)]).await.is_stored();
        let hit = ask(&site, Method::GET, "/", &[("cookie", cookie)]).await;
        assert!(hit.is_hit().body.contains(cookie));
    }
    ask(&site, Method::GET, "/", &[]).await.is_stored().says("None");
}
