//! A response that is replayed is the one that the site would give.

use reqwest::RequestBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::app::{App, Settings};
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;
use testkit::{eventually, wait_until};

/// What each response has of its own.
const OWN: [&str; 4] = ["x-request-id", "server-timing", "date", "cache-status"];

/// A response, as far as it is not one request's own.
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
    let mut headers: Vec<_> = headers.filter(|(name, _)| !OWN.contains(&&**name)).collect();
    headers.sort();
    let status = response.status().as_u16();
    Answer { status, headers, body: response.bytes().await.unwrap().into() }
}

async fn replayed(app: &App) -> u64 {
    app.metric("tasklist_http_answers_given_again_total").await
}

/// Compares a response that is replayed with that of the site, to a request that passes.
async fn check(app: &App, request: impl Fn() -> RequestBuilder, status: u16) {
    // Built or found, and then replayed.
    answer(request()).await;
    let before = replayed(app).await;
    let again = answer(request()).await;
    assert_eq!(replayed(app).await - before, 1, "{again:?}");
    // A request with a body passes, whatever is in it.
    let from_site = answer(request().body("something")).await;
    assert_eq!(replayed(app).await - before, 1, "this one is not");
    assert_eq!(again, from_site);
    assert_eq!(again.status, status);
}

#[tokio::test]
async fn a_response_that_is_replayed_is_that_of_the_site() {
    let app = App::start();
    app.add(&"Long ".repeat(50)).await;
    for (name, value) in [
        ("accept", "text/html"),
        ("accept-encoding", "br"),
        ("accept-encoding", "gzip;q=0.5, identity;q=0.1"),
        ("x-forwarded-proto", "https"),
        ("cookie", "theme=dark; sessionid=x"),
        ("if-none-match", "\"other\""),
    ] {
        check(&app, || app.request("GET", "/").header(name, value), 200).await;
    }
    check(&app, || app.request("GET", "/?page=7&other=1"), 200).await;
}

#[tokio::test]
async fn so_is_a_304() {
    let app = App::start();
    app.add(&"Long ".repeat(50)).await;
    for encoding in ["identity", "br"] {
        let request = || app.request("GET", "/").header("accept-encoding", encoding);
        let tag = request().send().await.unwrap().headers()["etag"].clone();
        for condition in [&[tag.as_bytes()][..], &[b"W/".as_slice(), tag.as_bytes(), b", \"x\""]] {
            let condition = condition.concat();
            check(&app, || request().header("if-none-match", &*condition), 304).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_replayed_where_something_else_counts() {
    let app = App::start();
    app.add("First").await;
    let page = app.get("/").await;
    for _ in 0..3 {
        app.get("/").await;
    }
    let before = replayed(&app).await;
    assert!(before > 0);
    let requests = [
        app.request("HEAD", "/"),
        app.request("POST", "/").header("sec-fetch-site", "same-origin"),
        app.request("GET", "/").body("something"),
        app.request("GET", "/").header("authorization", "Basic eDp5"),
        app.request("GET", "/").header("cookie", "theme=dark; message-test=1"),
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
    assert_eq!(replayed(&app).await, before);
    // A visitor with something of their own to see sees it.
    let visitor = Visitor::new();
    let shown = visitor.remove(&app, &page, "First").await;
    shown.assert_tells([words::removed("First")]);
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
    assert_eq!(replayed(&app).await, 20);
    app.post("/cache/clear", &[]).await;
    let page = app.get("/").await;
    assert_eq!(page.header("cache-status"), Some("tasklist; fwd=uri-miss; stored"));
}

/// Sends so many requests of this head on one connection, and returns all that is answered.
async fn send(app: &App, head: &str, times: usize) -> String {
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    let mut requests = format!("{head}\r\n\r\n").repeat(times - 1);
    requests += &format!("{head}\r\nconnection: close\r\n\r\n");
    let (mut answers, mut sink) = stream.split();
    let mut all = vec![];
    let (sent, read) = tokio::join!(sink.write_all(requests.as_bytes()), answers.read_to_end(&mut all));
    sent.unwrap();
    read.unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_request_that_names_its_host_in_another_way_passes() {
    let app = Settings::new().with("ALLOWED_HOSTS", "*").serve();
    app.add(&"Long ".repeat(50)).await;
    let head = |version: &str, lines: &str| format!("GET / HTTP/{version}{lines}");
    for (lines, status) in [("\r\nhost: a", 200), ("\r\nhost:", 200), ("", 400)] {
        for version in ["1.1", "1.0", "1.0", "1.0"] {
            let answer = send(&app, &head(version, lines), 1).await;
            let expected = format!("HTTP/{version} {status} ");
            assert!(answer.starts_with(&expected), "{lines:?}: {answer}");
        }
    }
    let before = replayed(&app).await;
    assert!(before > 0);
    for (lines, status) in [
        ("\r\nhost: a\r\nhost: a", 400),
        ("\r\nhost: a\r\nx-forwarded-proto: https\r\nx-forwarded-proto: http", 200),
    ] {
        for _ in 0..4 {
            let answer = send(&app, &head("1.1", lines), 1).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{lines:?}: {answer}");
            assert_eq!(answer.contains("strict-transport-security"), lines.contains("https"), "{answer}");
        }
    }
    for _ in 0..4 {
        let answer = send(&app, "GET http://b/ HTTP/1.1\r\nhost: a", 1).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(replayed(&app).await, before);
}

#[tokio::test]
async fn nothing_is_replayed_where_no_copies_are_kept() {
    for (name, value, strategy) in [
        ("CACHE_LOCAL", "off", "versioned"),
        ("CACHE_LOCAL", "off", "delete"),
        ("CACHE_URL", "dummy://", "versioned"),
        ("CACHE_URL", "dummy://", "delete"),
    ] {
        let app = Settings::new().with(name, value).with("CACHE_STRATEGY", strategy).serve();
        app.add("First").await;
        for _ in 0..4 {
            app.get("/").await.assert_lists(["First"]);
        }
        assert_eq!(replayed(&app).await, 0, "{name}={value} {strategy}");
    }
}

/// A site whose page is replayed, on a Postgres whose statements a test holds.
async fn on_held_database() -> (App, Proxy) {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(database.address()).await;
    let app = Settings::new().with("DATABASE_URL", &database.url_through(proxy.address)).serve();
    app.add("First").await;
    for _ in 0..3 {
        app.get("/").await;
    }
    assert!(replayed(&app).await > 0);
    wait_until("all are in the log", || app.output().matches(": answered ").count() == 5);
    (app, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_check_that_fails_is_not_repeated() {
    let (app, proxy) = on_held_database().await;
    let calls = app.metric("tasklist_gate_calls_total").await;
    proxy.hold("");
    app.get("/").await.assert_error(503);
    assert_eq!(app.metric("tasklist_gate_calls_total").await - calls, 1);
    // The response may arrive before its log line.
    eventually("it is in the log", async || app.output().contains("status=503")).await;
    let output = app.output();
    assert_eq!(output.lines().filter(|line| line.contains("ERROR")).count(), 1, "{output}");
    proxy.release();
    eventually("there is a page again", async || app.get("/").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_during_the_version_check_is_in_the_log() {
    let (app, proxy) = on_held_database().await;
    proxy.hold("");
    let mut client = TcpStream::connect(app.address()).await.unwrap();
    // As those before, whose response is replayed.
    let head = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", app.address());
    let lines = app.output().lines().count();
    client.write_all(head.as_bytes()).await.unwrap();
    proxy.wait_for_held().await;
    drop(client);
    let said = ": left unanswered method=GET path=\"/\" status=499 took_ms=";
    wait_until("there is a line", || app.output().contains(said));
    assert_eq!(app.output().lines().count(), lines + 1, "and no other");
    proxy.release();
    eventually("others get their page", async || app.get("/").await.status == 200).await;
}

#[tokio::test]
async fn of_many_that_are_replayed_some_have_a_line_and_the_others_are_counted() {
    let app = App::start();
    app.add("First").await;
    let said = || {
        let output = app.output();
        let lines = output.lines().filter(|line| line.contains("answered again, without a line for each"));
        let counts = lines.map(|line| line.rsplit_once("count=").unwrap().1.parse::<usize>().unwrap());
        counts.sum::<usize>()
    };
    eventually("there were more than have a line", async || {
        let answers = send(&app, "GET / HTTP/1.1\r\nhost: localhost", 500).await;
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 500);
        said() > 0
    })
    .await;
    let replays = usize::try_from(replayed(&app).await).unwrap();
    let said = said();
    let (_, output) = app.interrupt();
    let lines = output.lines().filter(|line| line.contains("detail=\"local\"")).count();
    assert!(lines + said <= replays + 10, "{lines} lines, {said} without, of {replays}");
}
