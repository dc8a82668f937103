//! The limit on POSTs of one address.

use super::{Client, post_head};
use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;
use testkit::page::Page;

fn limited(memcached: &Memcached) -> Settings {
    Settings::new().with_memcached(memcached).with("POST_LIMIT", "3")
}

async fn add(app: &App) -> u16 {
    app.post("/add", &[("name", "x")]).await.status
}

/// Adds by way of reverse proxies, with their headers.
async fn add_for(app: &App, forwarded: &[&str]) -> u16 {
    let mut request = app.request("POST", "/add").form(&[("name", "x")]);
    for line in forwarded {
        request = request.header("x-forwarded-for", *line);
    }
    Page::read(request).await.status
}

#[tokio::test]
async fn an_address_may_send_so_many_to_all_processes_together() {
    let memcached = Memcached::start();
    let settings = limited(&memcached);
    let apps = [settings.serve(), settings.serve()];
    for app in [&apps[0], &apps[1], &apps[0]] {
        assert_eq!(add(app).await, 303);
    }
    for app in &apps {
        let page = app.post("/add", &[("name", "x")]).await;
        page.assert_error(429);
        assert_eq!(page.header("retry-after"), Some("60"));
        assert_eq!(app.get("/").await.tasks().len(), 3, "pages are for everybody");
        assert_eq!(app.metric("tasklist_http_requests_refused_total{cause=\"posts\"}").await, 1);
        assert_eq!(app.metric("tasklist_http_requests_total{status=\"4xx\"}").await, 1);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let end = memcached.end_of("posts.127.0.0.1").unwrap() - i64::try_from(now).unwrap();
    assert!((1..=61).contains(&end), "the count is bare, and forgotten in {end} s");
    let [app, _] = apps;
    let (_, output) = app.interrupt();
    assert!(output.contains("answered method=POST path=\"/add\" status=429"), "{output}");
}

#[tokio::test]
async fn without_a_limit_nothing_is_counted() {
    let memcached = Memcached::start();
    for off in [Settings::new(), Settings::new().with("POST_LIMIT", "off")] {
        let app = off.with_memcached(&memcached).serve();
        for _ in 0..10 {
            assert_eq!(add(&app).await, 303);
        }
        assert!(!memcached.keys().iter().any(|key| key.starts_with("posts")));
    }
}

#[tokio::test]
async fn behind_proxies_the_address_is_the_one_that_they_saw() {
    let memcached = Memcached::start();
    let app = limited(&memcached).with("TRUSTED_HOPS", "2").serve();
    for forged in ["6.6.6.6, ", "6.6.6.7, 1.1.1.1, ", "unknown, "] {
        assert_eq!(add_for(&app, &[&format!("{forged}203.0.113.9, 10.0.0.2")]).await, 303);
    }
    for forged in ["", "8.8.8.8, ", "8.8.8.8, 9.9.9.9,", "203.0.113.10, "] {
        assert_eq!(add_for(&app, &[&format!("{forged}203.0.113.9, 10.0.0.2")]).await, 429, "{forged}");
        assert_eq!(add_for(&app, &["8.8.8.8", &format!("{forged}203.0.113.9"), "10.0.0.3"]).await, 429);
    }
    assert_eq!(add_for(&app, &["203.0.113.9, 203.0.113.10, 10.0.0.2"]).await, 303, "another has its own");
    for (end, expected) in [("1", 303), ("2", 303), ("ffff:1", 303), ("3", 429)] {
        let forwarded = format!("2001:db8:1:2::{end}, 10.0.0.2");
        assert_eq!(add_for(&app, &[&forwarded]).await, expected, "a network of IPv6 counts as one");
    }
    let keys = memcached.keys();
    for key in ["posts.203.0.113.9", "posts.203.0.113.10", "posts.2001:db8:1:2"] {
        assert!(keys.iter().any(|found| found == key), "{key} is not among {keys:?}");
    }
    assert_eq!(keys.iter().filter(|key| key.starts_with("posts.")).count(), 3, "{keys:?}");
}

#[tokio::test]
async fn an_address_that_cannot_be_known_is_that_of_the_connection_and_said_once() {
    let memcached = Memcached::start();
    let forged = [&["8.8.8.8"][..], &[], &["9.9.9.9"], &["9.9.9.8", "9.9.9.7"]];
    let odd = [&["unknown, 10.0.0.2"][..], &["8.8.8.8"], &["_x, 10.0.0.2"], &[]];
    for (hops, forwarded, lines) in [("0", forged, 1), ("2", odd, 2)] {
        let app = limited(&memcached).with("TRUSTED_HOPS", hops).serve();
        let mut answers = vec![];
        for lines in forwarded.iter().cycle().take(8) {
            answers.push(add_for(&app, lines).await);
        }
        assert_eq!(answers, [303, 303, 303, 429, 429, 429, 429, 429], "{hops}");
        memcached.evict("posts.");
        let (_, output) = app.interrupt();
        let said: Vec<_> = output.lines().filter(|line| line.contains("X-Forwarded-For")).collect();
        assert_eq!(said.len(), lines, "{said:?}");
        assert!(said.iter().all(|line| line.contains("WARN")), "{said:?}");
    }
}

#[tokio::test]
async fn without_the_cache_every_post_passes() {
    let mut memcached = Memcached::start();
    let app = limited(&memcached).serve();
    for _ in 0..3 {
        assert_eq!(add(&app).await, 303);
    }
    assert_eq!(add(&app).await, 429);
    memcached.stop();
    for _ in 0..5 {
        assert_eq!(add(&app).await, 303);
    }
    let uncounted = "tasklist_posts_uncounted_total";
    assert_eq!(app.metric(uncounted).await, 5);
    memcached.go_on();
    memcached.kill();
    assert_eq!(add(&app).await, 303);
    assert_eq!(app.metric(uncounted).await, 6);
}

#[tokio::test]
async fn a_cache_that_stores_nothing_limits_no_client() {
    let app = Settings::new().with("CACHE_URL", "dummy://").with("POST_LIMIT", "1").serve();
    for _ in 0..5 {
        assert_eq!(add(&app).await, 303);
    }
}

#[tokio::test]
async fn a_refused_post_has_no_body_read_and_a_forged_one_is_not_counted() {
    let memcached = Memcached::start();
    let app = limited(&memcached).serve();
    for _ in 0..5 {
        let forged =
            app.request("POST", "/add").header("sec-fetch-site", "cross-site").form(&[("name", "x")]);
        assert_eq!(Page::read(forged).await.status, 403);
        let other = app.request("POST", "/add").header("host", "elsewhere.example").form(&[("name", "x")]);
        assert_eq!(Page::read(other).await.status, 400);
    }
    for _ in 0..3 {
        assert_eq!(add(&app).await, 303);
    }
    let mut client = Client::connect(&app).await;
    client.send(post_head(1000)).await;
    assert_eq!(client.answer().await.status, 429, "before the body is there");
}

#[tokio::test]
async fn no_address_is_logged() {
    let memcached = Memcached::start();
    let settings = limited(&memcached).with("TRUSTED_HOPS", "1").with("RUST_LOG", "trace");
    let app = settings.serve();
    for _ in 0..4 {
        add_for(&app, &["192.0.2.7"]).await;
    }
    memcached.stop();
    add_for(&app, &["192.0.2.7"]).await;
    memcached.go_on();
    let (_, output) = app.interrupt();
    assert!(output.contains("DEBUG") && !output.contains("192.0.2.7"), "{output}");
}
