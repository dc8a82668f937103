//! The two programs that `scripts/bench` holds the site against do what they are held for.

use reqwest::header::HeaderMap;

use crate::support::app::{App, Settings};
use crate::support::example::Example;
use testkit::memcached::{Memcached, PASSWORD, USER};
use testkit::postgres::{Postgres, TestDatabase};

/// A program with a page to hand out.
async fn serve() -> (App, TestDatabase, Memcached) {
    let (memcached, database) = (Memcached::start_with_sasl(), Postgres::shared().database().await);
    let app = Settings::new().with("DATABASE_URL", &database.url).with_login(&memcached).serve();
    app.add("Buy milk").await;
    app.get("/").await.assert_lists(["Buy milk"]);
    (app, database, memcached)
}

/// Holds the headers of a copy against those of the page, which was asked for later: all but those that are never the
/// same, and the seconds that the page has yet to live.
#[track_caller]
fn check_headers(copy: &HeaderMap, page: &HeaderMap) {
    let ((copy, then), (page, now)) = (lasting(copy.clone()), lasting(page.clone()));
    assert_eq!(copy, page);
    assert!(then >= now, "{then} s, and then {now} s");
}

/// What stays of headers from one answer to the next, and the seconds in `Cache-Status`.
#[track_caller]
fn lasting(mut headers: HeaderMap) -> (HeaderMap, u64) {
    for name in ["date", "server-timing", "x-request-id"] {
        assert!(headers.remove(name).is_some(), "{name} is missing in {headers:?}");
    }
    let status = headers.remove("cache-status").unwrap();
    let (before, rest) = status.to_str().unwrap().split_once("ttl=").unwrap();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (seconds, after) = rest.split_at(end);
    headers.insert("cache-status", format!("{before}ttl={after}").parse().unwrap());
    (headers, seconds.parse().unwrap())
}

#[tokio::test]
async fn the_static_page_is_the_cached_page_byte_for_byte() {
    let (app, ..) = serve().await;
    for encoding in ["identity", "br"] {
        let ours = || app.request("GET", "/").header("accept-encoding", encoding);
        // From now on it is a replay, and says so.
        ours().send().await.unwrap();
        let limit =
            Example::start("examples/static_page", &[&app.url, &format!("accept-encoding: {encoding}")]);
        let (page, copy) = (ours().send().await.unwrap(), limit.request().send().await.unwrap());
        assert_eq!((page.status().as_u16(), copy.status().as_u16()), (200, 200));
        let tag = page.headers()["etag"].clone();
        check_headers(copy.headers(), page.headers());
        assert_eq!(copy.bytes().await.unwrap(), page.bytes().await.unwrap());

        let same = ours().header("if-none-match", &tag).send().await.unwrap();
        let copy = limit.request().header("if-none-match", &tag).send().await.unwrap();
        assert_eq!((same.status().as_u16(), copy.status().as_u16()), (304, 304));
        check_headers(copy.headers(), same.headers());
        let other = limit.request().header("if-none-match", "\"another\"").send().await.unwrap();
        assert_eq!(other.status(), 200);
    }
}

#[tokio::test]
async fn the_naive_server_shows_the_same_page_and_then_an_old_one() {
    let (app, database, memcached) = serve().await;
    let cache = format!("memcache://{USER}:{PASSWORD}@{}?protocol=binary", memcached.address());
    let naive = Example::start("examples/naive", &[&database.url, &cache]);
    let page = naive.get().await;
    assert_eq!((page.status, &page.body), (200, &app.get("/").await.body));
    app.add("Buy bread").await;
    assert_eq!(naive.get().await.body, page.body, "from memcached");
    memcached.client().delete("naive.page").unwrap();
    naive.get().await.assert_lists(["Buy milk", "Buy bread"]);
}
