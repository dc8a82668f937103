//! The statistics of servers, and how an outage is reported.

use serde_json::Value;

use super::report;
use crate::support::app::{App, Settings};
use testkit::eventually;
use testkit::memcached::Memcached;

const CLIENTS: [&str; 2] = ["native", "memcache"];

async fn server(app: &App) -> Value {
    let mut told = report(app).await;
    let servers = told["servers"].as_array_mut().unwrap();
    assert_eq!(servers.len(), 1, "{servers:?}");
    servers.remove(0)
}

/// Returns the cause of an outage from the JSON, and asserts that the page says "down".
async fn failure(app: &App) -> String {
    let failure = server(app).await["failure"].as_str().unwrap_or("none").to_owned();
    let page = app.get("/cache").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.texts("section[aria-labelledby=servers] td:nth-child(2)"), ["down"]);
    failure
}

#[tokio::test]
async fn servers_report_their_statistics() {
    let memcached = Memcached::start();
    for (client, items) in CLIENTS.into_iter().zip([2, 4]) {
        let app = Settings::new().with_memcached(&memcached).with("MEMCACHE_CLIENT", client).serve();
        app.get("/").await;
        // A page and a list of each client stay; the locks of their builds are deleted in the background.
        eventually("nobody has a lock", async || memcached.stat("curr_items") == items).await;
        let told = server(&app).await;
        assert_eq!((&told["server"], &told["failure"]), (&memcached.address().into(), &Value::Null));
        for (name, stat) in [
            ("items", "curr_items"),
            ("bytes", "bytes"),
            ("limit_bytes", "limit_maxbytes"),
            ("evictions", "evictions"),
            ("hits", "get_hits"),
            ("misses", "get_misses"),
        ] {
            assert_eq!(told[name], memcached.stat(stat), "{client}: {name}");
        }
        assert!(told["items"].as_u64() >= Some(2) && told["uptime_seconds"].is_u64(), "{told}");
        let (hits, misses) = (told["hits"].as_f64().unwrap(), told["misses"].as_f64().unwrap());
        assert_eq!(told["hit_rate"], hits / (hits + misses));
        let page = app.get("/cache").await;
        let cells = page.texts("section[aria-labelledby=servers] td");
        assert_eq!(
            (&*cells[0], cells[3].ends_with(" of 67.1 MB"), &*cells[4]),
            ("ok", true, "0"),
            "{cells:?}"
        );
    }
}

#[tokio::test]
async fn the_native_client_has_statistics_of_its_own() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    app.get("/").await;
    let told = server(&app).await;
    assert_eq!(
        (&told["connections"], &told["errors"], &told["is_left_out"]),
        (&1.into(), &0.into(), &false.into())
    );
    let buckets = told["latency"]["buckets"].as_array().unwrap();
    let answered: u64 = buckets.iter().map(|bucket| bucket.as_u64().unwrap()).sum();
    assert!(answered > 0 && Some(answered) <= told["operations"].as_u64(), "{told}");
}

#[tokio::test]
async fn a_killed_server_is_reported_with_the_cause() {
    for client in CLIENTS {
        let mut memcached = Memcached::start();
        let app = Settings::new().with_memcached(&memcached).with("MEMCACHE_CLIENT", client).serve();
        app.get("/").await;
        memcached.kill();
        eventually("it is told", async || server(&app).await["failure"].is_string()).await;
        if client == "native" {
            for _ in 0..3 {
                let failure = failure(&app).await;
                assert!(failure.starts_with("not reachable (Connection refused"), "{failure}");
            }
            assert_eq!(server(&app).await["is_left_out"], true);
        }
        assert_eq!(app.get("/").await.status, 200);
        memcached.restart();
        eventually("it is back", async || server(&app).await["failure"].is_null()).await;
    }
}

#[tokio::test]
async fn a_hanging_server_is_reported_with_the_cause() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    app.get("/").await;
    memcached.stop();
    for _ in 0..2 {
        let failure = failure(&app).await;
        assert!(failure.starts_with("no answer within "), "{failure}");
    }
    memcached.go_on();
    eventually("it is back", async || server(&app).await["failure"].is_null()).await;
}

#[tokio::test]
async fn every_backend_reports_its_statistics() {
    let directory = tempfile::tempdir().unwrap();
    let files = format!("file://{}", directory.path().join("cache").display());
    for (url, is_kept) in [("locmem://", true), ("dummy://", false), ("db://", true), (&files, true)] {
        let app = Settings::new().with("CACHE_URL", url).serve();
        app.get("/").await;
        let told = server(&app).await;
        assert_eq!(told["failure"], Value::Null, "{url}");
        assert_eq!(told["items"].as_u64() > Some(0), is_kept, "{url}: {told}");
        for path in ["/cache", "/metrics"] {
            assert_eq!(app.get(path).await.status, 200, "{url}: {path}");
        }
    }
}
