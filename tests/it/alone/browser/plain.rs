//! Without scripts.

use super::{ERRANDS, list};
use crate::support::browser::{Browser, Habit};
use crate::support::words;

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_without_scripts() {
    let (app, browser) = (list(&[]).await, Browser::open_with(&[Habit::NoScripts]).await);
    browser.go(&app, "/").await;
    for name in ERRANDS {
        browser.add(name).await;
        browser.assert_told(&words::added(name)).await;
    }
    browser.assert_tasks(&ERRANDS).await;
    browser.assert_texts("#origin:not([hidden])", &[]).await;
    browser.remove("Call home").await;
    browser.assert_told(&words::removed("Call home")).await;
    browser.assert_tasks(&["Buy milk", "Water the plants"]).await;
    browser.click("[aria-label='Undo removing Call home']").await;
    browser.assert_told(&words::put_back("Call home")).await;
    browser.assert_tasks(&ERRANDS).await;

    let long = "x".repeat(501);
    browser.add(&long).await;
    browser.assert_texts("[role=alert]", &["Please use at most 500 characters; these are 501."]).await;
    assert_eq!(browser.path().await, "/add");
    browser.assert_texts("#name[aria-invalid=true]", &[""]).await;
    browser.client.find(fantoccini::Locator::Id("name")).await.unwrap().clear().await.unwrap();
    browser.add("Shorter").await;
    browser.assert_texts("tr:last-child td.name", &["Shorter"]).await;
    assert_eq!(browser.path().await, "/");
}
