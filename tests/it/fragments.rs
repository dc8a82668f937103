//! Rendered rows: fetched together, and never another's.

use crate::support::app::Settings;
use testkit::memcached::Memcached;
use testkit::proxy::Proxy;
use testkit::wait_until;

// The proxy runs while the app is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_rows_are_fetched_in_one_round_trip() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let settings = Settings::new().with("MEMCACHIER_SERVERS", &proxy.address.to_string());
    let app = settings.with("CACHE_STRATEGY", "delete").with("CACHE_LOCAL", "off").serve();
    let names: Vec<_> = (0..100).map(|number| format!("Task {number}")).collect();
    for name in &names {
        assert_eq!(app.post("/add", &[("name", name)]).await.status, 303);
    }
    assert_eq!(app.get("/").await.tasks(), names);
    assert_eq!(memcached.evict("view.page"), 1);
    let (hits, asked) = (memcached.stat("get_hits"), proxy.messages_with("task-fragment"));
    let page = app.get("/").await;
    assert_eq!(page.tasks(), names);
    assert_eq!(page.header("cache-status"), Some("tasklist; fwd=uri-miss; stored"));
    assert_eq!(proxy.messages_with("task-fragment"), asked + 1, "one for all rows, and none is stored");
    // The path's generation, the list, and the lock, which is looked at before it is released, in the background.
    wait_until("the lock is released", || memcached.stat("get_hits") >= hits + 100 + 3);
    assert_eq!(memcached.stat("get_hits"), hits + 100 + 3);
}

#[tokio::test]
async fn a_row_is_rendered_once_and_deleted_with_its_task() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).with("CACHE_STRATEGY", "delete").serve();
    app.add("Old").await;
    let count = memcached.keys().len();
    let page = app.add("New").await;
    assert_eq!(memcached.keys().len(), count + 1, "its row; the list was there");
    app.remove(&page, "New").await.assert_lists(["Old"]);
    assert_eq!(memcached.keys().len(), count);
}

#[tokio::test]
async fn what_is_not_a_row_of_ours_is_not_shown() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).with("CACHE_LOCAL", "off").serve();
    app.add("<b>Right</b>").await.assert_lists(["<b>Right</b>"]);
    let keys = memcached.keys();
    let row = keys.iter().find(|key| key.starts_with("~fragment:task-fragment")).expect("the row is cached");
    memcached.client().set(row, "<td>Wrong</td>", 0).unwrap();
    assert_eq!(memcached.evict("view.page"), 1);
    let page = app.get("/").await;
    page.assert_lists(["<b>Right</b>"]);
    assert!(!page.body.contains("Wrong") && page.body.contains("&#60;b&#62;Right"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_this_process_has_are_not_asked_for_until_the_cache_is_cleared() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let app = Settings::new().with("MEMCACHIER_SERVERS", &proxy.address.to_string()).serve();
    app.add("One").await;
    app.add("Two").await.assert_lists(["One", "Two"]);
    let asked = proxy.messages_with("task-fragment");
    app.add("Three").await.assert_lists(["One", "Two", "Three"]);
    assert_eq!(proxy.messages_with("task-fragment"), asked + 2, "the new row is missed, and stored");
    assert_eq!(app.post("/cache/clear", &[]).await.status, 303);
    app.get("/").await.assert_lists(["One", "Two", "Three"]);
    assert_eq!(proxy.messages_with("task-fragment"), asked + 4, "all are missed, and stored");
}
