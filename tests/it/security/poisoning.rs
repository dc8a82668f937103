//! No request of one visitor changes the page of another: cache keys have everything that a page depends on.

use super::{STRATEGIES, raw};
use crate::support::app::{App, Settings};
use crate::support::session::Session;
use testkit::page::Page;

/// The headers that differ between responses.
const OF_ONE_ANSWER: [&str; 5] = ["age", "cache-status", "date", "server-timing", "x-request-id"];

/// Headers that change what some sites answer, and are in no cache's key there.
const HEADERS: [(&str, &str); 27] = [
    ("accept", "application/json"),
    ("accept-encoding", "br"),
    ("accept-encoding", "gzip;q=0.5, identity;q=0"),
    ("accept-language", "evil"),
    ("authorization", "Basic ZXZpbDpldmls"),
    ("cache-control", "only-if-cached, max-age=0"),
    ("cookie", "sessionid=evil.evil.evil; evil=1"),
    ("forwarded", "host=evil.example;proto=https"),
    ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),
    ("if-none-match", "*"),
    ("if-range", "\"evil\""),
    ("origin", "https://evil.example"),
    ("range", "bytes=0-9"),
    ("referer", "https://evil.example/"),
    ("sec-fetch-site", "cross-site"),
    ("sec-purpose", "prefetch"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", "<script>evil</script>"),
    ("x-forwarded-for", "evil"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-port", "666"),
    ("x-forwarded-prefix", "/evil"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-scheme", "nothttps"),
    ("x-http-method-override", "POST"),
    ("x-original-url", "/evil"),
    ("x-rewrite-url", "/evil"),
];

/// Targets that some sites take for the list, or for another page.
const TARGETS: [&str; 16] = [
    "/?utm_source=evil",
    "/?evil=%3Cscript%3E",
    "/?page=1&page=2",
    "/?page=2",
    "/?PAGE=2",
    "/?page=1;page=2",
    "/?page=%31",
    "/?%70age=2",
    "/?callback=evil",
    "/?_method=DELETE",
    "//",
    "/.",
    "/%2e",
    "/%2F",
    "/index.html",
    "/;evil",
];

/// An answer, without what belongs to it alone.
fn compared(page: &Page) -> (u16, Vec<(String, String)>, &str) {
    let headers = page.headers.iter().filter(|(name, _)| !OF_ONE_ANSWER.contains(&name.as_str()));
    let text = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    let mut headers: Vec<_> = headers.map(text).collect();
    headers.sort();
    (page.status, headers, &page.body)
}

/// A site, and the same without a cache, whose pages are the expected ones.
struct Twins {
    site: App,
    uncached: App,
    changes: usize,
}

impl Twins {
    /// With two pages of tasks, so that one could be shown for the other.
    async fn start(strategy: &str) -> Self {
        let settings = Settings::new().with("CACHE_STRATEGY", strategy).with("DEBUG", "False");
        let uncached = settings.clone().with("CACHE_URL", "dummy://").serve();
        let site = settings.serve();
        let database = settings.directory().join("db.sqlite3");
        let mut session = Session::open(&format!("sqlite://{}", database.display())).await;
        let numbers =
            "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 120)";
        session
            .execute(&format!("{numbers} insert into tasks (name) select 'number ' || n from numbers"))
            .await;
        Self { site, uncached, changes: 0 }
    }

    /// Sends a request first after a change, and others after it.
    async fn check(&mut self, what: &str, attack: impl AsyncFnOnce(&App)) {
        self.changes += 1;
        self.site.post("/add", &[("name", &format!("task {}", self.changes))]).await;
        attack(&self.site).await;
        for look in ["the first", "the second"] {
            let shown = self.site.get_from("localhost", "/").await;
            let right = self.uncached.get_from("localhost", "/").await;
            assert_eq!(right.tasks()[0], "number 1");
            assert_eq!(compared(&shown), compared(&right), "{look} after {what}");
        }
    }
}

fn ask(app: &App, method: &str, target: &str) -> reqwest::RequestBuilder {
    app.request(method, target).header("host", "localhost")
}

#[tokio::test]
async fn no_header_of_one_visitor_changes_the_page_of_another() {
    let mut twins = Twins::start("versioned").await;
    for (name, value) in HEADERS {
        twins
            .check(&format!("{name}: {value}"), async |site| {
                drop(ask(site, "GET", "/").header(name, value).send().await.unwrap());
            })
            .await;
    }
}

#[tokio::test]
async fn all_of_them_together_change_nothing_with_any_strategy() {
    for strategy in STRATEGIES.into_iter().filter(|strategy| *strategy != "expire") {
        let mut twins = Twins::start(strategy).await;
        let all = "all headers";
        twins
            .check(all, async |site| {
                let request = ask(site, "GET", "/");
                let request =
                    HEADERS.iter().fold(request, |request, (name, value)| request.header(*name, *value));
                drop(request.send().await.unwrap());
            })
            .await;
    }
}

#[tokio::test]
async fn no_method_body_or_target_of_one_visitor_changes_the_page_of_another() {
    let mut twins = Twins::start("versioned").await;
    for method in ["HEAD", "OPTIONS", "TRACE", "PURGE", "BAN"] {
        twins.check(method, async |site| drop(ask(site, method, "/").send().await.unwrap())).await;
    }
    let form = "page=2&name=evil&_method=POST";
    twins
        .check("a GET with a body", async |site| {
            let request = ask(site, "GET", "/").body(form);
            drop(request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap());
        })
        .await;
    for target in TARGETS {
        twins
            .check(target, async |site| {
                let head = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n");
                assert_ne!(raw(site, head.as_bytes()), "", "{target} is answered");
            })
            .await;
    }
}

#[tokio::test]
async fn one_host_is_not_shown_the_page_of_another() {
    let mut twins = Twins::start("versioned").await;
    for head in [
        "GET / HTTP/1.1\r\nhost: evil.example\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n",
        "GET / HTTP/1.1\r\nhost: localhost:evil\r\n",
        "GET / HTTP/1.1\r\nhost: evil.example@localhost\r\n",
        "GET / HTTP/1.1\r\nhost: localhost/?evil.example\r\n",
        "GET / HTTP/1.1\r\nhost:\r\n",
    ] {
        twins
            .check(head, async |site| {
                let answer = raw(site, head.as_bytes());
                assert!(answer.starts_with("HTTP/1.1 400 "), "{head}: {answer}");
            })
            .await;
    }
}

#[tokio::test]
async fn no_redirect_leads_to_another_site() {
    let app = App::start();
    let evil = "https://evil.example/";
    let id = app.add("milk").await.id_of("milk");
    for (path, form) in [
        ("/add", vec![("name", "x"), ("next", evil), ("page", evil)]),
        ("/remove", vec![("id", id.as_str()), ("next", evil), ("page", evil)]),
        ("/remove", vec![("id", "666"), ("next", evil)]),
        ("/undo", vec![("next", evil)]),
        ("/add?next=https://evil.example/&page=//evil.example", vec![("name", "y")]),
    ] {
        let request = app.request("POST", path).form(&form).header("x-forwarded-host", "evil.example");
        let answer = Page::read(request.header("referer", app.url.clone() + "/evil.example")).await;
        let place = answer.header("location").unwrap();
        assert_eq!((answer.status, place.starts_with('/')), (303, true), "{path}: {place}");
        assert!(!place.contains("evil") && !place.starts_with("//"), "{path}: {place}");
    }
    let answer = raw(&app, b"GET //evil.example/ HTTP/1.1\r\nhost: localhost\r\n");
    assert!(answer.starts_with("HTTP/1.1 ") && !answer.contains("\r\nlocation"), "{answer}");
}
