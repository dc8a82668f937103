//! How the pages look, and how little must come before they do. The pictures are for people.

use serde_json::Value;

use super::{ERRANDS, list};
use crate::support::browser::{Browser, Habit};
use crate::support::words;

const LONG: [&str; 2] = [
    "https://example.com/anaddresswithoutanyblankthatismuchlongerthanaphoneiswideandmustbebroken",
    "A long name, as of something that somebody has thought about for a while before they wrote it down",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_list_fits_the_narrowest_phone_and_a_dark_room() {
    let app = list(&["Buy milk", LONG[0], LONG[1]]).await;
    for (width, picture) in [(320, "phone-small-dark.png"), (360, "phone-dark.png")] {
        let browser = Browser::open_with(&[Habit::Dark, Habit::Width(width)]).await;
        browser.go(&app, "/").await;
        browser.assert_fits().await;
        let background = browser.evaluate("getComputedStyle(document.body).backgroundColor").await;
        assert_eq!(background, "rgb(19, 24, 21)", "the dark scheme's");
        browser.screenshot(picture).await;
        browser.remove(LONG[0]).await;
        browser.assert_texts(".message button", &["Undo"]).await;
        browser.assert_fits().await;
        browser.screenshot(&format!("undo-{picture}")).await;
        browser.click(".message button").await;
        browser.assert_texts(".count", &["3"]).await;
        browser.go(&app, "/nowhere").await;
        browser.assert_fits().await;
        assert_eq!(browser.complaints().await.len(), 1, "the page that is not there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pressed_with_a_thumb_is_large_enough() {
    let app = list(&ERRANDS).await;
    let browser = Browser::open_with(&[Habit::Width(360)]).await;
    browser.go(&app, "/").await;
    browser.remove("Call home").await;
    browser.assert_told(&words::removed("Call home")).await;
    let heights = "[...document.querySelectorAll('a, button, input[type=text]')]
        .map(element => element.getBoundingClientRect().height)";
    for height in browser.evaluate(heights).await.as_array().unwrap() {
        assert!(height.as_f64().unwrap() >= 44.0, "{height}");
    }
    browser.screenshot("undo-phone.png").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_there_after_two_requests_more_and_15_kilobytes() {
    let (app, browser) = (list(&ERRANDS).await, Browser::open().await);
    browser.go(&app, "/").await;
    let entries =
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
        .filter(({ name }) => !name.includes('/static/icon.'))
        .map(({ name, transferSize, encodedBodySize, decodedBodySize }) =>
            [name, transferSize, encodedBodySize, decodedBodySize])";
    let entries = browser.evaluate(entries).await;
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 3, "the page, its style sheet and its script: {entries:?}");
    for entry in entries {
        assert!(entry[2].as_u64() < entry[3].as_u64(), "{entry} is compressed");
    }
    let transferred = entries.iter().filter_map(|entry| entry[1].as_u64()).sum::<u64>();
    assert!(transferred < 15_000, "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_for_those_who_asked_for_that() {
    let (app, browser) = (list(&[]).await, Browser::open().await);
    browser.go(&app, "/").await;
    browser.add("Buy milk").await;
    browser.assert_told(&words::added("Buy milk")).await;
    let moving = "document.getAnimations().length
        + [...document.querySelectorAll('*')].filter((element) => {
            const { animationName, transitionDuration } = getComputedStyle(element);
            return animationName !== 'none' || transitionDuration !== '0s';
        }).length";
    assert_eq!(browser.evaluate(moving).await, Value::from(0));
}
