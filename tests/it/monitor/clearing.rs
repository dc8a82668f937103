//! The button that clears the cache.

use super::{count, report};
use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;
use testkit::page::Page;

fn is_hit(page: &Page) -> bool {
    page.header("cache-status").unwrap().starts_with("tasklist; hit")
}

async fn clear(app: &App) {
    let answer = app.post("/cache/clear", &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/cache")));
}

#[tokio::test]
async fn a_cleared_page_is_built_again() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    app.get("/").await;
    assert!(is_hit(&app.get("/").await));
    clear(&app).await;
    assert_eq!(memcached.keys(), [""; 0]);
    assert!(!is_hit(&app.get("/").await), "the copy in the process is gone as well");
    assert_eq!(count(&report(&app).await, "views", "builds"), 2);
    assert!(is_hit(&app.get("/").await));
}

#[tokio::test]
async fn the_page_has_a_button_for_it() {
    let app = App::start();
    let page = app.get("/cache").await;
    assert_eq!(page.texts("form[action='/cache/clear'][method=post] button"), ["Clear the cache"]);
}

#[tokio::test]
async fn an_outage_is_no_obstacle() {
    let mut memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    app.get("/").await;
    memcached.kill();
    clear(&app).await;
    assert!(!is_hit(&app.get("/").await));
    let log = app.interrupt().1;
    assert!(log.contains("not all of the cache is cleared") && !log.contains("cache cleared"), "{log}");
}
