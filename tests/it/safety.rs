//! Refusals.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::app::{App, Settings};
use testkit::page::Page;

#[tokio::test]
async fn only_allowed_hosts_are_served() {
    let app = Settings::new().with("ALLOWED_HOSTS", ".example.com,localhost").serve();
    for (host, status) in [
        ("www.example.com", 200),
        ("EXAMPLE.com:8000", 200),
        ("localhost", 200),
        ("127.0.0.1", 400),
        ("example.com.evil.net", 400),
        ("example.com:80@evil.net", 400),
        ("", 400),
    ] {
        let page = Page::read(app.request("GET", "/").header("host", host)).await;
        assert_eq!(page.status, status, "{host}");
    }
}

#[tokio::test]
async fn probes_answer_under_any_host() {
    let app = App::start();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(Page::read(app.request("GET", path).header("host", "10.1.2.3")).await.status, 200);
    }
}

#[tokio::test]
async fn a_probe_tells_strangers_no_versions_and_addresses() {
    let settings = Settings::new().with("MEMCACHIER_SERVERS", "127.0.0.1:1");
    let body = settings.clone().with("DEBUG", "False").serve().get("/readyz").await.body;
    assert_eq!(body, "database: ok\ncache: failed\n");
    let body = settings.serve().get("/readyz").await.body;
    assert!(body.contains("SQLite 3") && body.contains("127.0.0.1:1"), "{body}");
}

#[tokio::test]
async fn a_form_from_another_site_is_refused() {
    let app = App::start();
    let own = app.url.trim_end_matches('/').to_owned();
    let cases = [
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("sec-fetch-site", "same-site")], 403),
        (vec![("origin", "https://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("sec-fetch-site", "same-origin")], 303),
        (vec![("origin", own.as_str())], 303),
        (vec![], 303),
    ];
    for (headers, status) in cases {
        let mut request = app.request("POST", "/add").form(&[("name", "x")]);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let page = Page::read(request).await;
        assert_eq!(page.status, status, "{headers:?}");
        if status == 403 {
            page.assert_error(403);
        }
    }
    assert_eq!(app.get("/").await.tasks().len(), 3);
}

#[tokio::test]
async fn every_response_has_the_security_headers() {
    let app = App::start();
    for page in [app.get("/").await, app.get("/nowhere").await, app.get("/healthz").await] {
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'"),
            "{policy}"
        );
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        assert_eq!(page.header("referrer-policy"), Some("same-origin"));
        assert_eq!(page.header("strict-transport-security"), None);
    }
    let page = Page::read(app.request("GET", "/").header("x-forwarded-proto", "https")).await;
    assert_eq!(page.header("strict-transport-security"), Some("max-age=31536000"));
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused_whether_it_says_so_or_not() {
    let app = App::start();
    let form = |bytes: usize| format!("name={}", "x".repeat(bytes));
    let request = || app.request("POST", "/add").header("content-type", "application/x-www-form-urlencoded");
    Page::read(request().body(form(64 * 1024))).await.assert_error(413);
    assert_eq!(
        Page::read(request().body(form(60 * 1024))).await.status,
        422,
        "it is read, and the name too long"
    );
    let chunked = chunked_post(app.address(), &form(100 * 1024));
    assert!(chunked.starts_with("HTTP/1.1 413 "), "{chunked}");
}

/// Sends a body without its length.
fn chunked_post(address: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /add HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server may answer and close before it has read all.
    let _ = write!(stream, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn other_methods_get_the_list_of_allowed_ones() {
    let app = App::start();
    for (method, path, allowed) in
        [("PUT", "/add", "POST"), ("GET", "/remove", "POST"), ("POST", "/", "GET,HEAD")]
    {
        let page = Page::read(app.request(method, path)).await;
        page.assert_error(405);
        assert_eq!(page.header("allow"), Some(allowed), "{method} {path}");
    }
    let head = Page::read(app.request("HEAD", "/")).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn only_developers_see_why() {
    let detail = "host \"evil.example\" is not in ALLOWED_HOSTS (127.0.0.1, localhost, [::1])";
    for (debug, details) in [("True", vec![detail.to_owned()]), ("False", vec![])] {
        let app = Settings::new().with("DEBUG", debug).serve();
        let page = Page::read(app.request("GET", "/").header("host", "evil.example")).await;
        page.assert_error(400);
        assert_eq!(page.texts("pre"), details);
    }
}
