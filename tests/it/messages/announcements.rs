//! The cookies that announce messages: which page looks into a session, and what becomes of them.

use super::{ENGINES, settings, site};
use crate::support::app::App;
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;

/// Asserts that a page is its visitor's own, shows no message, and clears so many announcements and nothing else.
#[track_caller]
fn assert_found_nothing(page: &Page, cleared: usize) {
    page.assert_tells([]);
    assert_eq!(page.header("cache-status"), Some("tasklist; fwd=bypass; detail=\"personal\""));
    assert_eq!(page.header("cache-control"), Some("private, no-store"));
    let cookies = page.cookies();
    let is_cleared = |cookie: &&str| cookie.starts_with("message-") && cookie.ends_with("; Max-Age=0");
    assert!(cookies.len() == cleared && cookies.iter().all(is_cleared), "{cookies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_visitor_without_a_message_no_store_is_asked_and_the_page_is_replayed() {
    let memcached = Memcached::start();
    for engine in ENGINES {
        let database = Postgres::shared().database().await;
        let to_cache = Proxy::start(memcached.address()).await;
        let to_database = Proxy::start(database.address()).await;
        let settings = settings().with("SESSION_ENGINE", engine);
        let settings = settings.with("DATABASE_URL", &database.url_through(to_database.address));
        let app = settings.with("MEMCACHIER_SERVERS", &to_cache.address.to_string()).serve();
        let visitor = Visitor::new();
        visitor.add(&app, "One").await.assert_tells([words::added("One")]);
        for _ in 0..3 {
            Visitor::new().get(&app, "/").await;
        }
        let asked = || (to_cache.messages_with("session."), to_database.messages_with("from sessions"));
        let (before, replays) = (asked(), app.metric("tasklist_http_answers_given_again_total").await);
        for _ in 0..5 {
            let page = visitor.get(&app, "/").await;
            let status = page.header("cache-status").unwrap();
            assert!(status.contains("; hit") && status.ends_with("; detail=\"local\""), "{engine}: {status}");
            assert_eq!(page.cookies(), [""; 0]);
        }
        assert_eq!(app.metric("tasklist_http_answers_given_again_total").await, replays + 5);
        assert_eq!(asked(), before, "{engine}");
    }
}

#[tokio::test]
async fn each_change_has_an_announcement_of_its_own_up_to_four() {
    let (app, visitor) = (App::start(), Visitor::new());
    for number in 1..=6 {
        visitor.post(&app, "/add", &[("name", &format!("task {number}"))]).await;
        assert_eq!(visitor.announcements().len(), number.min(4));
    }
    assert_eq!(visitor.get(&app, "/").await.messages().len(), 5);
    assert_eq!(visitor.announcements(), [""; 0]);
}

#[tokio::test]
async fn a_page_that_arrives_late_leaves_the_announcement_of_a_later_change() {
    for engine in ENGINES {
        let app = settings().with("SESSION_ENGINE", engine).serve();
        let visitor = Visitor::new();
        visitor.post(&app, "/add", &[("name", "One")]).await;
        // Of one tab. It is on its way while another tab makes a change.
        let late = Page::read(visitor.request(&app, "GET", "/")).await;
        late.assert_tells([words::added("One")]);
        visitor.post(&app, "/add", &[("name", "Two")]).await;
        visitor.keep(&late);
        assert_eq!(visitor.announcements().len(), 1, "{engine}");
        visitor.get(&app, "/").await.assert_tells([words::added("Two")]);
        assert_eq!(visitor.announcements(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_beside_a_list_that_has_its_change() {
    let (memcached, database) = (Memcached::start(), Postgres::shared().database().await);
    let proxy = Proxy::start(memcached.address()).await;
    let settings = settings().with("DATABASE_URL", &database.url).with("SESSION_ENGINE", "cache");
    let slow = settings.clone().with("MEMCACHIER_SERVERS", &proxy.address.to_string()).serve();
    let other = settings.with_memcached(&memcached).serve();
    let visitor = Visitor::new();
    visitor.post(&other, "/add", &[("name", "One")]).await;
    // The page is asked for before the second change, and finds the session after it.
    proxy.hold("session.");
    let show = tokio::spawn(visitor.request(&slow, "GET", "/").send());
    proxy.wait_for_held().await;
    visitor.post(&other, "/add", &[("name", "Two")]).await;
    proxy.release();
    let page = show.await.unwrap().unwrap().text().await.unwrap();
    for name in ["One", "Two"] {
        assert!(page.contains(&words::added(name)) && page.contains(&format!(">{name}</td>")), "{page}");
    }
}

#[tokio::test]
async fn an_announcement_of_nothing_costs_one_page_that_is_not_cached() {
    for engine in ENGINES {
        let app = settings().with("SESSION_ENGINE", engine).serve();
        let known = Visitor::new();
        known.add(&app, "One").await;
        for visitor in [Visitor::new(), known] {
            Visitor::new().get(&app, "/").await;
            let session = visitor.cookie();
            visitor.expect_message();
            assert_found_nothing(&visitor.get(&app, "/").await, 1);
            assert_eq!((visitor.announcements(), visitor.cookie()), (vec![], session), "{engine}");
            assert!(visitor.get(&app, "/").await.header("cache-status").unwrap().contains("; hit"));
        }
    }
}

#[tokio::test]
async fn a_message_whose_session_cookie_is_lost_is_nobodys() {
    for engine in ENGINES {
        let app = settings().with("SESSION_ENGINE", engine).serve();
        let visitor = Visitor::new();
        visitor.post(&app, "/add", &[("name", "One")]).await;
        visitor.lose_session();
        assert_found_nothing(&visitor.get(&app, "/").await, 1);
        visitor.add(&app, "Two").await.assert_tells([words::added("Two")]);
    }
}

#[tokio::test]
async fn a_message_whose_announcement_is_lost_is_shown_with_the_next() {
    for engine in ENGINES {
        let app = settings().with("SESSION_ENGINE", engine).serve();
        let visitor = Visitor::new();
        visitor.post(&app, "/add", &[("name", "One")]).await;
        visitor.lose_announcements();
        visitor.get(&app, "/").await.assert_tells([]);
        visitor.add(&app, "Two").await.assert_tells([words::added("One"), words::added("Two")]);
    }
}

#[tokio::test]
async fn a_page_that_nobody_may_see_leaves_message_and_announcement() {
    let (app, visitor) = (App::start(), Visitor::new());
    visitor.post(&app, "/add", &[("name", "One")]).await;
    for _ in 0..3 {
        let prefetch = visitor.request(&app, "GET", "/").header("sec-purpose", "prefetch;prerender");
        let prefetch = visitor.send(prefetch).await;
        prefetch.assert_tells([]);
        prefetch.assert_lists(["One"]);
        assert_eq!((prefetch.cookies(), prefetch.header("cache-control")), (vec![], Some("no-cache")));
        assert_eq!(visitor.announcements().len(), 1);
    }
    visitor.get(&app, "/").await.assert_tells([words::added("One")]);
}

#[tokio::test]
async fn announcements_wait_for_a_session_store_that_fails() {
    let memcached = Memcached::start();
    let app = settings().with_memcached(&memcached).with("SESSION_ENGINE", "cache").serve();
    let visitor = Visitor::new();
    visitor.post(&app, "/add", &[("name", "One")]).await;
    memcached.stop();
    visitor.get(&app, "/").await.assert_tells([]);
    visitor.post(&app, "/add", &[("name", "Two")]).await;
    assert_eq!(visitor.announcements().len(), 1, "what was not stored is not announced");
    memcached.go_on();
    let is_shown = async || visitor.get(&app, "/").await.messages() == [words::added("One")];
    eventually("it is shown", is_shown).await;
    assert_eq!(visitor.announcements(), [""; 0]);
}

#[tokio::test]
async fn announcements_stay_where_another_request_changes_the_session() {
    let (memcached, database) = (Memcached::start(), Postgres::shared().database().await);
    let app = site(&database, &memcached).serve();
    let visitor = Visitor::new();
    visitor.post(&app, "/add", &[("name", "One")]).await;
    let lock = database.lock_sessions().await;
    let add = tokio::spawn(visitor.request(&app, "POST", "/add").form(&[("name", "Two")]).send());
    database.wait_for_waiting(1).await;
    let show = tokio::spawn(Page::read(visitor.request(&app, "GET", "/")));
    database.wait_for_waiting(2).await;
    drop(lock);
    assert_eq!(add.await.unwrap().unwrap().status(), 303);
    let page = show.await.unwrap();
    page.assert_tells([]);
    assert!(page.cookies().iter().all(|cookie| !cookie.starts_with("message-")), "{:?}", page.cookies());
    visitor.get(&app, "/").await.assert_tells([words::added("One"), words::added("Two")]);
}
