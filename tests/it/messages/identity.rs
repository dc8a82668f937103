//! Sessions that are deleted, forged, expired or of another key: nobody becomes somebody else, and nothing comes back.

use sqlx::AssertSqlSafe;

use super::cookies::{foreign, forged};
use super::{KEY, settings, site};
use crate::support::app::{App, Settings};
use crate::support::session::Session;
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::postgres::{Postgres, TestDatabase};

const DAY: i64 = 24 * 60 * 60 * 1000;

/// Engines with a table.
const TABLES: [&str; 2] = ["cached_db", "db"];

#[tokio::test]
async fn a_cookie_that_was_not_given_out_is_never_taken_over() {
    let database = Postgres::shared().database().await;
    let app = settings().with("DATABASE_URL", &database.url).serve();
    let known = Visitor::new();
    known.post(&app, "/add", &[("name", "Theirs")]).await;
    let cookies: Vec<_> = forged(&known.cookie().unwrap()).into_iter().chain([foreign().await]).collect();
    for (count, cookie) in (2..).zip(&cookies) {
        let stranger = Visitor::with_cookie(cookie);
        stranger.add(&app, "Mine").await.assert_tells([words::added("Mine")]);
        assert_ne!(stranger.id(), known.id());
        assert_ne!(stranger.id().as_deref(), cookie.split('.').next());
        assert_eq!(database.sessions().await.len(), count);
    }
    known.get(&app, "/").await.assert_tells([words::added("Theirs")]);
}

#[tokio::test]
async fn a_session_that_was_deleted_by_hand_is_gone() {
    let memcached = Memcached::start();
    for engine in TABLES {
        let database = Postgres::shared().database().await;
        let app = site(&database, &memcached).with("SESSION_ENGINE", engine).serve();
        let visitor = Visitor::new();
        let page = visitor.add(&app, "One").await;
        visitor.remove(&app, &page, "One").await.assert_tells([words::removed("One")]);
        visitor.get(&app, "/").await.assert_tells([]);
        let (cookie, id) = (visitor.cookie().unwrap(), visitor.id());
        let (name, ..) = database.sessions().await.remove(0);
        database.execute("delete from sessions").await;

        let window = Visitor::expecting(&cookie);
        window.get(&app, "/").await.assert_tells([]);
        let window = Visitor::with_cookie(&cookie);
        window.undo(&app).await.assert_lists([]);
        assert_eq!(window.cookie(), None, "{engine}");
        let window = Visitor::with_cookie(&cookie);
        window.add(&app, "Two").await.assert_tells([words::added("Two")]);
        assert_ne!(window.id(), id);
        let sessions = database.sessions().await;
        assert!(sessions.len() == 1 && sessions[0].0 != name, "{engine}: {sessions:?}");
    }
}

#[tokio::test]
async fn a_message_of_a_deleted_session_is_not_shown() {
    let memcached = Memcached::start();
    for engine in TABLES {
        let database = Postgres::shared().database().await;
        let app = site(&database, &memcached).with("SESSION_ENGINE", engine).serve();
        let visitor = Visitor::new();
        visitor.add(&app, "One").await;
        // Changed while it is there, so that there is a copy in the cache.
        visitor.post(&app, "/add", &[("name", "Two")]).await;
        database.execute("delete from sessions").await;
        let page = visitor.get(&app, "/").await;
        page.assert_tells([]);
        page.assert_lists(["One", "Two"]);
        assert_eq!((visitor.cookie(), database.sessions().await), (None, vec![]), "{engine}");
    }
}

/// Sends a request whose save comes after the session was deleted, which it has loaded before.
async fn send_late(database: &TestDatabase, app: &App, visitor: &Visitor, path: &str, name: &str) -> Page {
    let mut lock = database.lock_sessions().await;
    let task = app.get("/").await.listed().into_iter().find(|(_, listed)| listed == name);
    let id = task.map(|(id, _)| id).unwrap_or_default();
    let request =
        tokio::spawn(visitor.request(app, "POST", path).form(&[("name", name), ("id", &id)]).send());
    database.wait_for_waiting(1).await;
    sqlx::raw_sql("delete from sessions; commit").execute(&mut lock).await.unwrap();
    let response = request.await.unwrap().unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Page { status, headers, body: response.text().await.unwrap() }
}

#[tokio::test]
async fn a_save_that_comes_too_late_is_told_and_brings_nothing_back() {
    let memcached = Memcached::start();
    for engine in TABLES {
        for (path, name, tasks) in [("/add", "Two", vec!["One", "Two"]), ("/remove", "One", vec![])] {
            let database = Postgres::shared().database().await;
            let app = site(&database, &memcached).with("SESSION_ENGINE", engine).serve();
            let visitor = Visitor::new();
            visitor.add(&app, "One").await;
            let page = send_late(&database, &app, &visitor, path, name).await;
            page.assert_error(400);
            assert_eq!(page.texts("h1"), ["Your session has ended"]);
            let [taken] = page.cookies()[..] else { panic!("{:?}", page.headers) };
            assert!(taken.starts_with("sessionid=;") && taken.ends_with("Max-Age=0"), "{taken}");
            assert_eq!(database.sessions().await, [], "{engine}");
            assert_eq!(Visitor::new().get(&app, "/").await.tasks(), tasks, "the change is done");
            visitor.expect_message();
            visitor.get(&app, "/").await.assert_tells([]);
            assert_eq!(visitor.cookie(), None, "where that answer did not arrive");
        }
    }
}

#[tokio::test]
async fn with_another_key_everybody_is_a_stranger() {
    for engine in TABLES {
        let (settings, visitor) = (settings().with("SESSION_ENGINE", engine), Visitor::new());
        let app = settings.serve();
        let page = visitor.add(&app, "One").await;
        visitor.post(&app, "/remove", &[("id", &page.id_of("One"))]).await;
        let id = visitor.id();
        app.interrupt();
        let app = settings.with("SECRET_KEY", "another key that is long enough as well").serve();
        visitor.get(&app, "/").await.assert_tells([]);
        visitor.undo(&app).await.assert_lists([]);
        visitor.add(&app, "Two").await.assert_tells([words::added("Two")]);
        assert_ne!(visitor.id(), id);
    }
}

#[tokio::test]
async fn a_site_without_a_key_says_what_that_means() {
    let database = Postgres::shared().database().await;
    let development = Settings::new().with("DATABASE_URL", &database.url);
    let production = development.clone().with("DEVELOPMENT_MODE", "False");
    for production in [production.clone(), production.clone().with("SECRET_KEY", " \t")] {
        let refused = production.run(&["serve"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("SECRET_KEY is not set"), "{said}");
    }
    assert!(production.clone().with("SECRET_KEY", KEY).run(&["migrate"]).status.success());
    let cases = [
        (
            production.clone().with("SECRET_KEY", "sesame"),
            Some("WARN SECRET_KEY is shorter than 32 characters"),
        ),
        (production.with("SECRET_KEY", KEY), None),
        (development, None),
    ];
    for (settings, warning) in cases {
        let (_, output) = settings.serve().interrupt();
        match warning {
            Some(warning) => assert!(plain(&output).contains(warning), "{output}"),
            None => assert!(!output.contains("SECRET_KEY"), "{output}"),
        }
        assert!(!output.contains("sesame"), "{output}");
    }
}

/// Without colours and double blanks.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn neither_key_nor_ids_are_ever_printed() {
    let settings = settings()
        .with("RUST_LOG", "tasklist=trace,tower_sessions=trace,tower_sessions_core=trace,sqlx=debug");
    for engine in super::ENGINES {
        let (app, visitor) = (settings.clone().with("SESSION_ENGINE", engine).serve(), Visitor::new());
        let page = visitor.add(&app, "A name that nobody reads").await;
        visitor.remove(&app, &page, "A name that nobody reads").await;
        visitor.undo(&app).await;
        let checked = settings.run(&["check"]);
        let (_, output) = app.interrupt();
        let printed = [output.as_bytes(), &checked.stdout, &checked.stderr].concat();
        let printed = String::from_utf8(printed).unwrap();
        for secret in [KEY, &visitor.id().unwrap(), "nobody reads"] {
            assert!(!printed.contains(secret), "{secret} in {printed}");
        }
    }
}

#[tokio::test]
async fn an_engine_that_there_is_not_ends_with_what_there_is() {
    let refused = Settings::new().with("SESSION_ENGINE", "wrong").run(&["serve"]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(message.contains("'wrong' for '--session-engine <SESSION_ENGINE>'"), "{message}");
    assert!(message.contains("[possible values: cache, cached_db, db]"), "{message}");
}

#[track_caller]
fn check_cleared(settings: &Settings, expected: &str) {
    let output = settings.run(&["clearsessions"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), &*printed), (Some(0), &*format!("{expected}\n")));
}

#[tokio::test]
async fn the_sessions_that_have_expired_are_cleared_and_no_others() {
    let database = Postgres::shared().database().await;
    let settings = settings().with("DATABASE_URL", &database.url);
    let app = settings.serve();
    for name in ["One", "Two", "Three"] {
        Visitor::new().add(&app, name).await;
    }
    let alive = database.sessions().await;
    let expired = "insert into sessions select 'expired ' || n, '{}', (extract(epoch from now()) * 1000)::bigint - n \
                   from generate_series(0, 2499) n";
    database.execute(expired).await;
    check_cleared(&settings.clone().with("SESSION_ENGINE", "cache"), "0 expired sessions removed");
    assert_eq!(database.sessions().await.len(), 2503);
    check_cleared(&settings.clone().with("SESSION_ENGINE", "db"), "2500 expired sessions removed");
    assert_eq!(database.sessions().await, alive);
    database.execute("insert into sessions values ('another', '{}', 0)").await;
    check_cleared(&settings, "1 expired session removed");
    check_cleared(&settings, "0 expired sessions removed");
    assert_eq!(database.sessions().await, alive);
}

#[tokio::test]
async fn sessions_in_sqlite_are_cleared_as_well() {
    let (settings, visitor) = (settings(), Visitor::new());
    let app = settings.serve();
    let page = visitor.add(&app, "One").await;
    visitor.remove(&app, &page, "One").await;
    Visitor::new().add(&app, "Two").await;
    let file = format!("sqlite://{}", settings.directory().join("db.sqlite3").display());
    let mut by_hand = Session::open(&file).await;
    by_hand.execute("insert into sessions values ('a', '{}', 0), ('b', '{}', 1)").await;
    check_cleared(&settings, "2 expired sessions removed");
    visitor.undo(&app).await.assert_lists(["One", "Two"]);
    by_hand.execute("update sessions set expires_at = 1").await;
    check_cleared(&settings, "2 expired sessions removed");
}

#[tokio::test]
async fn an_expired_session_is_nobodys() {
    let database = Postgres::shared().database().await;
    let app = settings().with("DATABASE_URL", &database.url).with("SESSION_ENGINE", "db").serve();
    let visitor = Visitor::new();
    let page = visitor.add(&app, "One").await;
    visitor.remove(&app, &page, "One").await;
    let id = visitor.id();
    database.execute("update sessions set expires_at = 1").await;
    visitor.undo(&app).await.assert_lists([]);
    assert_eq!(visitor.cookie(), None);
    visitor.add(&app, "Two").await;
    assert_ne!(visitor.id(), id);
}

#[tokio::test]
async fn a_session_is_renewed_after_a_day_by_a_page_that_loads_it() {
    let memcached = Memcached::start();
    for engine in TABLES {
        let database = Postgres::shared().database().await;
        let app = site(&database, &memcached).with("SESSION_ENGINE", engine).serve();
        let visitor = Visitor::new();
        let page = visitor.add(&app, "One").await;
        visitor.remove(&app, &page, "One").await;
        for (age, is_renewed) in [(DAY - DAY / 24, false), (DAY + DAY / 24, true)] {
            let sql = format!(
                "update sessions set expires_at = (extract(epoch from now()) * 1000)::bigint + {}",
                14 * DAY - age
            );
            database.execute(AssertSqlSafe(sql)).await;
            memcached.evict("session.");
            let before = database.sessions().await;
            visitor.get(&app, "/").await.assert_tells([]);
            assert_eq!(database.sessions().await, before, "a page that everybody gets loads none");
            visitor.expect_message();
            visitor.get(&app, "/").await.assert_tells([]);
            let after = database.sessions().await;
            assert_eq!(after[0].2 > before[0].2 + DAY / 2, is_renewed, "{engine}: {before:?} {after:?}");
            assert_eq!((&after[0].0, &after[0].1), (&before[0].0, &before[0].1));
            assert_eq!(visitor.get(&app, "/").await.header("set-cookie"), None, "it has been told");
        }
        visitor.undo(&app).await.assert_lists(["One"]);
    }
}

#[tokio::test]
async fn a_renewed_session_has_its_cookie_renewed() {
    let (settings, visitor) = (settings().with("SESSION_ENGINE", "db"), Visitor::new());
    let app = settings.serve();
    visitor.add(&app, "One").await;
    let file = format!("sqlite://{}", settings.directory().join("db.sqlite3").display());
    let old = format!("update sessions set expires_at = expires_at - {}", 2 * DAY);
    Session::open(&file).await.execute(&old).await;
    visitor.expect_message();
    let page = visitor.get(&app, "/").await;
    page.assert_lists(["One"]);
    assert!(page.session_cookie().unwrap().ends_with("Max-Age=1209600"));
    assert!(page.header("cache-control").unwrap().contains("private"), "no proxy may keep the cookie");
    super::end_calmly(app);
}
