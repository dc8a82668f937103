//! What only a server shows: its outage, its keys, and how often it is asked.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use neverstale::backend::locmem::Locmem;
use neverstale::backend::memcached;
use neverstale::{Cache, CacheOptions};
use neverstale_axum::headers::vary_on_headers;
use neverstale_axum::{CachePageLayer, PageCache, watch_order};

use super::ask;
use super::site::{MINUTE, Site, echoing};
use testkit::memcached::Memcached;
use testkit::proxy::Proxy;
use testkit::stores::options;
use testkit::wait_until;

fn site(address: &str, headers: &'static [(&str, &str)]) -> Site {
    let backend = memcached::Memcached::new(options(address, false));
    Site::over(Cache::new(backend, CacheOptions::default()), echoing("x-a", headers), |layer| layer)
}

/// Waits until the lock of a first build is let go, which is done in the background.
fn wait_until_nobody_builds(memcached: &Memcached) {
    wait_until("the lock is let go", || memcached.stat("delete_hits") == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_is_two_gets_in_one_round_trip() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let site = site(&proxy.address.to_string(), &[]);
    site.get("/").await.is_stored();
    wait_until_nobody_builds(&memcached);
    let (gets, messages) = (memcached.stat("cmd_get"), proxy.messages());
    site.get("/").await.is_hit();
    assert_eq!(memcached.stat("cmd_get"), gets + 2);
    assert_eq!(proxy.messages(), messages + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_of_a_variant_is_one_round_trip_once_it_is_learned() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    site(&memcached.address(), &[("vary", "X-A")]).get("/").await.is_stored();
    wait_until_nobody_builds(&memcached);
    let site = site(&proxy.address.to_string(), &[("vary", "X-A")]);
    site.get("/").await.is_hit();
    let (gets, messages) = (memcached.stat("cmd_get"), proxy.messages());
    site.get("/").await.is_hit();
    assert_eq!(memcached.stat("cmd_get"), gets + 3);
    assert_eq!(proxy.messages(), messages + 1);
}

/// A copy of the page is in the process, and the server is reached through the proxy.
async fn with_a_copy(proxy: &Proxy) -> Site {
    let backend = memcached::Memcached::new(options(&proxy.address.to_string(), false));
    let site = Site::with_copies(Cache::new(backend, CacheOptions::default()), echoing("x-a", &[]));
    site.get("/").await.is_stored();
    site.get("/").await.is("hit; ttl=59; detail=\"local\"");
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_of_a_copy_share_a_get_of_its_generation() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let site = with_a_copy(&proxy).await;
    wait_until_nobody_builds(&memcached);
    let gets = memcached.stat("cmd_get");
    proxy.hold("view.generation");
    let hits: Vec<_> = (0..10).map(|_| site.begin("/", &[])).collect();
    proxy.wait_for_held().await;
    proxy.release();
    for hit in hits {
        hit.answer().await.is("hit; ttl=59; detail=\"local\"");
    }
    // The first of them does not wait for others.
    assert!(memcached.stat("cmd_get") <= gets + 2);
}

#[tokio::test]
async fn after_a_purge_no_copy_is_shown_by_a_get_that_was_sent_before_it() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let site = with_a_copy(&proxy).await;
    proxy.hold_answers("Generation");
    let before = site.begin("/", &[]);
    proxy.wait_for_held().await;
    self::site(&memcached.address(), &[]).pages.purge("/").await;
    let after = site.begin("/", &[]);
    // Lets it ask.
    tokio::task::yield_now().await;
    proxy.release();
    before.answer().await.says("run 1 for none");
    after.answer().await.is_stored().says("run 2 for none");
}

#[tokio::test]
async fn without_a_server_the_view_runs_and_nothing_is_stored() {
    let mut memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let (site, copied) = (site(&memcached.address(), &[]), with_a_copy(&proxy).await);
    site.get("/").await.is_hit();
    memcached.kill();
    for site in [site, copied] {
        for _ in 0..2 {
            let run = site.runs() + 1;
            let answer = site.get("/").await;
            answer.is("fwd=bypass; detail=\"cache-unavailable\"").says(&format!("run {run} for none"));
        }
        site.pages.purge("/").await;
    }
}

#[tokio::test]
async fn a_page_of_before_a_restart_is_not_served_after_it() {
    let mut memcached = Memcached::start();
    let site = site(&memcached.address(), &[]);
    site.get("/").await.is_stored();
    memcached.restart();
    testkit::eventually("the server is asked again", async || {
        site.get("/").await.header("cache-status").contains("hit")
    })
    .await;
    assert!(site.runs() > 1);
}

#[tokio::test]
async fn keys_are_readable_and_short_enough() {
    let memcached = Memcached::start();
    let site = site(&memcached.address(), &[("vary", "Cookie")]);
    let long = format!("/{}?q=%20", "long".repeat(200));
    site.get_with("/x?page=2", &[("host", "example.com"), ("cookie", "secret")]).await.is_stored();
    site.get_with(&long, &[("host", "example.com")]).await.is_stored();
    site.get_with(&long, &[("host", "example.com")]).await.is_hit();
    let keys = memcached.keys();
    let has = |start: &str| keys.iter().any(|key| decoded(key).starts_with(start));
    assert!(has("~view.page:GET:http://example.com/x?page=2#"), "{keys:?}");
    assert!(has("~view.generation:/x#"), "{keys:?}");
    assert!(keys.iter().all(|key| decoded(key).len() <= 250 && !key.contains("secret")), "{keys:?}");
}

/// A key as it was before memcached's listing escaped it.
fn decoded(key: &str) -> String {
    percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned()
}

#[tokio::test]
async fn what_is_not_an_entry_of_ours_is_a_miss() {
    let memcached = Memcached::start();
    let site = site(&memcached.address(), &[]);
    site.get_with("/x", &[("host", "h")]).await.is_stored();
    memcached.client().set("~view.page:GET:http://h/x#", "set by hand", 0).unwrap();
    site.get_with("/x", &[("host", "h")]).await.is_stored().says("run 2 for none");
    memcached.client().set("~view.generation:/x#", "set by hand", 0).unwrap();
    site.get_with("/x", &[("host", "h")]).await.is_stored().says("run 3 for none");
    site.get_with("/x", &[("host", "h")]).await.is_hit();
}

#[tokio::test]
async fn a_layer_that_stands_in_the_wrong_place_is_told_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let cache = Cache::new(Locmem::new(), CacheOptions::default());
    let site = |order: fn(Router, CachePageLayer) -> Router| {
        order(Router::new().route("/", get(async || "page")), PageCache::new(&cache).cache_page(MINUTE))
            .layer(watch_order())
    };
    let right = site(|views, page| views.layer(vary_on_headers(["Cookie"])).layer(page));
    let wrong = site(|views, page| views.layer(page.digest("wrong")).layer(vary_on_headers(["Cookie"])));
    // An error in the place of the page may be made private, as any other.
    let error = site(|views, page| {
        views.layer(page.digest("error")).layer(map_response(async |mut response: Response| {
            if response.status() == StatusCode::PRECONDITION_FAILED {
                response.headers_mut().insert("cache-control", "no-store".parse().unwrap());
            }
            response
        }))
    });
    for (site, expected) in [(right, 0), (error, 0), (wrong, 1)] {
        for _ in 0..3 {
            ask(&site, Method::GET, "/", &[]).await;
            ask(&site, Method::GET, "/", &[("if-match", "\"other\"")]).await;
        }
        let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let warning = " from a layer outside the page cache";
        assert_eq!(told.matches(warning).count(), expected, "{told}");
    }
}

/// What has been logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
