//! Without a mouse.

use fantoccini::Locator;
use fantoccini::key::Key;

use super::{ERRANDS, list};
use crate::support::browser::Browser;
use crate::support::words;

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_added_removed_and_put_back_with_the_keyboard_alone() {
    let (app, browser) = (list(&[]).await, Browser::open().await);
    browser.go(&app, "/").await;
    let tab = char::from(Key::Tab).to_string();
    // The header's two links come before the form.
    browser.client.find(Locator::Css("body")).await.unwrap().send_keys(&tab.repeat(3)).await.unwrap();
    for name in ERRANDS {
        browser.assert_focus("#name").await;
        browser.press(&format!("{name}{}", char::from(Key::Enter))).await;
        browser.assert_told(&words::added(name)).await;
    }
    browser.assert_tasks(&ERRANDS).await;

    // Past the button that adds and the first task's.
    browser.press(&tab.repeat(3)).await;
    browser.assert_focus("[aria-label='Remove Call home']").await;
    browser.press_key(Key::Enter).await;
    browser.assert_tasks(&["Buy milk", "Water the plants"]).await;
    browser.assert_focus("[aria-label='Remove Water the plants']").await;

    // Back over the other task, the button that adds and the field.
    let back = format!("{}{}", char::from(Key::Shift), tab.repeat(4));
    browser.press(&back).await;
    browser.assert_focus("[aria-label='Undo removing Call home']").await;
    browser.press(" ").await;
    browser.assert_tasks(&ERRANDS).await;
    browser.assert_focus("#name").await;
    browser.assert_calm(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_has_the_focus_shows_it_and_is_in_sight() {
    let app = list(&["A task"; 30]).await;
    let browser = Browser::open().await;
    browser.go(&app, "/").await;
    browser.remove("A task").await;
    browser.assert_told(&words::removed("A task")).await;
    // On the way down the list nothing that stays in its place hides the button that is next.
    for _ in 0..25 {
        browser.press_key(Key::Tab).await;
        let sight = "(({ left, top, width, height }) => {
            const [x, y] = [left + width / 2, top + height / 2];
            const outline = getComputedStyle(document.activeElement).outlineStyle;
            return outline === 'solid' && document.activeElement.contains(document.elementFromPoint(x, y));
        })(document.activeElement.getBoundingClientRect())";
        let element = browser.evaluate("document.activeElement.outerHTML").await;
        assert_eq!(browser.evaluate(sight).await, true, "{element}");
    }
}
