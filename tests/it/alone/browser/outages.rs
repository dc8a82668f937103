//! When something behind the page fails, nothing that was typed is lost.

use fantoccini::key::Key;

use super::list;
use crate::support::app::Settings;
use crate::support::browser::Browser;
use crate::support::words;
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::postgres::Postgres;

const TYPED: &str = "document.getElementById('name').value";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_told_beside_the_form_which_can_be_sent_again() {
    let mut postgres = Postgres::start();
    let database = postgres.database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    let (app, browser) = (settings.serve(), Browser::open().await);
    app.add("Stays").await;
    browser.go(&app, "/").await;
    postgres.kill();
    browser.add("Buy milk").await;
    let words = "Back in a moment. The list cannot be reached right now. Please try again in a few seconds.";
    browser.assert_told(words).await;
    assert_eq!(browser.evaluate(TYPED).await, "Buy milk");
    browser.assert_tasks(&["Stays"]).await;
    browser.assert_accessible("the list and what went wrong").await;
    browser.screenshot("database-gone.png").await;
    postgres.restart();
    eventually("the app is back", async || app.get("/").await.status == 200).await;
    browser.press_key(Key::Enter).await;
    browser.assert_tasks(&["Stays", "Buy milk"]).await;
    browser.assert_told(&words::added("Buy milk")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memcached_that_is_gone_is_not_noticed() {
    let mut memcached = Memcached::start();
    let settings = Settings::new().with_memcached(&memcached);
    let (app, browser) = (settings.serve(), Browser::open().await);
    browser.go(&app, "/").await;
    memcached.kill();
    browser.add("Buy milk").await;
    browser.assert_told(&words::added("Buy milk")).await;
    browser.remove("Buy milk").await;
    browser.assert_told(&words::removed("Buy milk")).await;
    browser.assert_tasks(&[]).await;
    browser.assert_calm(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_told_beside_the_form() {
    let (app, browser) = (list(&["Stays"]).await, Browser::open().await);
    browser.go(&app, "/").await;
    app.terminate();
    browser.add("Buy milk").await;
    browser.assert_told("The server did not answer. Please look at the list before you try again.").await;
    assert_eq!(browser.evaluate(TYPED).await, "Buy milk");
    browser.assert_tasks(&["Stays"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_beside_the_form() {
    let (app, browser) = (list(&["Stays"]).await, Browser::open().await);
    browser.go(&app, "/").await;
    browser.run("document.getElementById('name').name = 'other'").await;
    browser.run("document.getElementById('add').enctype = 'text/plain'").await;
    browser.run("document.getElementById('add').action = '/nowhere'").await;
    browser.add("Buy milk").await;
    browser.assert_told("Page not found. There is nothing at this address.").await;
    assert_eq!(browser.evaluate(TYPED).await, "Buy milk");
}
