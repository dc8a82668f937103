//! Where a page came from, told by the page although the page is cached.

use super::list;
use crate::support::app::Settings;
use crate::support::browser::Browser;
use crate::support::words;
use testkit::memcached::Memcached;
use testkit::upstream::{Reply, Upstream};
use testkit::wait_until;

impl Browser {
    async fn assert_origin(&self, beginning: &str, end: &str) {
        let text = self.texts("#origin").await.unwrap().concat();
        assert!(text.starts_with(beginning) && text.contains(" ms") && text.ends_with(end), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_says_where_it_came_from() {
    let upstream = Upstream::start(|_, _| Reply::ok("{\"hello\": \"world\"}")).await;
    let app = Settings::new().with("API_URL", &upstream.url()).serve();
    let browser = Browser::open().await;
    for path in ["/", "/apicalls"] {
        browser.go(&app, path).await;
        browser.assert_origin("Built for you in ", "now cached").await;
        browser.client.refresh().await.unwrap();
        browser.assert_origin("From this process in ", " ms").await;
        browser.assert_texts("#origin.cached", &[&browser.texts("#origin").await.unwrap().concat()]).await;
    }
    browser.screenshot("api-call.png").await;
    browser.go(&app, "/nowhere").await;
    browser.assert_texts("#origin:not([hidden])", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_memcached_says_so_and_one_that_came_with_a_message_too() {
    let memcached = Memcached::start();
    let settings = Settings::new().with_memcached(&memcached).with("CACHE_LOCAL", "off");
    let (app, browser) = (settings.serve(), Browser::open().await);
    browser.go(&app, "/").await;
    browser.assert_origin("Built for you in ", "now cached").await;
    browser.client.refresh().await.unwrap();
    browser.assert_origin("From the cache in ", " ms").await;
    browser.add("Buy milk").await;
    browser.assert_told(&words::added("Buy milk")).await;
    browser.assert_origin("Built for you in ", "not cached").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_told_that_nothing_has_changed_or_shows_what_has() {
    let (browser, app) = (Browser::open().await, list(&["Old"]).await);
    browser.go(&app, "/").await;
    browser.assert_tasks(&["Old"]).await;
    browser.client.refresh().await.unwrap();
    wait_until("the browser has asked whether it has changed", || app.output().contains("status=304"));
    browser.assert_tasks(&["Old"]).await;
    app.add("New").await;
    browser.client.refresh().await.unwrap();
    browser.assert_tasks(&["Old", "New"]).await;
}
