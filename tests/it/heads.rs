//! HEAD is GET without the body: on every route, from the first request on, with conditions and without.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::support::app::{App, Settings};
use testkit::upstream::{Reply, Upstream};

/// What each response has of its own.
const OWN: [&str; 3] = ["x-request-id", "server-timing", "date"];

/// Routes whose bodies hold times or numbers, and so differ between two processes in length and tag.
const LIVE: [&str; 5] = ["/apicalls", "/cache", "/cache.json", "/metrics", "/readyz"];

/// Returns the status and headers of a response, and the length of its body.
async fn ask(app: &App, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, usize) {
    let mut request = app.request(method, path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.bytes().await.unwrap().len())
}

/// Returns the headers that do not frame the body and are not one response's own.
fn compared(path: &str, headers: &HeaderMap) -> Vec<(String, String)> {
    let is_compared = |name: &str| {
        let is_live_tag = name == "etag" && LIVE.contains(&path);
        !OWN.contains(&name) && !["content-length", "transfer-encoding"].contains(&name) && !is_live_tag
    };
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        // Of how long a page still lives a second may pass.
        let value = value.to_str().unwrap();
        let value = value.split_once("ttl=").map_or(value, |(before, _)| before);
        (name.to_string(), value.to_owned())
    };
    let mut compared: Vec<_> = headers.iter().map(text).filter(|(name, _)| is_compared(name)).collect();
    compared.sort();
    compared
}

#[tokio::test]
async fn head_has_the_headers_of_get_on_every_route() {
    let upstream = Upstream::start(|_, _| Reply::ok("hello")).await;
    let settings = Settings::new().with("API_URL", &upstream.url());
    let shared = settings.serve();
    shared.add(&"Long ".repeat(50)).await;
    let style = shared.get("/").await.attributes("link[rel=stylesheet]", "href").remove(0);
    let paths = [
        "/",
        "/?page=7",
        "/apicalls",
        "/cache",
        "/cache.json",
        "/metrics",
        "/healthz",
        "/readyz",
        &style,
        "/static/none.css",
        "/missing",
        "/add",
        "/cache/clear",
    ];
    for encoding in ["identity", "gzip", "br"] {
        // Two that have been asked for nothing yet.
        let (read, looked_at) = (settings.serve(), settings.serve());
        for condition in [None, Some(("if-none-match", "*")), Some(("if-match", "\"other\""))] {
            let asked: Vec<_> = condition.into_iter().chain([("accept-encoding", encoding)]).collect();
            for path in paths {
                for _ in 0..2 {
                    let (status, expected, length) = ask(&read, "GET", path, &asked).await;
                    let (got, headers, none) = ask(&looked_at, "HEAD", path, &asked).await;
                    assert_eq!((got, none), (status, 0), "{path} {asked:?}");
                    assert_eq!(compared(path, &headers), compared(path, &expected), "{path} {asked:?}");
                    let said =
                        headers.get("content-length").map(|length| length.to_str().unwrap().to_owned());
                    let has_length = expected.contains_key("content-length");
                    assert!(said.is_none() || has_length, "{path} {asked:?}: {said:?}");
                    if !LIVE.contains(&path) && status != 304 && has_length {
                        assert_eq!(said, Some(length.to_string()), "{path} {asked:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_style_sheet_has_a_tag_for_head_as_well() {
    let app = App::start();
    let style = app.get("/").await.attributes("link[rel=stylesheet]", "href").remove(0);
    let (_, expected, _) = ask(&app, "GET", &style, &[]).await;
    let (status, headers, _) = ask(&app, "HEAD", &style, &[]).await;
    assert_eq!((status, headers.get("etag").unwrap()), (200, &expected["etag"]));
    let tag = expected["etag"].to_str().unwrap();
    assert_eq!(ask(&app, "HEAD", &style, &[("if-none-match", tag)]).await.0, 304);
    assert_eq!(ask(&app, "HEAD", &style, &[("if-match", "\"other\"")]).await.0, 412);
}
