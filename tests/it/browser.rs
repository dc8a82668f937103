//! The page as people see it: a real Chromium, driven as they do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::app::{App, Settings};
use crate::support::http;
use crate::support::process::{Process, find};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait_until;

/// A browser window, and the driver that moves it.
struct Browser {
    client: Client,
    driver: String,
    _process: Process,
    directory: TempDir,
}

/// Ends the browser as well, which would stay when its driver goes: it is known by the directory of its profile.
impl Drop for Browser {
    fn drop(&mut self) {
        let _ = Command::new("pkill").args(["-KILL", "-f"]).arg(self.directory.path()).status();
    }
}

impl Browser {
    /// Opens an empty window; `dark` is the colour scheme it asks pages for.
    async fn open(dark: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let chromium = find("chromium", &[], "chromium");
        let mut command = Command::new(find("chromedriver", &[], "chromium-driver"));
        command.arg("--port=0").env("TMPDIR", directory.path()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command, directory.path());
        let lines = BufReader::new(process.child().stdout.take().unwrap()).lines();
        let started = lines.map_while(Result::ok).find(|line| line.contains("started successfully on port"));
        let driver = format!(
            "http://127.0.0.1:{}",
            started.unwrap().rsplit(' ').next().unwrap().trim_end_matches('.')
        );

        let mut arguments = vec!["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"];
        arguments.extend(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        let profile = format!("--user-data-dir={}/profile", directory.path().display());
        arguments.push(&profile);
        if dark {
            arguments.push("--blink-settings=preferredColorScheme=0");
        }
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".into(), json!({ "binary": chromium, "args": arguments }));
        capabilities.insert("goog:loggingPrefs".into(), json!({ "browser": "ALL" }));
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver)
            .await
            .unwrap();
        client.set_window_size(900, 760).await.unwrap();
        Self { client, driver, _process: process, directory }
    }

    async fn go(&self, app: &App) {
        self.client.goto(&app.url).await.unwrap();
    }

    /// Waits until the elements that a selector finds have these texts: a key that sends a form returns at once.
    async fn assert_texts(&self, selector: &str, expected: &[&str]) {
        let started = Instant::now();
        loop {
            let texts = self.texts(selector).await.unwrap_or_default();
            if texts == expected {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{selector}: {texts:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Fails while the page is changing.
    async fn texts(&self, selector: &str) -> Result<Vec<String>, CmdError> {
        let mut texts = vec![];
        for element in self.client.find_all(Locator::Css(selector)).await? {
            texts.push(element.text().await?);
        }
        Ok(texts)
    }

    async fn click(&self, selector: &str) {
        self.client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
    }

    /// Presses keys in whatever has the focus, as somebody without a mouse does.
    async fn press(&self, keys: &str) {
        self.client.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    async fn evaluate(&self, script: &str) -> Value {
        self.client.execute(&format!("return {script}"), vec![]).await.unwrap()
    }

    /// Keeps a picture under `target/screenshots` for people to look at.
    async fn screenshot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../screenshots");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), self.client.screenshot().await.unwrap()).unwrap();
    }

    /// Asserts that the browser complained of nothing and asked nobody but the app.
    async fn assert_calm(&self, app: &App) {
        let session = self.client.session_id().await.unwrap().unwrap();
        let url = format!("{}/session/{session}/se/log", self.driver);
        let request = http().post(url).body(json!({ "type": "browser" }).to_string());
        let log: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
        assert_eq!(log["value"], json!([]), "the browser's console");
        let names = self.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)").await;
        for name in names.as_array().unwrap() {
            assert!(name.as_str().unwrap().starts_with(&app.url), "{name} comes from elsewhere");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_added_listed_and_removed_with_the_keyboard_alone() {
    let (app, browser) = (App::start(), Browser::open(false).await);
    browser.go(&app).await;
    browser.screenshot("empty.png").await;
    for name in ["Buy milk", "Call home", "Water the plants"] {
        browser
            .client
            .find(Locator::Css("body"))
            .await
            .unwrap()
            // The header's two links come before the form.
            .send_keys(&char::from(Key::Tab).to_string().repeat(2))
            .await
            .unwrap();
        browser.press(&char::from(Key::Tab).to_string()).await;
        assert_eq!(browser.evaluate("document.activeElement.id").await, "name");
        browser.press(&format!("{name}{}", char::from(Key::Enter))).await;
        browser.assert_texts("tr:last-child td.name", &[name]).await;
    }
    browser.assert_texts("td.name", &["Buy milk", "Call home", "Water the plants"]).await;
    browser.screenshot("list.png").await;

    let button = browser.client.find(Locator::Css("[aria-label='Remove Call home']")).await.unwrap();
    button.send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
    browser.assert_texts("td.name", &["Buy milk", "Water the plants"]).await;
    browser.assert_calm(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_told_where_it_was_done_and_undone_with_one_button() {
    let app = App::start();
    let [browser, other] = [Browser::open(false).await, Browser::open(false).await];
    for name in ["Buy milk", "Call home", "Water the plants"] {
        app.add(name).await;
    }
    let ids = "[...document.querySelectorAll('td.action input')].map(input => input.value)";
    browser.go(&app).await;
    let before = browser.evaluate(ids).await;
    browser.click("[aria-label='Remove Call home']").await;
    browser.assert_texts("[role=status] p", &["Removed “Call home”."]).await;
    browser.assert_texts("td.name", &["Buy milk", "Water the plants"]).await;
    browser.screenshot("undo.png").await;

    other.go(&app).await;
    other.assert_texts(".message", &[]).await;
    other.client.find(Locator::Id("name")).await.unwrap().send_keys("Read").await.unwrap();
    other.press(&char::from(Key::Enter).to_string()).await;
    other.assert_texts(".message", &["Added “Read”."]).await;

    browser.click("[aria-label='Undo removing Call home']").await;
    browser.assert_texts(".message", &["Put “Call home” back."]).await;
    browser.assert_texts("td.name", &["Buy milk", "Call home", "Water the plants", "Read"]).await;
    browser.client.refresh().await.unwrap();
    browser.assert_texts(".message", &[]).await;
    let after = browser.evaluate(ids).await;
    assert_eq!(after.as_array().unwrap()[..3], before.as_array().unwrap()[..]);
    for window in [browser, other] {
        window.assert_calm(&app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_refused_is_kept_with_its_message() {
    let (app, browser) = (App::start(), Browser::open(false).await);
    browser.go(&app).await;
    let long = "long ".repeat(101).trim().to_owned();
    browser.client.find(Locator::Id("name")).await.unwrap().send_keys(&long).await.unwrap();
    browser.press(&char::from(Key::Enter).to_string()).await;
    browser.assert_texts("[role=alert]", &["Please use at most 500 characters; these are 504."]).await;
    assert_eq!(browser.evaluate("document.activeElement.value.length").await, 504);
    browser.screenshot("refused.png").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_a_narrow_phone_and_a_dark_room() {
    let (app, browser) = (App::start(), Browser::open(true).await);
    for name in
        ["Buy milk", "A-name-without-any-blank-that-is-much-longer-than-a-phone-is-wide-and-must-be-broken"]
    {
        app.add(name).await;
    }
    browser.client.set_window_size(360, 740).await.unwrap();
    browser.go(&app).await;
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.evaluate(overflow).await, 0, "nothing is wider than the window");
    let background = browser.evaluate("getComputedStyle(document.body).backgroundColor").await;
    assert_eq!(background, "rgb(19, 24, 21)", "the dark scheme's");
    browser.screenshot("phone-dark.png").await;
    browser.click("[aria-label^='Remove A-name']").await;
    browser.assert_texts(".message button", &["Undo"]).await;
    assert_eq!(browser.evaluate(overflow).await, 0, "nor is a message");
    browser.screenshot("undo-phone-dark.png").await;
    browser.assert_calm(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_told_that_nothing_has_changed_or_shows_what_has() {
    let (browser, app) = (Browser::open(false).await, App::start());
    app.add("Old").await;
    browser.go(&app).await;
    browser.assert_texts("td.name", &["Old"]).await;
    browser.client.refresh().await.unwrap();
    wait_until("the browser has asked whether it has changed", || app.output().contains("status=304"));
    browser.assert_texts("td.name", &["Old"]).await;
    app.add("New").await;
    browser.client.refresh().await.unwrap();
    browser.assert_texts("td.name", &["Old", "New"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_says_where_it_came_from() {
    let upstream = Upstream::start(|_, _| Reply::ok("{\"hello\": \"world\"}")).await;
    let app = Settings::new().with("API_URL", &upstream.url()).serve();
    let browser = Browser::open(false).await;
    let pages =
        [("", "From this process, in ", "origin.png"), ("apicalls", "From the cache, in ", "api-call.png")];
    for (path, origin, picture) in pages {
        browser.client.goto(&format!("{}{path}", app.url)).await.unwrap();
        let built = browser.texts("#origin").await.unwrap().concat();
        assert!(
            built.starts_with("Built for you in ") && built.ends_with("in the cache from now on."),
            "{built}"
        );
        browser.client.refresh().await.unwrap();
        let cached = browser.texts("#origin").await.unwrap().concat();
        assert!(cached.starts_with(origin), "{cached}");
        browser.screenshot(picture).await;
    }
    browser.client.goto(&format!("{}nowhere", app.url)).await.unwrap();
    assert_eq!(browser.texts("#origin").await.unwrap().concat(), "", "of a page that no cache was asked for");
}
