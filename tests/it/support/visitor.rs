//! A visitor with a browser of their own: it keeps the cookies that it is given, brings them along, and goes where it
//! is led.

use std::sync::Mutex;

use reqwest::RequestBuilder;

use super::app::App;
use super::jar::Jar;
use testkit::page::Page;

/// The site has one name, whichever process answers: pages are kept by it.
const HOST: &str = "localhost";

#[derive(Default)]
pub struct Visitor {
    jar: Mutex<Jar>,
}

impl Visitor {
    /// A stranger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Somebody whose browser has this cookie for a session, wherever it comes from.
    pub fn with_cookie(value: &str) -> Self {
        let visitor = Self::new();
        visitor.set("sessionid", value);
        visitor
    }

    /// As [`with_cookie`](Self::with_cookie), and the browser has been told that a message waits.
    pub fn expecting(value: &str) -> Self {
        let visitor = Self::with_cookie(value);
        visitor.expect_message();
        visitor
    }

    /// From now on the browser has an announcement, whether there is a message or not.
    pub fn expect_message(&self) {
        self.set("message-test", "1");
    }

    fn set(&self, name: &str, value: &str) {
        self.jar.lock().unwrap().0.insert(name.to_owned(), value.to_owned());
    }

    /// The value of the session's cookie.
    pub fn cookie(&self) -> Option<String> {
        self.jar.lock().unwrap().0.get("sessionid").cloned()
    }

    /// The names of the cookies that announce messages.
    pub fn announcements(&self) -> Vec<String> {
        let jar = self.jar.lock().unwrap();
        jar.0.keys().filter(|name| name.starts_with("message-")).cloned().collect()
    }

    /// Loses the session's cookie.
    pub fn lose_session(&self) {
        self.jar.lock().unwrap().0.remove("sessionid");
    }

    /// Loses the announcements.
    pub fn lose_announcements(&self) {
        self.jar.lock().unwrap().0.retain(|name, _| !name.starts_with("message-"));
    }

    /// The session's id, which the cookie begins with.
    pub fn id(&self) -> Option<String> {
        Some(self.cookie()?.split_once('.').unwrap().0.to_owned())
    }

    pub fn request(&self, app: &App, method: &str, path: &str) -> RequestBuilder {
        self.jar.lock().unwrap().bring(app.request(method, path).header("host", HOST))
    }

    /// Sends a request and does with its answer what a browser does with cookies.
    pub async fn send(&self, request: RequestBuilder) -> Page {
        let page = Page::read(request).await;
        self.keep(&page);
        page
    }

    pub fn keep(&self, page: &Page) {
        self.jar.lock().unwrap().keep(&page.headers);
    }

    pub async fn get(&self, app: &App, path: &str) -> Page {
        self.send(self.request(app, "GET", path)).await
    }

    /// Sends a form and stays there.
    pub async fn post(&self, app: &App, path: &str, form: &[(&str, &str)]) -> Page {
        self.send(self.request(app, "POST", path).form(form)).await
    }

    /// Adds a task and returns the page that the browser is led to.
    pub async fn add(&self, app: &App, name: &str) -> Page {
        let answer = self.post(app, "/add", &[("name", name)]).await;
        self.follow(app, &answer).await
    }

    /// Removes the task of this name from the page.
    pub async fn remove(&self, app: &App, page: &Page, name: &str) -> Page {
        let answer = self.post(app, "/remove", &[("id", &page.id_of(name))]).await;
        self.follow(app, &answer).await
    }

    pub async fn undo(&self, app: &App) -> Page {
        let answer = self.post(app, "/undo", &[]).await;
        self.follow(app, &answer).await
    }

    pub async fn follow(&self, app: &App, answer: &Page) -> Page {
        assert_eq!(answer.status, 303, "{}", answer.body);
        self.get(app, answer.header("location").unwrap()).await
    }
}
