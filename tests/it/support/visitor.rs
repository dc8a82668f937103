//! A visitor with a browser of their own: it keeps the cookie that it is given, brings it along, and goes where it is
//! led.

use std::sync::Mutex;

use reqwest::RequestBuilder;

use super::app::App;
use testkit::page::Page;

/// The site has one name, whichever process answers: pages are kept by it.
const HOST: &str = "localhost";

#[derive(Default)]
pub struct Visitor {
    cookie: Mutex<Option<String>>,
}

impl Visitor {
    /// A stranger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Somebody whose browser has this cookie, wherever it comes from.
    pub fn with_cookie(value: &str) -> Self {
        Self { cookie: Mutex::new(Some(value.to_owned())) }
    }

    /// The cookie's value.
    pub fn cookie(&self) -> Option<String> {
        self.cookie.lock().unwrap().clone()
    }

    /// The session's id, which the cookie begins with.
    pub fn id(&self) -> Option<String> {
        Some(self.cookie()?.split_once('.').unwrap().0.to_owned())
    }

    pub fn request(&self, app: &App, method: &str, path: &str) -> RequestBuilder {
        let request = app.request(method, path).header("host", HOST);
        match self.cookie() {
            Some(value) => request.header("cookie", format!("sessionid={value}")),
            None => request,
        }
    }

    /// Sends a request and does with its answer what a browser does with cookies.
    pub async fn send(&self, request: RequestBuilder) -> Page {
        let page = Page::read(request).await;
        self.keep(&page);
        page
    }

    fn keep(&self, page: &Page) {
        let Some(cookie) = page.header("set-cookie") else { return };
        let value = cookie.split(';').next().unwrap().strip_prefix("sessionid=").unwrap();
        let is_taken = cookie.split("; ").any(|attribute| attribute == "Max-Age=0");
        *self.cookie.lock().unwrap() = (!is_taken).then(|| value.to_owned());
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
