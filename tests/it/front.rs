//! An answer that is given again at the door is the one that the site would give.

use reqwest::RequestBuilder;

use crate::support::app::{App, Settings};
use crate::support::visitor::Visitor;

/// What each answer has of its own.
const OWN: [&str; 3] = ["x-request-id", "server-timing", "date"];

/// An answer, as far as it is not one request's own.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
    // Of how long a page still lives a second may pass.
    let headers = headers.map(|(name, value)| match value.split_once("ttl=") {
        Some((before, after)) => (name, format!("{before}{}", after.trim_start_matches(char::is_numeric))),
        None => (name, value),
    });
    let mut headers: Vec<_> = headers.filter(|(name, _)| !OWN.contains(&&**name)).collect();
    headers.sort();
    let status = response.status().as_u16();
    Answer { status, headers, body: response.bytes().await.unwrap().into() }
}

async fn given_again(app: &App) -> u64 {
    app.metric("tasklist_http_answers_given_again_total").await
}

/// Compares what is given again with what the site gives to somebody who is let in.
async fn check(app: &App, request: impl Fn() -> RequestBuilder, status: u16) {
    // Built or found, then this process's own copy, then given again.
    for _ in 0..2 {
        answer(request()).await;
    }
    let before = given_again(app).await;
    let again = answer(request()).await;
    assert_eq!(given_again(app).await - before, 1, "{again:?}");
    // Nothing is known of this purpose, but whoever has any is let in.
    let from_site = answer(request().header("sec-purpose", "none")).await;
    assert_eq!(given_again(app).await - before, 1, "this one is not");
    assert_eq!(again, from_site);
    assert_eq!(again.status, status);
}

#[tokio::test]
async fn an_answer_given_again_is_that_of_the_site() {
    let app = App::start();
    app.add(&"Long ".repeat(50)).await;
    for (name, value) in [
        ("accept", "text/html"),
        ("accept-encoding", "br"),
        ("accept-encoding", "gzip;q=0.5, identity;q=0.1"),
        ("x-forwarded-proto", "https"),
        ("cookie", "theme=dark"),
        ("if-none-match", "\"other\""),
    ] {
        check(&app, || app.request("GET", "/").header(name, value), 200).await;
    }
    check(&app, || app.request("GET", "/?page=7&other=1"), 200).await;
}

#[tokio::test]
async fn so_is_one_that_says_that_nothing_has_changed() {
    let app = App::start();
    app.add(&"Long ".repeat(50)).await;
    for encoding in ["identity", "br"] {
        let request = || app.request("GET", "/").header("accept-encoding", encoding);
        let tag = request().send().await.unwrap().headers()["etag"].clone();
        // A condition that is met leads to no copy, so there must be one.
        answer(request()).await;
        answer(request()).await;
        for condition in [&[tag.as_bytes()][..], &[b"W/".as_slice(), tag.as_bytes(), b", \"x\""]] {
            let condition = condition.concat();
            let ask = || request().header("if-none-match", &*condition).header("x-forwarded-proto", "http");
            answer(request().header("x-forwarded-proto", "http")).await;
            answer(request().header("x-forwarded-proto", "http")).await;
            check(&app, ask, 304).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_given_again_where_something_else_counts() {
    let app = App::start();
    app.add("First").await;
    let page = app.get("/").await;
    for _ in 0..3 {
        app.get("/").await;
    }
    let before = given_again(&app).await;
    assert!(before > 0);
    let requests = [
        app.request("HEAD", "/"),
        app.request("POST", "/").header("sec-fetch-site", "same-origin"),
        app.request("GET", "/").body("something"),
        app.request("GET", "/").header("authorization", "Basic eDp5"),
        app.request("GET", "/").header("cookie", "theme=dark; sessionid=x"),
        app.request("GET", "/").header("if-match", "\"other\""),
        app.request("GET", "/?page=1"),
        app.request("GET", "/").header("host", "localhost"),
        app.request("GET", "/").header("host", "elsewhere.example"),
        app.request("GET", "/").header("x-forwarded-proto", "https"),
        app.request("GET", "/").header("accept-encoding", "gzip"),
    ];
    for request in requests {
        request.send().await.unwrap();
    }
    assert_eq!(given_again(&app).await, before);
    // Whoever has something of their own to be shown is shown it.
    let visitor = Visitor::new();
    let shown = visitor.remove(&app, &page, "First").await;
    shown.assert_tells(["Removed “First”."]);
}

#[tokio::test]
async fn a_change_is_seen_at_once_and_so_is_an_empty_cache() {
    let app = Settings::new().with("ADMIN_PASSWORD", "sesame").serve();
    for number in 1..=5 {
        app.add(&format!("Task {number}")).await;
        for _ in 0..4 {
            assert_eq!(app.get("/").await.tasks().len(), number);
        }
    }
    assert_eq!(given_again(&app).await, 15);
    app.post("/cache/clear", &[]).await;
    let page = app.get("/").await;
    assert_eq!(page.header("cache-status"), Some("tasklist; fwd=uri-miss; stored"));
}
