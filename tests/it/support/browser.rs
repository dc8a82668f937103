//! A real Chromium, driven as people drive it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use super::app::App;
use super::axe;
use testkit::http;
use testkit::process::{Process, find, find_any};

/// The names that Chromium has, by where it comes from.
const CHROMIUM: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/// A browser window for one test. The browser goes back to those that wait for the next test, unless the test fails.
pub struct Browser {
    pub client: Client,
    /// None once it is given back.
    running: Option<Running>,
}

/// What somebody's browser is like, if not light and 900 wide.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// It asks pages for dark colours.
    Dark,
    /// It runs no scripts of pages.
    NoScripts,
    /// It is so wide.
    Width(u32),
}

/// A Chromium and its driver. To start one takes longer than most tests do.
struct Running {
    client: Client,
    /// URL of its session at the driver.
    session: String,
    runs_scripts: bool,
    _process: Process,
    directory: TempDir,
}

/// Browsers that no test uses.
static IDLE: Mutex<Vec<Running>> = Mutex::new(vec![]);

/// Where clients live: each test's own runtime ends with it.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// Ends the browser as well, which would stay when its driver goes: it is known by the directory of its profile.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new(find("pkill")).args(["-KILL", "-f"]).arg(self.directory.path()).status();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let running = self.running.take().filter(|_| !std::thread::panicking());
        IDLE.lock().unwrap().extend(running);
    }
}

impl Running {
    async fn start(runs_scripts: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // It takes a port that is free for one family of addresses, and ends if the other family's is not.
        let started = (0..5).find_map(|_| start_driver(directory.path()));
        let (process, driver) = started.expect("chromedriver starts");

        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".into(), options(directory.path(), runs_scripts));
        capabilities.insert("goog:loggingPrefs".into(), json!({ "browser": "ALL" }));
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        builder.capabilities(capabilities);
        let url = driver.clone();
        let connected = RUNTIME.spawn(async move { builder.connect(&url).await });
        let client = connected.await.unwrap().unwrap();
        let session = client.session_id().await.unwrap().unwrap();
        let session = format!("{driver}/session/{session}");
        Self { client, session, runs_scripts, _process: process, directory }
    }

    /// Asks the driver for what WebDriver has no words for.
    async fn ask(&self, path: &str, body: &Value) -> Value {
        let request = http().post(format!("{}/{path}", self.session)).body(body.to_string());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path} {body}");
        let mut response: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        response["value"].take()
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.ask("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await;
    }

    /// Forgets all of the test before.
    async fn forget(&self) {
        self.client.goto("about:blank").await.unwrap();
        for command in
            ["Network.clearBrowserCookies", "Network.clearBrowserCache", "Page.resetNavigationHistory"]
        {
            self.devtools(command, json!({})).await;
        }
        self.ask("se/log", &json!({ "type": "browser" })).await;
    }
}

impl Browser {
    /// Opens an empty window.
    pub async fn open() -> Self {
        Self::open_with(&[]).await
    }

    pub async fn open_with(habits: &[Habit]) -> Self {
        let runs_scripts = !habits.contains(&Habit::NoScripts);
        let idle = {
            let mut idle = IDLE.lock().unwrap();
            let place = idle.iter().position(|running| running.runs_scripts == runs_scripts);
            place.map(|place| idle.swap_remove(place))
        };
        let running = match idle {
            Some(running) => running,
            None => Running::start(runs_scripts).await,
        };
        running.forget().await;
        let scheme = if habits.contains(&Habit::Dark) { "dark" } else { "light" };
        // A picture of a message that is on its way is of no use.
        let features = [("prefers-color-scheme", scheme), ("prefers-reduced-motion", "reduce")];
        let features = features.map(|(name, value)| json!({ "name": name, "value": value }));
        running.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        let browser = Self { client: running.client.clone(), running: Some(running) };
        let width = habits.iter().find_map(|habit| match habit {
            Habit::Width(width) => Some(*width),
            _ => None,
        });
        let (width, height) = width.map_or((900, 760), |width| (width, 800));
        browser.client.set_window_size(width, height).await.unwrap();
        assert_eq!(browser.evaluate("innerWidth").await, width);
        browser
    }

    pub async fn go(&self, app: &App, path: &str) {
        self.client.goto(&format!("{}{}", app.url, path.trim_start_matches('/'))).await.unwrap();
    }

    /// Waits until the elements that a selector finds have these texts: what is sent without a reload is answered
    /// later.
    pub async fn assert_texts(&self, selector: &str, expected: &[&str]) {
        let started = Instant::now();
        loop {
            let texts = self.texts(selector).await.unwrap_or_default();
            if texts == expected {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{selector}: {texts:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn assert_tasks(&self, expected: &[&str]) {
        self.assert_texts("td.name", expected).await;
    }

    /// Waits until the visitor is told this, and no more.
    pub async fn assert_told(&self, message: &str) {
        self.assert_texts("[role=status] p", &[message]).await;
    }

    /// Asserts which element has the focus, once an answer is shown.
    pub async fn assert_focus(&self, selector: &str) {
        let is_there = format!("document.activeElement.matches({})", json!(selector));
        let element = self.evaluate("document.activeElement.outerHTML").await;
        assert_eq!(self.evaluate(&is_there).await, true, "{selector} has the focus, not {element}");
    }

    /// Fails while the page is changing.
    pub async fn texts(&self, selector: &str) -> Result<Vec<String>, CmdError> {
        let mut texts = vec![];
        for element in self.client.find_all(Locator::Css(selector)).await? {
            texts.push(element.text().await?);
        }
        Ok(texts)
    }

    pub async fn click(&self, selector: &str) {
        self.client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
    }

    /// Removes a task by the button beside it.
    pub async fn remove(&self, name: &str) {
        self.click(&format!("[aria-label='Remove {name}']")).await;
    }

    /// Writes a name into the form.
    pub async fn write(&self, name: &str) {
        self.client.find(Locator::Id("name")).await.unwrap().send_keys(name).await.unwrap();
    }

    /// Writes a name into the form and sends it.
    pub async fn add(&self, name: &str) {
        self.write(&format!("{name}{}", char::from(Key::Enter))).await;
    }

    /// Presses keys in whatever has the focus, as somebody without a mouse does.
    pub async fn press(&self, keys: &str) {
        self.client.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    pub async fn press_key(&self, key: Key) {
        self.press(&char::from(key).to_string()).await;
    }

    pub async fn evaluate(&self, script: &str) -> Value {
        self.client.execute(&format!("return {script}"), vec![]).await.unwrap()
    }

    /// Runs statements at once, between which no answer can arrive.
    pub async fn run(&self, script: &str) {
        self.client.execute(script, vec![]).await.unwrap();
    }

    /// The path and the query that the browser shows.
    pub async fn path(&self) -> String {
        let url = self.client.current_url().await.unwrap();
        url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
    }

    /// Keeps a picture under `target/screenshots` for people to look at.
    pub async fn screenshot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../screenshots");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), self.client.screenshot().await.unwrap()).unwrap();
    }

    /// What the browser has complained of since it was asked last: errors, and what it was not allowed to load.
    pub async fn complaints(&self) -> Vec<String> {
        let running = self.running.as_ref().expect("it is in use");
        let log = running.ask("se/log", &json!({ "type": "browser" })).await;
        log.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// Asserts that the browser complained of nothing and asked nobody but the app.
    pub async fn assert_calm(&self, app: &App) {
        assert_eq!(self.complaints().await, [""; 0]);
        let names = self.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)").await;
        for name in names.as_array().unwrap() {
            assert!(name.as_str().unwrap().starts_with(&app.url), "{name} comes from elsewhere");
        }
    }

    /// Asserts that nothing is wider than the window.
    pub async fn assert_fits(&self) {
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(self.evaluate(overflow).await, 0);
    }

    /// Asserts that axe-core finds nothing on the page that keeps anybody from using it.
    pub async fn assert_accessible(&self, page: &str) {
        self.run(axe::source()).await;
        let violations = self.client.execute_async(axe::RUN, vec![]).await.unwrap();
        assert_eq!(violations, json!([]), "{page}");
    }
}

/// Starts a driver, and returns its URL; none if it ends before it listens.
fn start_driver(directory: &Path) -> Option<(Process, String)> {
    let mut command = Command::new(find("chromedriver"));
    command.arg("--port=0").env("TMPDIR", directory).stdout(Stdio::piped());
    let mut process = Process::start(&mut command, directory);
    let lines = BufReader::new(process.child().stdout.take().unwrap()).lines();
    let started = lines.map_while(Result::ok).find(|line| line.contains("started successfully on port"))?;
    let port = started.rsplit(' ').next().unwrap().trim_end_matches('.');
    Some((process, format!("http://127.0.0.1:{port}")))
}

fn options(directory: &Path, runs_scripts: bool) -> Value {
    let chromium = find_any(CHROMIUM);
    let mut arguments = vec!["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"];
    arguments.extend(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    let profile = format!("--user-data-dir={}/profile", directory.display());
    arguments.push(&profile);
    let scripts = if runs_scripts { 1 } else { 2 };
    let preferences = json!({ "profile.managed_default_content_settings.javascript": scripts });
    json!({ "binary": chromium, "args": arguments, "prefs": preferences })
}
