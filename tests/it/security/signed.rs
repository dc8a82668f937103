//! Several processes over one cache that is signed: who reads what others have stored.

use super::{SECRET, STRATEGIES, settings, unreadable};
use crate::support::app::Settings;
use crate::support::memcached::Memcached;
use crate::support::page::Page;
use crate::support::visitor::Visitor;

#[track_caller]
fn assert_hit(page: &Page, expected: bool) {
    let status = page.header("cache-status").unwrap();
    assert_eq!(status.contains("; hit"), expected, "{status}");
}

#[tokio::test]
async fn processes_with_one_secret_share_what_is_signed() {
    let memcached = Memcached::start();
    for client in ["native", "memcache"] {
        let settings = settings(&memcached, true).with("MEMCACHE_CLIENT", client);
        let (one, other) = (settings.serve(), settings.serve());
        let visitor = Visitor::new();
        let page = visitor.add(&one, "milk").await;
        visitor.remove(&other, &page, "milk").await;
        visitor.undo(&one).await.assert_lists(["milk"]);
        let first = one.get_from("localhost", "/").await;
        let second = other.get_from("localhost", "/").await;
        assert_hit(&second, true);
        assert_eq!(second.body, first.body);
        assert_eq!(unreadable(&one).await + unreadable(&other).await, 0);
        assert!(memcached.keys().iter().any(|key| key.starts_with("session.")), "sessions are there too");
    }
}

#[tokio::test]
async fn processes_with_different_secrets_do_not_trust_each_other() {
    let memcached = Memcached::start();
    let one = settings(&memcached, true);
    for other in [
        one.clone().with("SECRET_KEY", "another-key-that-is-long-enough-as-well"),
        one.clone().with("CACHE_SIGNED", "off"),
    ] {
        let (one, other) = (one.serve(), other.serve());
        one.add("milk").await;
        let first = one.get_from("localhost", "/").await;
        let second = other.get_from("localhost", "/").await;
        assert_hit(&second, false);
        assert_eq!(second.body, first.body);
        assert!(unreadable(&other).await > 0);
    }
}

#[tokio::test]
async fn signing_is_turned_on_while_the_cache_is_full() {
    for strategy in STRATEGIES {
        let memcached = Memcached::start();
        let (off, on) = (settings(&memcached, false), settings(&memcached, true));
        let [off, on] = [off, on].map(|settings| {
            let settings = settings.with("CACHE_STRATEGY", strategy);
            settings.with("SESSION_ENGINE", "cached_db").with("CACHE_LOCAL", "off")
        });
        off.serve().get_from("localhost", "/").await;
        let app = on.serve();
        for expected in [false, true] {
            assert_hit(&app.get_from("localhost", "/").await, expected);
        }
        // The query too is cached anew, which a page that is gone shows.
        assert!(memcached.evict("view.page") > 0);
        app.get_from("localhost", "/").await;
        let metrics = app.get("/metrics").await.body;
        let builds = r#"tasklist_cache_builds_total{layer="query"} 1"#;
        assert!(metrics.lines().any(|line| line == builds), "{strategy}: {metrics}");
    }
}

#[test]
fn signing_without_a_key_of_ones_own_ends_the_program() {
    for url in ["locmem://", "memcached://localhost"] {
        let settings = Settings::new().with("CACHE_SIGNED", "on").with("CACHE_URL", url);
        let output = settings.run(&["serve"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("SECRET_KEY is not set: CACHE_SIGNED is on"), "{said}");
        assert!(
            settings.with("SECRET_KEY", SECRET).run(&["cache", "get", "nothing"]).status.code() == Some(1)
        );
    }
}
