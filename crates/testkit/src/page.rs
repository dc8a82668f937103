//! A page, and what can be asserted of it.

use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use scraper::{Html, Selector};

pub struct Page {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Page {
    pub async fn read(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().await.unwrap() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// All cookies that the answer sets, with their attributes.
    pub fn cookies(&self) -> Vec<&str> {
        self.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect()
    }

    /// The cookie that the answer sets for the session.
    pub fn session_cookie(&self) -> Option<&str> {
        self.cookies().into_iter().find(|cookie| cookie.starts_with("sessionid="))
    }

    /// The texts of all elements that a selector finds.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let html = Html::parse_document(&self.body);
        let selector = Selector::parse(selector).unwrap();
        html.select(&selector).map(|element| element.text().collect::<String>().trim().to_owned()).collect()
    }

    /// The values of an attribute of all elements that a selector finds.
    pub fn attributes(&self, selector: &str, name: &str) -> Vec<String> {
        let html = Html::parse_document(&self.body);
        let selector = Selector::parse(selector).unwrap();
        html.select(&selector).filter_map(|element| element.attr(name)).map(Into::into).collect()
    }

    /// The names of the tasks listed, in order.
    pub fn tasks(&self) -> Vec<String> {
        self.texts("tr td.name")
    }

    /// The tasks listed with their ids, in order.
    pub fn listed(&self) -> Vec<(String, String)> {
        self.attributes("tr", "data-id").into_iter().zip(self.tasks()).collect()
    }

    /// What the visitor is told.
    pub fn messages(&self) -> Vec<String> {
        self.texts(".message p")
    }

    /// What the visitor is told that can be undone.
    pub fn can_be_undone(&self) -> Vec<String> {
        self.texts(".message:has(form[action='/undo'][method=post] button) p")
    }

    #[track_caller]
    pub fn assert_tells<const N: usize>(&self, messages: [String; N]) {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.messages(), Vec::from(messages));
    }

    pub fn id_of(&self, task: &str) -> String {
        let index = self.tasks().iter().position(|name| name == task);
        let index = index.unwrap_or_else(|| panic!("{task:?} is not among {:?}", self.tasks()));
        self.attributes("tr", "data-id").remove(index)
    }

    #[track_caller]
    pub fn assert_lists<const N: usize>(&self, tasks: [&str; N]) {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.tasks(), tasks);
    }

    /// Asserts a page in the site's look, not a bare status.
    #[track_caller]
    pub fn assert_error(&self, status: u16) {
        assert_eq!(
            (self.status, self.texts("p.status")),
            (status, vec![status.to_string()]),
            "{}",
            self.body
        );
        assert_eq!(self.texts("h1").len(), 1, "{}", self.body);
        assert_eq!(self.texts("a[href='/']").len(), 2, "the site's name, and the way back");
        assert_eq!(self.header("cache-control"), Some("no-store"));
    }
}
