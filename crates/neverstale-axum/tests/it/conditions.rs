//! Conditions and HEAD, answered by the layer itself: no other layer is around it.

use axum::http::Method;

use super::Answer;
use super::site::{Site, View, with};
use testkit::stores::Store;

const TEXT: (&str, &str) = ("content-type", "text/plain");

fn long(headers: &'static [(&'static str, &'static str)]) -> View {
    View::new(move |run, _| with(headers, format!("run {run} ").repeat(500)))
}

async fn get_if(site: &Site, encoding: &str, name: &str, value: &str) -> Answer {
    site.get_with("/", &[("accept-encoding", encoding), (name, value)]).await
}

pub async fn each_encoding_has_a_tag_of_its_own(store: &Store) {
    let site = Site::new(store, long(&[TEXT]));
    let mut tags = vec![];
    // The first of them is built, the others are found.
    for encoding in ["gzip", "br", "identity"] {
        let page = site.get_with("/", &[("accept-encoding", encoding)]).await;
        let again = site.get_with("/", &[("accept-encoding", encoding)]).await;
        assert_eq!(page.header("etag"), again.header("etag"));
        tags.push((encoding, page.header("etag").to_owned()));
    }
    for (encoding, tag) in &tags {
        for (other, theirs) in &tags {
            assert_eq!(encoding == other, tag == theirs, "{tags:?}");
            let status = if encoding == other { 304 } else { 200 };
            let answer = get_if(&site, encoding, "if-none-match", theirs).await;
            assert_eq!(answer.status, status, "{encoding} asked with the tag of {other}");
            let status = if encoding == other { 200 } else { 412 };
            assert_eq!(get_if(&site, encoding, "if-match", theirs).await.status, status);
        }
    }
    assert_eq!(site.runs(), 1);
}

pub async fn a_client_that_has_the_page_is_told_so(store: &Store) {
    let site =
        Site::new(store, long(&[TEXT, ("x-other", "1"), ("last-modified", "Sat, 21 Nov 2026 10:00:00 GMT")]));
    let page = site.get("/").await;
    let tag = page.header("etag");
    for known in [tag, "*", &format!("W/{tag}"), &format!("\"a,b\" ,, {tag}"), &format!(", {tag} ,")] {
        let answer = get_if(&site, "identity", "if-none-match", known).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (304, ""), "{known}");
        for name in ["etag", "vary", "cache-control", "last-modified"] {
            assert_eq!(answer.header(name), page.header(name), "{name}");
        }
        assert_eq!((answer.header("content-type"), answer.header("x-other")), ("", "1"));
        answer.is_hit();
    }
    for (name, value, status) in [
        ("if-none-match", "\"other\"", 200),
        ("if-none-match", "w/\"a\"", 200),
        ("if-match", "*", 200),
        ("if-match", "\"other\"", 412),
        ("if-modified-since", "Saturday, 21-Nov-26 10:00:00 GMT", 304),
        ("if-modified-since", "Sat Nov 21 09:59:59 2026", 200),
        ("if-unmodified-since", "Sat Nov 21 09:59:59 2026", 412),
        ("if-unmodified-since", "Sat, 21 Nov 2026 10:00:00 GMT", 200),
    ] {
        assert_eq!(get_if(&site, "identity", name, value).await.status, status, "{name}: {value}");
    }
}

pub async fn the_first_request_may_have_conditions(store: &Store) {
    let site = Site::new(store, long(&[TEXT, ("etag", "\"mine\"")]));
    let answer = get_if(&site, "identity", "if-none-match", "\"mine\"").await;
    assert_eq!((answer.is_stored().status.as_u16(), &*answer.body), (304, ""));
    let compressed = get_if(&site, "br", "if-none-match", "\"mine\"").await;
    assert_eq!((compressed.is_hit().status.as_u16(), compressed.header("etag")), (200, "\"mine-br\""));
}

/// The headers of an answer that are not its own.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
    let all = answer.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    // A server adds the length of a GET, and the layer that of a HEAD.
    let mut all: Vec<_> =
        all.filter(|(name, _)| !["server-timing", "content-length"].contains(&&**name)).collect();
    // Of how long a page still lives a second may pass.
    all.iter_mut().filter(|(name, _)| name == "cache-status").for_each(|(_, value)| {
        value.truncate(value.find("; ttl=").unwrap_or(value.len()));
    });
    all.sort();
    all
}

pub async fn head_has_the_headers_of_get_from_the_first_on(store: &Store) {
    for (place, condition) in
        [None, Some(("if-none-match", "*")), Some(("if-match", "\"other\""))].into_iter().enumerate()
    {
        for encoding in ["identity", "gzip"] {
            let site = |prefix: &str| {
                let prefix = format!("{prefix}{place}{encoding}");
                Site::prefixed(store, long(&[TEXT, ("x-kept", "1")]), &prefix)
            };
            let (read, looked_at) = (site("get"), site("head"));
            let asked: Vec<_> = condition.into_iter().chain([("accept-encoding", encoding)]).collect();
            for _ in 0..2 {
                let got = read.get_with("/", &asked).await;
                let head = looked_at.ask(Method::HEAD, "/", &asked).await;
                assert_eq!((got.status, headers(&got)), (head.status, headers(&head)));
                assert_eq!(head.body, "");
                if got.status == 200 {
                    assert_eq!(head.header("content-length"), got.bytes.len().to_string());
                }
            }
        }
    }
}
