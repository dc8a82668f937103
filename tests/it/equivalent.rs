//! What an RFC calls equivalent, case-insensitive or a list is equal here, however a client or a proxy writes it.

use crate::support::app::{App, Settings};
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::page::Page;

/// Returns the status of an added task.
async fn add(app: &App, headers: &[(&str, &str)]) -> Page {
    let mut request = app.request("POST", "/add").body("name=milk");
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Page::read(request).await
}

#[tokio::test]
async fn a_request_came_by_https_however_the_proxy_says_so() {
    let app = App::start();
    for (fields, is_https) in [
        (&["https"][..], true),
        (&["HTTPS"], true),
        (&["https,http"], true),
        (&["https, http"], true),
        (&["https", "http"], true),
        (&["http"], false),
        (&["http,https"], false),
        (&["http", "https"], false),
        (&[], false),
    ] {
        let headers: Vec<_> = fields.iter().map(|value| ("x-forwarded-proto", *value)).collect();
        let added = add(&app, &headers).await;
        assert_eq!(added.header("set-cookie").unwrap().contains("; Secure"), is_https, "{fields:?}");
        let request = headers
            .iter()
            .fold(app.request("GET", "/"), |request, (name, value)| request.header(*name, *value));
        for page in [added, Page::read(request).await] {
            assert_eq!(page.header("strict-transport-security").is_some(), is_https, "{fields:?}");
        }
    }
}

#[tokio::test]
async fn a_form_is_one_whatever_the_case_and_parameters_of_its_media_type() {
    let app = App::start();
    for media_type in [
        "Application/X-WWW-Form-Urlencoded; Charset=utf-8",
        "application/x-www-form-urlencoded;charset=\"UTF-8\"",
        "APPLICATION/X-WWW-FORM-URLENCODED",
    ] {
        assert_eq!(add(&app, &[("content-type", media_type)]).await.status, 303, "{media_type}");
    }
    for other in ["text/plain", "application/x-www-form-urlencodedx"] {
        add(&app, &[("content-type", other)]).await.assert_error(415);
    }
}

#[tokio::test]
async fn an_origin_is_ours_however_it_is_written() {
    let app = Settings::new().with("ALLOWED_HOSTS", "example.com,[::1]").serve();
    for (host, origin, status) in [
        ("example.com", "http://example.com", 303),
        ("Example.com:80", "HTTP://EXAMPLE.com", 303),
        ("example.com", "https://example.com:443", 303),
        ("example.com.", "http://example.com", 303),
        ("[0:0::1]:8000", "http://[::1]:8000", 303),
        ("example.com", "http://example.com:8000", 403),
        ("example.com", "https://example.com:80", 403),
        ("example.com", "http://evil.example", 403),
        ("example.com", "null", 403),
    ] {
        let answer = add(&app, &[("host", host), ("origin", origin)]).await;
        assert_eq!(answer.status, status, "{origin} at {host}");
    }
}

#[tokio::test]
async fn a_host_is_served_however_it_is_written() {
    let app = Settings::new().with("ALLOWED_HOSTS", "Example.com., ::1").serve();
    for (host, status) in [
        ("example.com", 200),
        ("EXAMPLE.COM.:80", 200),
        ("example.com:443", 200),
        ("[::0001]:8000", 200),
        ("example.com..", 400),
        ("user@example.com", 400),
    ] {
        assert_eq!(app.get_from(host, "/").await.status, status, "{host}");
    }
    let any = Settings::new().with("ALLOWED_HOSTS", "*").serve();
    assert_eq!(any.get_from("user@example.com", "/").await.status, 400);
    // All of them share one page.
    any.get_from("example.com", "/").await;
    for host in ["Example.COM", "example.com:80", "example.com."] {
        let page = any.get_from(host, "/").await;
        assert!(page.header("cache-status").unwrap().starts_with("tasklist; hit"), "{host}");
    }
}

#[tokio::test]
async fn who_accepts_no_encoding_gets_the_plain_response() {
    let app = App::start();
    for accepted in ["*;q=0", "identity;q=0", "gzip;q=0, br;q=0, identity;Q=0.0"] {
        let headers = [("accept-encoding", accepted)];
        assert_eq!(add(&app, &headers).await.status, 303, "{accepted}");
        for path in ["/", "/cache"] {
            let page = Page::read(app.request("GET", path).header("accept-encoding", accepted)).await;
            let is_plain = page.header("content-encoding").is_none() || accepted == "identity;q=0";
            assert!(page.status == 200 && is_plain, "{path} {accepted}");
        }
    }
}

#[tokio::test]
async fn a_path_may_escape_its_letters() {
    let app = App::start();
    assert_eq!(app.get("/%63ache").await.status, 200);
    assert_eq!(app.get("/%68%65althz").await.status, 200);
    app.get("/%2Fcache").await.assert_error(404);
}

#[tokio::test]
async fn credentials_name_their_scheme_in_any_case() {
    let app = Settings::new().with("DEBUG", "False").with("ADMIN_PASSWORD", "sesame").serve();
    for scheme in ["Basic ", "basic ", "BASIC   "] {
        // `admin:sesame`
        let value = format!("{scheme}YWRtaW46c2VzYW1l");
        let page = Page::read(app.request("GET", "/cache").header("authorization", value)).await;
        assert_eq!(page.status, 200, "{scheme:?}");
    }
}

#[tokio::test]
async fn a_look_at_the_headers_leaves_a_message_to_be_shown() {
    let app = App::start();
    let visitor = Visitor::new();
    let added = visitor.send(visitor.request(&app, "POST", "/add").form(&[("name", "milk")])).await;
    assert_eq!(added.status, 303);
    for _ in 0..2 {
        visitor.send(visitor.request(&app, "HEAD", "/")).await;
    }
    let session = format!("sessionid={}", visitor.cookie().unwrap());
    let announcement = format!("{}=1", visitor.announcements()[0]);
    // In fields of their own: several fields are one list.
    let request = app.request("GET", "/").header("host", "localhost").header("cookie", "theme=dark");
    let page = Page::read(request.header("cookie", announcement).header("cookie", session)).await;
    page.assert_tells([words::added("milk")]);
}

#[tokio::test]
async fn a_choice_is_one_in_any_case() {
    for (name, value) in [
        ("CACHE_URL", "LocMem://"),
        ("CACHE_STRATEGY", "Versioned"),
        ("CACHE_STRATEGY", "DELETE"),
        ("CACHE_LOCAL", "OFF"),
        ("CACHE_LOCAL", "False"),
        ("CACHE_SIGNED", "True"),
        ("MEMCACHE_CLIENT", "Native"),
        ("SESSION_ENGINE", "Cached_DB"),
        ("LOG_FORMAT", "JSON"),
        ("RUST_LOG", "INFO, tasklist=Debug,"),
    ] {
        let settings = Settings::new().with("SECRET_KEY", &"k".repeat(32)).with(name, value);
        let check = settings.run(&["check"]);
        assert!(check.status.success(), "{name}={value}: {}", String::from_utf8_lossy(&check.stderr));
        assert_eq!(settings.serve().get("/").await.status, 200, "{name}={value}");
    }
}
