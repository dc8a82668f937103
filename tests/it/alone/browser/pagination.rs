//! A list of more than one page.

use crate::support::app::{App, Settings};
use crate::support::browser::Browser;
use crate::support::words;
use testkit::postgres::Postgres;

/// A site with so many tasks.
async fn many(number: usize) -> App {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    assert!(settings.run(&["migrate"]).status.success());
    let sql = format!("insert into tasks (name) select 'task ' || n from generate_series(1, {number}) n");
    database.execute(sqlx::AssertSqlSafe(sql)).await;
    settings.serve()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_leads_to_the_page_of_its_task_and_the_address_follows() {
    let (app, browser) = (many(150).await, Browser::open().await);
    browser.go(&app, "/").await;
    browser.assert_texts(".pages span", &["Page 1 of 2"]).await;
    assert_eq!(browser.texts("td.name").await.unwrap().len(), 100);
    browser.add("task 151").await;
    browser.assert_texts(".pages span", &["Page 2 of 2"]).await;
    browser.assert_texts("tr:last-child td.name", &["task 151"]).await;
    assert_eq!(browser.path().await, "/?page=2");
    browser.assert_focus("#name").await;
    browser.client.refresh().await.unwrap();
    browser.assert_texts("tr:last-child td.name", &["task 151"]).await;

    browser.click("[rel=prev]").await;
    browser.assert_texts(".pages span", &["Page 1 of 2"]).await;
    let place = |name: &str| {
        format!(
            "Math.round(document.querySelector(\"[aria-label='Remove {name}']\").getBoundingClientRect().top)"
        )
    };
    browser
        .run("document.querySelector(\"[aria-label='Remove task 70']\").scrollIntoView({ block: 'center' })")
        .await;
    let before = browser.evaluate(&place("task 70")).await;
    browser.remove("task 70").await;
    browser.assert_told(&words::removed("task 70")).await;
    assert_eq!(browser.evaluate(&place("task 71")).await, before, "the next comes to where the pointer is");
    browser.assert_focus("[aria-label='Remove task 71']").await;
    let message = "document.querySelector('.message').getBoundingClientRect()";
    let is_seen = format!("{message}.top >= 0 && {message}.bottom <= innerHeight");
    assert_eq!(browser.evaluate(&is_seen).await, true, "far down the list the message is in sight");
    browser.screenshot("undo-far-down.png").await;
    browser.client.back().await.unwrap();
    browser.assert_texts(".pages span", &["Page 2 of 2"]).await;
    browser.client.forward().await.unwrap();
    browser.assert_texts(".pages span", &["Page 1 of 2"]).await;
    browser.assert_texts(".count", &["150"]).await;
    browser.assert_calm(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_becomes_empty_gives_way_to_the_one_before() {
    let (app, browser) = (many(101).await, Browser::open().await);
    browser.go(&app, "/?page=2").await;
    browser.remove("task 101").await;
    browser.assert_texts(".count", &["100"]).await;
    browser.assert_texts(".pages", &[]).await;
    browser.assert_texts("tr:last-child td.name", &["task 100"]).await;
    assert_eq!(browser.path().await, "/");
    browser.click("[aria-label='Undo removing task 101']").await;
    browser.assert_tasks(&["task 101"]).await;
    assert_eq!(browser.path().await, "/?page=2");
}
