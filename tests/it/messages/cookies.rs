//! The cookie: who gets one, what it says to a browser, and what a site does without it.

use super::{ENGINES, settings};
use crate::support::app::App;
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;
use testkit::upstream::{Reply, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn who_has_changed_nothing_has_no_session() {
    let upstream = Upstream::start(|_, _| Reply::ok("hello")).await;
    let database = Postgres::shared().database().await;
    let app = settings().with("DATABASE_URL", &database.url).with("API_URL", &upstream.url()).serve();
    let icon = app.get("/").await.attributes("link[rel=icon]", "href").remove(0);
    let requests = [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/?page=2", 200),
        ("GET", "/apicalls", 200),
        ("GET", &icon, 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/", 405),
        ("POST", "/add", 422),
        ("POST", "/remove", 303),
        ("POST", "/undo", 303),
    ];
    // The second time some are cached.
    for (method, path, status) in [requests, requests].concat() {
        let request = app.request(method, path);
        let is_form = method == "POST";
        let request = if is_form { request.form(&[("name", ""), ("id", "999")]) } else { request };
        let page = Page::read(request).await;
        assert_eq!((page.status, page.header("set-cookie")), (status, None), "{method} {path}");
    }
    assert_eq!(database.sessions().await, []);
}

/// What somebody may send who wants to be somebody else.
pub fn forged(cookie: &str) -> Vec<String> {
    let (text, signature) = cookie.rsplit_once('.').unwrap();
    let (id, seen) = text.split_once('.').unwrap();
    let other = |text: &str| text.chars().rev().collect::<String>();
    vec![
        id.to_owned(),
        text.to_owned(),
        format!("{text}."),
        format!("{text}.{}", other(signature)),
        format!("{id}.{}.{signature}", other(seen)),
        format!("{}.{seen}.{signature}", other(id)),
        format!("AAAAAAAAAAAAAAAAAAAAAA.{seen}.{signature}"),
        "..".to_owned(),
        String::new(),
    ]
}

/// The cookie of a site with another key.
pub async fn foreign() -> String {
    let app = App::start();
    let visitor = Visitor::new();
    visitor.add(&app, "There").await;
    visitor.cookie().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_store_is_asked_about_a_cookie_that_was_not_given_out() {
    let (memcached, foreign) = (Memcached::start(), foreign().await);
    for engine in ENGINES {
        let database = Postgres::shared().database().await;
        let to_cache = Proxy::start(memcached.address()).await;
        let to_database = Proxy::start(database.address()).await;
        let settings = settings().with("SESSION_ENGINE", engine);
        let direct = settings.clone().with("DATABASE_URL", &database.url).with_memcached(&memcached);
        let visitor = Visitor::new();
        visitor.add(&direct.serve(), "Here").await.assert_tells([words::added("Here")]);
        let watched = settings.with("DATABASE_URL", &database.url_through(to_database.address));
        let app = watched.with("MEMCACHIER_SERVERS", &to_cache.address.to_string()).serve();
        let is_asked = || {
            let asked = to_database.messages_with("data, expires_at from sessions");
            asked + to_cache.messages_with("session.") > 0
        };
        let cookie = visitor.cookie().unwrap();
        let forged = forged(&cookie).into_iter().chain([foreign.clone()]);
        let strangers = forged.map(|cookie| Visitor::with_cookie(&cookie)).chain([Visitor::new()]);
        for stranger in strangers {
            stranger.expect_message();
            stranger.get(&app, "/").await.assert_lists(["Here"]);
            stranger.send(stranger.request(&app, "HEAD", "/")).await;
            stranger.undo(&app).await.assert_lists(["Here"]);
            assert!(!is_asked(), "{engine}: {:?}", stranger.cookie());
        }
        visitor.get(&app, "/").await.assert_lists(["Here"]);
        assert!(!is_asked(), "{engine}: nor about one that was, while no message waits");
        visitor.expect_message();
        visitor.get(&app, "/").await.assert_lists(["Here"]);
        assert!(is_asked(), "{engine}");
    }
}

#[tokio::test]
async fn a_cookie_is_for_this_site_and_no_script_and_stays_with_https() {
    let database = Postgres::shared().database().await;
    let app = settings().with("DATABASE_URL", &database.url).serve();
    for (scheme, secure) in [("http", ""), ("https", "; Secure")] {
        let visitor = Visitor::new();
        let request = |path| visitor.request(&app, "POST", path).header("x-forwarded-proto", scheme);
        let answer = visitor.send(request("/add").form(&[("name", "One")])).await;
        let cookies = answer.cookies();
        let names = cookies.iter().map(|cookie| cookie.split(['-', '=']).next().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["sessionid", "message"]);
        for cookie in cookies {
            let (_, attributes) = cookie.split_once("; ").unwrap();
            assert_eq!(attributes, format!("HttpOnly; SameSite=Lax{secure}; Path=/; Max-Age=1209600"));
        }

        database.execute("delete from sessions").await;
        let taken = visitor.send(request("/undo")).await;
        let expected = format!("sessionid=; HttpOnly; SameSite=Lax{secure}; Path=/; Max-Age=0");
        assert_eq!(taken.cookies(), [expected]);
        let shown = visitor.send(visitor.request(&app, "GET", "/").header("x-forwarded-proto", scheme)).await;
        let [cleared] = shown.cookies()[..] else { panic!("{:?}", shown.headers) };
        let expected = format!("=; HttpOnly; SameSite=Lax{secure}; Path=/; Max-Age=0");
        assert!(cleared.starts_with("message-") && cleared.ends_with(&expected), "{cleared}");
    }
    let answer = app.post("/add", &[("name", "Without a word of the scheme")]).await;
    assert!(answer.cookies().iter().all(|cookie| !cookie.contains("Secure")));
}

#[track_caller]
fn check_vary(page: &Page, expected: bool) {
    let names = page.headers.get_all("vary").iter().flat_map(|list| list.to_str().unwrap().split(", "));
    let count = names.filter(|name| name.eq_ignore_ascii_case("cookie")).count();
    assert_eq!(count, usize::from(expected), "{} {:?}", page.status, page.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_the_cookie_says_so_and_nothing_else_does() {
    let upstream = Upstream::start(|_, _| Reply::ok("hello")).await;
    let app = settings().with("API_URL", &upstream.url()).serve();
    let icon = app.get("/").await.attributes("link[rel=icon]", "href").remove(0);
    let known = Visitor::new();
    check_vary(&known.post(&app, "/add", &[("name", "One")]).await, true);
    let personal = known.get(&app, "/").await;
    personal.assert_tells([words::added("One")]);
    check_vary(&personal, true);
    for visitor in [Visitor::new(), known] {
        for _ in 0..2 {
            let page = visitor.get(&app, "/").await;
            check_vary(&page, true);
            let again =
                visitor.request(&app, "GET", "/").header("if-none-match", page.header("etag").unwrap());
            let again = visitor.send(again).await;
            assert_eq!(again.status, 304);
            check_vary(&again, true);
            check_vary(&visitor.send(visitor.request(&app, "HEAD", "/")).await, true);
            for path in ["/apicalls", &icon, "/healthz", "/nowhere"] {
                check_vary(&visitor.get(&app, path).await, false);
            }
        }
        check_vary(&visitor.post(&app, "/undo", &[]).await, true);
        check_vary(&visitor.post(&app, "/add", &[("name", "")]).await, false);
        check_vary(&visitor.post(&app, "/add", &[("name", "Two")]).await, true);
    }
}
