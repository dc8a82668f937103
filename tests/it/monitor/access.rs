//! Access to `/cache` and `/metrics`.

use super::{PAGES, PASSWORD, ask_as, closed, guarded};
use crate::support::app::{App, Settings};
use testkit::page::Page;

/// The guarded routes, and their statuses with the password.
const GUARDED: [(&str, &str, u16); 4] = [
    ("GET", "/cache", 200),
    ("GET", "/cache.json", 200),
    ("GET", "/metrics", 200),
    ("POST", "/cache/clear", 303),
];

#[track_caller]
fn assert_kept_nowhere(page: &Page) {
    assert_eq!((page.header("cache-control"), page.header("cache-status")), (Some("no-store"), None));
    assert_eq!(page.header("etag"), None);
}

#[tokio::test]
async fn where_there_is_no_password_there_is_no_such_page() {
    for settings in [closed(), closed().with("ADMIN_PASSWORD", ""), closed().with("ADMIN_PASSWORD", "  ")] {
        let app = settings.serve();
        for (method, path, _) in GUARDED {
            for page in [Page::read(app.request(method, path)).await, ask_as(&app, "", method, path).await] {
                page.assert_error(404);
                assert_eq!(page.header("www-authenticate"), None);
            }
        }
    }
}

#[tokio::test]
async fn a_request_with_the_password_is_let_in() {
    let app = guarded().serve();
    for (method, path, expected) in GUARDED {
        for page in [Page::read(app.request(method, path)).await, ask_as(&app, "wrong", method, path).await] {
            page.assert_error(401);
            let challenge = page.header("www-authenticate");
            assert_eq!(challenge, Some("Basic realm=\"tasklist\", charset=\"UTF-8\""), "{path}");
            assert_kept_nowhere(&page);
        }
        let page = ask_as(&app, PASSWORD, method, path).await;
        assert_eq!(page.status, expected, "{path}");
        assert_kept_nowhere(&page);
    }
}

#[tokio::test]
async fn with_debug_every_request_is_let_in() {
    let app = Settings::new().with("DEVELOPMENT_MODE", "True").serve();
    for (method, path, expected) in GUARDED {
        let page = Page::read(app.request(method, path)).await;
        assert_eq!(page.status, expected, "{path}");
        assert_kept_nowhere(&page);
    }
    assert_eq!(app.get("/cache/clear").await.status, 405);
    assert_eq!(app.post("/metrics", &[]).await.status, 405);
}

#[tokio::test]
async fn a_form_on_another_site_clears_nothing() {
    let app = guarded().serve();
    app.get("/").await;
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://elsewhere.example")] {
        let request = app.request("POST", "/cache/clear").basic_auth("admin", Some(PASSWORD));
        Page::read(request.header(name, value)).await.assert_error(403);
    }
    assert!(app.get("/").await.header("cache-status").unwrap().contains("hit"));
}

#[tokio::test]
async fn the_password_is_shown_nowhere() {
    for format in ["text", "json"] {
        let app = guarded().with("RUST_LOG", "trace").with("LOG_FORMAT", format).serve();
        for path in PAGES {
            for password in [PASSWORD, "mistyped"] {
                assert_tells_no_password(&ask_as(&app, password, "GET", path).await.body);
            }
        }
        assert_tells_no_password(&terminated(app));
    }
}

#[track_caller]
fn assert_tells_no_password(text: &str) {
    // The last two are both with the user's name, as they are sent.
    for secret in [PASSWORD, "mistyped", "YWRtaW46Y29ycmVjdDpob3JzZQ==", "YWRtaW46bWlzdHlwZWQ="] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

fn terminated(app: App) -> String {
    app.interrupt().1
}
