//! Input of visitors is text wherever it comes out again: in pages, in JSON, in keys.

use std::collections::BTreeSet;

use super::raw;
use crate::support::app::{App, Settings};
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::upstream::{Reply, Upstream};

const MARKUP: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)' x='",
    "</td></tr></table><script>alert(1)</script>",
    "{{ 7 * 7 }}${7*7}<%= 7 %>",
    "&lt;script&gt;&#x3c;script&#x3e;]]>-->",
];

/// Asserts that nothing but our own scripts and no handlers are on a page.
#[track_caller]
fn assert_harmless(page: &Page) {
    let scripts = page.texts("script");
    assert!(scripts.iter().all(String::is_empty), "{scripts:?}");
    for foreign in ["img[src=x]", "[onerror]", "[onmouseover]", "[x]", "main script"] {
        assert_eq!(page.texts(foreign), [""; 0], "{foreign} in {}", page.body);
    }
}

#[tokio::test]
async fn a_name_with_markup_is_text_in_every_place_on_the_page() {
    let app = App::start();
    let visitor = Visitor::new();
    for name in MARKUP {
        let page = visitor.add(&app, name).await;
        assert_harmless(&page);
        page.assert_lists([name]);
        page.assert_tells([words::added(name)]);
        let page = visitor.remove(&app, &page, name).await;
        assert_harmless(&page);
        let labels = page.attributes(".message button", "aria-label");
        assert_eq!(labels, [format!("Undo removing {name}")]);
    }
    // Comes back in the field's value.
    let long = format!("\"><script>alert(1)</script>{}", "x".repeat(600));
    let page = app.post("/add", &[("name", &long)]).await;
    assert_harmless(&page);
    assert_eq!(page.attributes("input#name", "value"), [long]);
}

#[tokio::test]
async fn the_response_of_the_service_is_text_on_the_page() {
    for text in MARKUP {
        let upstream = Upstream::start(move |_, _| Reply::ok(text)).await;
        let page = Settings::new().with("API_URL", &upstream.url()).serve().get("/apicalls").await;
        assert_harmless(&page);
        assert_eq!(page.texts("pre"), [text]);
    }
}

#[tokio::test]
async fn paths_and_queries_are_text_in_errors_and_decisions() {
    let app = App::start();
    for target in ["/%3Cscript%3Ealert(1)%3C/script%3E", "/?page=%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E"]
    {
        assert_harmless(&app.get(target).await);
        assert_harmless(&app.get(&target.replace("/?page", "/nowhere?page")).await);
    }
    let request = app.request("GET", "/").header("host", "<script>alert(1)</script>");
    assert_harmless(&Page::read(request).await);
    let answer =
        raw(&app, b"GET /?page=<script>'\"><img src=x onerror=alert(1)> HTTP/1.1\r\nhost: localhost\r\n");
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    for path in ["/cache", "/nowhere"] {
        assert_harmless(&app.get(path).await);
    }
    let json = app.get("/cache.json").await;
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(json.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn no_request_makes_a_key_of_its_own_choice() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    app.add("milk").await;
    let queries: [&[u8]; 14] = [
        b"%0d%0aset%20evil%200%200%201%0d%0ax",
        b"\r\nset evil 0 0 1\r\nx",
        b"%00evil",
        b"\0evil",
        b"%20evil",
        b" evil",
        b"\tevil",
        b"#evil",
        b"%23evil",
        b"1@evil",
        b"1.lock",
        b"\xff\xfe",
        b"%c2%a0%e2%80%a8%7f",
        &[b'9'; 10_000],
    ];
    for query in queries {
        for before in [&b"GET /?page="[..], b"GET /apicalls?", b"GET /", b"HEAD /?page="] {
            raw(&app, &[before, query, b" HTTP/1.1\r\nhost: localhost\r\n"].concat());
            let host = [b"GET / HTTP/1.1\r\nhost: localhost:", query, b"\r\n"].concat();
            raw(&app, &host);
        }
    }
    let known = [
        "~view.page:",
        "~view.generation:",
        "tasks.all",
        "~fragment:task-fragment",
        "apicalls.",
        "~session.",
    ];
    for key in memcached.keys() {
        assert!(known.iter().any(|known| key.starts_with(known)), "{key:?}");
        assert!(key.len() <= 250 && !key.contains(|c: char| c.is_whitespace() || c.is_control()), "{key:?}");
    }
    app.get("/").await.assert_lists(["milk"]);
}

#[tokio::test]
async fn no_two_requests_for_different_pages_share_a_key() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).with("ALLOWED_HOSTS", "*").serve();
    // Whoever could write a delimiter of the key into a part of it could pass for another.
    let requests = [
        ("localhost", "/?page=1"),
        ("localhost", "/?page=1%23"),
        ("localhost", "/?page=1@1.1"),
        ("localhost", "/?page=1%40"),
        ("localhost", "/?page=1&page=1"),
        ("localhost", "/?page=1%26page=1"),
        ("localhost", "/?page="),
        ("localhost", "/?page"),
        ("localhost", "/"),
        ("localhost:81", "/"),
        ("https", "/?page=1"),
    ];
    let mut keys = BTreeSet::new();
    for (host, path) in requests {
        app.get_from(host, path).await;
        let pages = memcached.keys().into_iter().filter(|key| key.starts_with("~view.page:"));
        let before = keys.len();
        keys.extend(pages);
        assert_eq!(keys.len(), before + 1, "{host}{path} has a key of its own: {keys:#?}");
    }
}
