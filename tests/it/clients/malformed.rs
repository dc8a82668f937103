//! Invalid requests, and requests that can be taken for two.

use super::Client;
use crate::support::app::App;

/// Sends something on a connection of its own and returns all statuses that come back until it is closed.
async fn statuses(app: &App, sent: &[u8]) -> Vec<u16> {
    let mut client = Client::connect(app).await;
    // The server may have seen enough before all is sent.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, sent).await;
    let said = client.rest().await;
    let statuses = said.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5));
    statuses.map(|status| status.parse().unwrap_or_else(|_| panic!("{said}"))).collect()
}

fn get(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n\r\n").into_bytes()
}

fn chunked(lines: &str, body: &str) -> Vec<u8> {
    let form = "content-type: application/x-www-form-urlencoded";
    format!("POST /add HTTP/1.1\r\nhost: localhost\r\n{form}\r\n{lines}\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn an_invalid_request_is_refused_and_its_connection_closed() {
    let app = App::start();
    let long = "x".repeat(20_000);
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("a method of other characters", b"G@T / HTTP/1.1\r\nhost: localhost\r\n\r\n".into(), &[400]),
        ("another version", b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n".into(), &[400]),
        ("no version", b"GET /\r\n\r\n".into(), &[400]),
        ("a NUL in the target", b"GET /\0 HTTP/1.1\r\nhost: localhost\r\n\r\n".into(), &[400]),
        ("a NUL in a header", get("x: a\0b"), &[400]),
        ("a NUL in a name", get("x\0: a"), &[400]),
        ("a CR alone", get("x: a\rb"), &[400]),
        ("a blank before the colon", get("x : a"), &[400]),
        ("no name", get(": a"), &[400]),
        ("a header over two lines", get("x: a\r\n b"), &[400]),
        ("a long header", get(&format!("x: {long}")), &[431]),
        ("a long name", get(&format!("{long}: x")), &[431]),
        ("many headers", get(many.trim_end()), &[431]),
        ("a long target", format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n").into(), &[431]),
        ("a long method", long.clone().into(), &[431]),
        ("lengths that differ", get("content-length: 1\r\ncontent-length: 2"), &[400]),
        ("two lengths in one", get("content-length: 1, 2"), &[400]),
        ("a negative length", get("content-length: -1"), &[400]),
        ("a length with a sign", get("content-length: +1"), &[400]),
        ("a length beyond all numbers", get("content-length: 99999999999999999999"), &[400]),
        ("another encoding", get("transfer-encoding: gzip"), &[400]),
        ("an encoding after chunks", get("transfer-encoding: chunked, gzip"), &[400]),
        ("chunks in HTTP/1.0", b"POST /add HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n".into(), &[400]),
        ("a TLS hello", [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 508]].concat(), &[400]),
        ("bytes", (0..=255).cycle().skip(128).take(100_000).collect(), &[400]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".into(), &[]),
    ];
    for (what, sent, expected) in &cases {
        assert_eq!(statuses(&app, sent).await, *expected, "{what}");
    }
    assert_eq!(app.get("/").await.status, 200);
    let malformed = app.metric("tasklist_http_connections_cut_total{cause=\"malformed\"}").await;
    assert_eq!(malformed, cases.len() as u64);
    let (status, output) = app.interrupt();
    assert!(status.success() && !output.contains("panicked") && !output.contains("ERROR"), "{output}");
}

#[tokio::test]
async fn a_body_in_bad_chunks_is_a_bad_request() {
    let app = App::start();
    for body in
        ["zz\r\n", "-1\r\n", "fffffffffffffffff\r\n", "5\r\nname=xx\r\n0\r\n\r\n", "\r\n\r\n", "5;\n\r\nx"]
    {
        assert_eq!(statuses(&app, &chunked("transfer-encoding: chunked", body)).await, [400], "{body:?}");
    }
    assert_eq!(app.get("/").await.tasks(), [""; 0]);
}

/// A reverse proxy that goes by the length would take the rest of the body for the next client's request.
#[tokio::test]
async fn nothing_behind_a_body_of_two_lengths_is_read_as_a_request() {
    let app = App::start();
    let hidden = "GET /hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let body = format!("6\r\nname=x\r\n0\r\n\r\n{hidden}");
    for lines in
        ["content-length: 3\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 3"]
    {
        assert_eq!(statuses(&app, &chunked(lines, &body)).await, [303], "{lines}");
    }
    let (_, output) = app.interrupt();
    assert!(!output.contains("/hidden"), "{output}");
}

#[tokio::test]
async fn unusual_valid_requests_are_answered() {
    let app = App::start();
    for (sent, expected) in [
        (&b"GET / HTTP/1.1\nhost: localhost\nconnection: close\n\n"[..], 200),
        (b"\r\n\r\nGET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n", 200),
        (b"get / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\nconnection: close\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", 404),
    ] {
        assert_eq!(statuses(&app, sent).await, [expected], "{}", String::from_utf8_lossy(sent));
    }
}
