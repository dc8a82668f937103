//! The log: a line for each request, with the facts that an operator needs and without secrets.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::app::{App, Settings};
use crate::support::visitor::Visitor;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::upstream::{Reply, Upstream};
use testkit::wait_until;

fn json() -> Settings {
    Settings::new().with("LOG_FORMAT", "json")
}

/// Stops the app and returns the lines of its log.
fn objects(app: App) -> Vec<Value> {
    let (_, output) = app.interrupt();
    output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn answers(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["message"] == "answered").collect()
}

#[tokio::test]
async fn a_request_is_one_line_that_can_be_read() {
    let app = App::start();
    for path in ["/?utm=1", "/?utm=1", "/nowhere"] {
        app.get(path).await;
    }
    let (_, output) = app.interrupt();
    let lines: Vec<_> = output.lines().filter(|line| line.contains("answered")).collect();
    let ends = ["cache=fwd=uri-miss; stored", "detail=\"local\"", ""];
    for ((line, path), end) in lines.iter().zip(["/", "/", "/nowhere"]).zip(ends) {
        let status = if path == "/" { 200 } else { 404 };
        let said = format!(": answered method=GET path=\"{path}\" status={status} took_ms=");
        assert!(line.contains(" INFO request{id=\"") && line.contains(&said), "{line}");
        assert!(line.ends_with(end), "{line}");
    }
    assert_eq!(lines.len(), 3, "{output}");
}

#[tokio::test]
async fn in_json_a_line_is_an_object_with_the_same_fields() {
    let app = json().serve();
    app.get("/").await;
    app.get("/nowhere").await;
    let lines = objects(app);
    let answers = answers(&lines);
    let [listed, missing] = answers[..] else { panic!("{answers:?}") };
    assert_eq!(
        (&listed["method"], &listed["path"], &listed["status"]),
        (&"GET".into(), &"/".into(), &200.into())
    );
    assert_eq!((&listed["level"], &listed["cache"]), (&"INFO".into(), &"fwd=uri-miss; stored".into()));
    assert!(listed["took_ms"].is_f64() && listed["timestamp"].is_string(), "{listed}");
    assert_eq!((&missing["status"], &missing["cache"]), (&404.into(), &Value::Null));
}

#[tokio::test]
async fn all_lines_of_a_request_have_its_id_and_so_has_the_response() {
    let app = json().serve();
    let mut ids = vec![];
    for name in ["One", "Two"] {
        let answer = app.post("/add", &[("name", name)]).await;
        ids.push(answer.header("x-request-id").unwrap().to_owned());
    }
    app.request("POST", "/add").header("sec-fetch-site", "cross-site").send().await.unwrap();
    let lines = objects(app);
    let of = |message: &str| -> Vec<&str> {
        let lines = lines.iter().filter(|line| line["message"].as_str().unwrap().starts_with(message));
        lines.map(|line| line["span"]["id"].as_str().unwrap()).collect()
    };
    assert_eq!(of("task added"), ids);
    assert_eq!(of("answered")[..2], ids);
    assert_eq!(of("refused: "), of("answered")[2..]);
    assert_eq!(of("answered").into_iter().collect::<BTreeSet<_>>().len(), 3);
}

#[tokio::test]
async fn a_warning_names_its_request_too() {
    let api = "http://127.0.0.1:1/";
    let app = Settings::new().with("API_URL", api).with("RUST_LOG", "error").serve();
    let page = app.get("/apicalls").await;
    assert_eq!(page.status, 502);
    let id = page.header("x-request-id").unwrap().to_owned();
    let (_, output) = app.interrupt();
    let line = output.lines().find(|line| line.contains("ERROR")).unwrap();
    assert!(line.contains(&format!("request{{id=\"{id}\"}}")), "{line}");
}

#[tokio::test]
async fn a_reverse_proxy_may_choose_the_id_of_a_request() {
    let app = App::start();
    let id_of = async |given: &str| {
        let page = Page::read(app.request("GET", "/").header("x-request-id", given)).await;
        page.header("x-request-id").unwrap().to_owned()
    };
    let longest = "a".repeat(64);
    for plain in ["8b1a5bd0-2d06-4b1e-a9a7-0c2d44a0a4f1", "x_1", &longest] {
        assert_eq!(id_of(plain).await, plain);
    }
    for odd in ["", &"a".repeat(65), "a b", "a\"b", "a\tb", "<b>", "a}: forged", "ä"] {
        let id = id_of(odd).await;
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{odd:?} became {id}");
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_at_any_level() {
    let memcached = Memcached::start_with_sasl();
    for format in ["text", "json"] {
        let settings = Settings::new().with_login(&memcached).with("LOG_FORMAT", format);
        let key = "the-key-that-signs-all-cookies-of-the-site";
        let app = settings.with("RUST_LOG", "trace").with("SECRET_KEY", key).serve();
        let visitor = Visitor::new();
        let page = visitor.add(&app, "typed-into-the-form").await;
        visitor.remove(&app, &page, "typed-into-the-form").await;
        visitor.undo(&app).await;
        visitor.get(&app, "/?page=1&q=asked-for").await;
        visitor.get(&app, "/nowhere?q=asked-for").await;
        let cookie = visitor.cookie().unwrap();
        visitor.send(visitor.request(&app, "GET", "/").header("x-forwarded-for", "192.0.2.7")).await;
        let (_, output) = app.interrupt();
        assert!(output.contains("TRACE") || output.contains("DEBUG"), "{output}");
        let id = cookie.split('.').next().unwrap();
        let signature = cookie.rsplit('.').next().unwrap();
        for secret in ["typed-into-the-form", "asked-for", key, id, signature, "sesame", "192.0.2.7"] {
            assert!(!output.contains(secret), "{secret} in {output}");
        }
    }
}

/// Sends bytes as no client of ours would, and waits for the answer.
async fn send(app: &App, head: &[u8]) {
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    stream.write_all(head).await.unwrap();
    let _ = stream.read_to_end(&mut vec![]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_response_is_logged_and_counted() {
    let upstream = Upstream::start(|_, _| Reply::Nothing).await;
    let app = Settings::new().with("API_URL", &upstream.url()).serve();
    let mut client = TcpStream::connect(app.address()).await.unwrap();
    client.write_all(b"GET /apicalls?secret=1 HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    wait_until("the service is asked", || upstream.calls() == 1);
    drop(client);
    let said = ": left unanswered method=GET path=\"/apicalls\" status=499 took_ms=";
    wait_until("there is a line", || app.output().contains(said));
    let metrics = app.get("/metrics").await.body;
    assert!(metrics.contains("tasklist_http_requests_total{status=\"4xx\"} 1"), "{metrics}");
}

#[tokio::test]
async fn no_request_can_forge_a_line_or_fill_the_log() {
    for format in ["text", "json"] {
        let app = Settings::new().with("LOG_FORMAT", format).serve();
        let quiet = app.output().lines().count();
        let end = b"\r\nconnection: close\r\n\r\n";
        for head in [
            "GET /%0aFORGED%1b[2J HTTP/1.1\r\nhost: localhost",
            "GET /\u{85}FORGED\u{2028}\u{202e}\u{9b}2J HTTP/1.1\r\nhost: localhost",
            "GET / HTTP/1.1\r\nhost: a\tFORGED",
            "GET / HTTP/1.1\r\nhost: \u{85}FORGED",
            "GET http://x\u{1b}FORGED/ HTTP/1.1\r\nhost: localhost",
        ] {
            send(&app, &[head.as_bytes(), end].concat()).await;
        }
        let path = "x".repeat(20_000);
        send(&app, &[format!("GET /{path} HTTP/1.1\r\nhost: localhost").as_bytes(), end].concat()).await;
        send(&app, &[format!("{path} / HTTP/1.1\r\nhost: localhost").as_bytes(), end].concat()).await;
        let (_, output) = app.interrupt();
        for line in output.lines().skip(quiet) {
            let begins =
                if format == "text" { line.starts_with("20") } else { line.starts_with("{\"timestamp") };
            assert!(begins && line.len() < 600, "{line}");
            assert!(!line.contains(['\u{1b}', '\r', '\t']), "{line:?}");
            let is_plain = !line.contains(['\u{85}', '\u{9b}', '\u{2028}', '\u{202e}']);
            assert!(is_plain || format == "json", "{line:?}");
        }
    }
}

#[tokio::test]
async fn polled_paths_are_logged_at_debug() {
    for (level, expected) in [("info", 1), ("debug", 5)] {
        let app = json().with("RUST_LOG", level).serve();
        for path in ["/healthz", "/readyz", "/metrics", "/cache.json", "/nowhere"] {
            app.get(path).await;
        }
        assert_eq!(answers(&objects(app)).len(), expected, "{level}");
    }
}
