//! Changes without a reload.

use serde_json::json;

use super::{ERRANDS, list};
use crate::support::browser::Browser;
use crate::support::words;

/// Leaves a mark on the document, which goes when another is loaded.
async fn mark(browser: &Browser) {
    browser.run("window.isMarked = true").await;
}

async fn assert_not_reloaded(browser: &Browser) {
    assert_eq!(browser.evaluate("window.isMarked === true").await, true, "the page was loaded anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_added_removed_and_put_back_without_a_reload() {
    let (app, browser) = (list(&[]).await, Browser::open().await);
    browser.go(&app, "/").await;
    mark(&browser).await;
    for name in ERRANDS {
        browser.add(name).await;
        browser.assert_told(&words::added(name)).await;
        assert_eq!(browser.evaluate("document.getElementById('name').value").await, "");
        browser.assert_focus("#name").await;
    }
    browser.assert_tasks(&ERRANDS).await;
    browser.assert_texts(".count", &["3"]).await;
    let ids = "[...document.querySelectorAll('tr[data-id]')].map(row => row.dataset.id)";
    let before = browser.evaluate(ids).await;

    browser.remove("Call home").await;
    browser.assert_told(&words::removed("Call home")).await;
    browser.assert_tasks(&["Buy milk", "Water the plants"]).await;
    browser.assert_focus("[aria-label='Remove Water the plants']").await;
    browser.click("[aria-label='Undo removing Call home']").await;
    browser.assert_told(&words::put_back("Call home")).await;
    browser.assert_tasks(&ERRANDS).await;
    browser.assert_focus("#name").await;
    assert_eq!(browser.evaluate(ids).await, before);

    assert_not_reloaded(&browser).await;
    assert_eq!(browser.path().await, "/");
    browser.client.refresh().await.unwrap();
    browser.assert_texts(".message", &[]).await;
    browser.assert_tasks(&ERRANDS).await;
    browser.assert_calm(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_focus_goes_on_to_the_next_task_the_one_before_and_the_way_back() {
    let (app, browser) = (list(&ERRANDS).await, Browser::open().await);
    browser.go(&app, "/").await;
    for (removed, next) in [
        ("Buy milk", "Remove Call home"),
        ("Water the plants", "Remove Call home"),
        ("Call home", "Undo removing Call home"),
    ] {
        browser.remove(removed).await;
        browser.assert_told(&words::removed(removed)).await;
        browser.assert_focus(&format!("[aria-label='{next}']")).await;
    }
    browser.assert_texts(".empty", &["Nothing to do. Add your first task above."]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_refused_is_kept_with_its_message() {
    let (app, browser) = (list(&["Stays"]).await, Browser::open().await);
    browser.go(&app, "/").await;
    mark(&browser).await;
    let long = "long ".repeat(101).trim().to_owned();
    browser.add(&long).await;
    browser.assert_texts("[role=alert]", &["Please use at most 500 characters; these are 504."]).await;
    browser.assert_focus("#name[aria-invalid=true][aria-describedby=problem]").await;
    assert_eq!(browser.evaluate("document.activeElement.value").await, long);
    browser.assert_tasks(&["Stays"]).await;
    let complaints = browser.complaints().await;
    assert!(complaints.len() == 1 && complaints[0].contains("status of 422"), "{complaints:?}");

    browser.run("document.getElementById('name').value = ''").await;
    browser.add("Shorter").await;
    browser.assert_tasks(&["Stays", "Shorter"]).await;
    browser.assert_texts("[role=alert]", &[]).await;
    assert_not_reloaded(&browser).await;
    browser.assert_calm(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_twice_is_done_once() {
    let (app, browser) = (list(&[]).await, Browser::open().await);
    browser.go(&app, "/").await;
    browser.write("First").await;
    browser.run("for (const _ of [1, 2, 3]) document.querySelector('#add button').click()").await;
    browser.assert_told(&words::added("First")).await;
    // What comes later is done later, so a second “First” would be there by now.
    browser.add("Second").await;
    browser.assert_told(&words::added("Second")).await;
    browser.assert_tasks(&["First", "Second"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_haste_are_all_made_and_the_last_answer_is_shown() {
    let (app, browser) = (list(&ERRANDS).await, Browser::open().await);
    browser.go(&app, "/").await;
    browser
        .run("for (const button of [...document.querySelectorAll('.action button')].slice(0, 2)) button.click()")
        .await;
    browser.assert_tasks(&["Water the plants"]).await;
    browser.assert_told(&words::removed("Call home")).await;
    browser.assert_focus("[aria-label='Remove Water the plants']").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_while_another_change_is_under_way_stays() {
    let (app, browser) = (list(&ERRANDS).await, Browser::open().await);
    browser.go(&app, "/").await;
    browser.write("First").await;
    let type_on =
        "document.querySelector('#add button').click(); document.getElementById('name').value = 'Sec'";
    browser.run(type_on).await;
    browser.assert_told(&words::added("First")).await;
    browser.assert_focus("#name").await;
    browser.remove("Buy milk").await;
    browser.assert_told(&words::removed("Buy milk")).await;
    browser.add("ond").await;
    browser.assert_tasks(&["Call home", "Water the plants", "First", "Second"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_browsers_side_by_side_see_each_others_changes_and_their_own_messages() {
    let app = list(&ERRANDS).await;
    let [browser, other] = [Browser::open().await, Browser::open().await];
    browser.go(&app, "/").await;
    browser.remove("Call home").await;
    browser.assert_told(&words::removed("Call home")).await;

    other.go(&app, "/").await;
    other.assert_texts(".message", &[]).await;
    other.assert_tasks(&["Buy milk", "Water the plants"]).await;
    other.add("Read").await;
    other.assert_told(&words::added("Read")).await;

    browser.click("[aria-label='Undo removing Call home']").await;
    browser.assert_told(&words::put_back("Call home")).await;
    browser.assert_tasks(&["Buy milk", "Call home", "Water the plants", "Read"]).await;
    for window in [browser, other] {
        window.assert_calm(&app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_shows_the_list_as_it_is_now_and_no_old_message() {
    let (app, browser) = (list(&ERRANDS).await, Browser::open().await);
    browser.go(&app, "/").await;
    browser.remove("Call home").await;
    browser.assert_told(&words::removed("Call home")).await;
    browser.client.goto("about:blank").await.unwrap();
    app.add("Read").await;
    browser.client.back().await.unwrap();
    browser.assert_tasks(&["Buy milk", "Water the plants", "Read"]).await;
    browser.assert_texts(".message", &[]).await;
    browser.add("Sing").await;
    browser.assert_tasks(&["Buy milk", "Water the plants", "Read", "Sing"]).await;
    browser.assert_calm(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn markup_in_a_name_stays_text() {
    let (app, browser) = (list(&[]).await, Browser::open().await);
    browser.go(&app, "/").await;
    let name = "<img src=x onerror=\"window.isHacked = true\">";
    browser.add(name).await;
    browser.assert_tasks(&[name]).await;
    browser.assert_told(&words::added(name)).await;
    assert_eq!(browser.evaluate("[window.isHacked ?? null, document.images.length]").await, json!([null, 0]));
    browser.assert_calm(&app).await;
}
