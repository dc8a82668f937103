//! No page keeps anybody out, as far as axe-core can tell.

use super::{ERRANDS, list};
use crate::support::app::Settings;
use crate::support::browser::{Browser, Habit};
use crate::support::words;
use testkit::upstream::{Reply, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_no_violation_on_any_page_in_light_and_dark() {
    let upstream = Upstream::start(|_, _| Reply::ok("{\"hello\": \"world\"}")).await;
    for (habits, suffix) in [(&[][..], ""), (&[Habit::Dark][..], "-dark")] {
        let app = Settings::new().with("API_URL", &upstream.url()).serve();
        let browser = Browser::open_with(habits).await;
        for (path, name) in [("/", "empty"), ("/apicalls", "api-call"), ("/nowhere", "error")] {
            browser.go(&app, path).await;
            browser.assert_accessible(name).await;
            browser.screenshot(&format!("{name}{suffix}.png")).await;
        }
        browser.go(&app, "/").await;
        for name in ERRANDS {
            browser.add(name).await;
            browser.assert_told(&words::added(name)).await;
        }
        browser.client.refresh().await.unwrap();
        browser.assert_accessible("list").await;
        browser.screenshot(&format!("list{suffix}.png")).await;
        browser.remove("Call home").await;
        browser.assert_told(&words::removed("Call home")).await;
        browser.assert_accessible("undo").await;
        browser.screenshot(&format!("undo{suffix}.png")).await;
        browser.add(" ").await;
        browser.assert_texts("[role=alert]", &["Please write what is to be done."]).await;
        browser.assert_accessible("refused").await;
        browser.screenshot(&format!("refused{suffix}.png")).await;

        browser.go(&app, "/cache").await;
        browser.assert_accessible("cache").await;
        browser.screenshot(&format!("cache{suffix}.png")).await;
        let complaints = browser.complaints().await;
        assert!(complaints.iter().all(|text| text.contains("status of 4")), "{complaints:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_no_violation_on_a_phone_and_in_a_long_list() {
    let app = list(&["A task"; 101]).await;
    let browser = Browser::open_with(&[Habit::Width(320)]).await;
    for path in ["/", "/?page=2"] {
        browser.go(&app, path).await;
        browser.assert_accessible(path).await;
        browser.assert_fits().await;
    }
}
