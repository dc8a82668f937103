//! Several processes over one signed cache.

use neverstale::{Cache, CacheOptions, Key, Ttl, backend};
use serde_json::Value;

use super::{SECRET, STRATEGIES, settings, unreadable};
use crate::support::app::Settings;
use crate::support::backends::options;
use crate::support::visitor::Visitor;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::wait_until;

#[track_caller]
fn assert_hit(page: &Page, expected: bool) {
    let status = page.header("cache-status").unwrap();
    assert_eq!(status.contains("; hit"), expected, "{status}");
}

#[tokio::test]
async fn processes_with_one_secret_share_signed_values() {
    let memcached = Memcached::start();
    for client in ["native", "memcache"] {
        // A copy in the process could be shown before memcached has the page.
        let settings = settings(&memcached, true).with("MEMCACHE_CLIENT", client).with("CACHE_LOCAL", "off");
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
        assert!(memcached.keys().iter().any(|key| key.starts_with("~session.")), "sessions are there too");
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
        let first = off.serve();
        first.get_from("localhost", "/").await;
        // A process that is killed before it lets go of its locks is waited for.
        memcached.keys();
        drop(first);
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

/// Puts a session in the place of each that a server has, as whoever can write to the server may: the same, but with
/// another removed task, in the envelope of a cache that is not signed.
async fn forge(memcached: &Memcached) {
    let backend = backend::memcached::Memcached::new(options(&memcached.address(), false));
    let cache = Cache::new(backend, CacheOptions::default());
    let mut forged = 0;
    for key in memcached.keys().into_iter().filter(|key| key.starts_with("~session.")) {
        let stored: Vec<u8> = memcached.client().get(&key).unwrap().unwrap();
        // Behind what an envelope begins with.
        let start = 10 + stored[10..].windows(2).position(|bytes| bytes == b"{\"").unwrap();
        let mut values = serde_json::Deserializer::from_slice(&stored[start..]).into_iter::<Value>();
        let text = values.next().unwrap().unwrap().to_string();
        if text.contains("milk") {
            let session: Value = serde_json::from_str(&text.replace("milk", "forged")).unwrap();
            cache.set(&Key::as_stored(key).unwrap(), &session, Ttl::Never).await;
            forged += 1;
        }
    }
    assert_eq!(forged, 1);
}

#[tokio::test]
async fn a_session_that_was_forged_in_an_unsigned_cache_is_none() {
    for (engine, is_kept) in [("cache", false), ("cached_db", true)] {
        let memcached = Memcached::start();
        let app = settings(&memcached, false).with("SESSION_ENGINE", engine).serve();
        let visitor = Visitor::new();
        visitor.add(&app, "eggs").await;
        let page = visitor.add(&app, "milk").await;
        visitor.remove(&app, &page, "milk").await;
        // Read once, so that there is a copy.
        visitor.get(&app, "/").await;
        forge(&memcached).await;
        visitor.expect_message();
        let page = visitor.get(&app, "/").await;
        assert!(!page.body.contains("forged"), "{engine}");
        visitor.undo(&app).await;
        wait_until("it is logged", || app.output().contains("without a valid signature"));
        let names = if is_kept { &["eggs", "milk"][..] } else { &["eggs"] };
        let page = app.get_from("localhost", "/").await;
        assert_eq!(page.tasks(), names, "{engine}");
        // The forged session is gone.
        let before = unreadable(&app).await;
        visitor.expect_message();
        visitor.get(&app, "/").await;
        assert_eq!(unreadable(&app).await, before, "{engine}");
    }
}
