//! A clock that jumps: nothing panics or hangs, no page is old, and sessions neither vanish nor live for ever.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{Connection, SqliteConnection};

use crate::outages::assert_logged;
use crate::support::app::{App, Settings};
use crate::support::clock::Clock;
use crate::support::visitor::Visitor;
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::page::Page;

const JUMPS: [&str; 7] = ["+1d", "-1h", "+10y", "+0", "-1y", "+30d", "+0"];

const DAY: i64 = 24 * 60 * 60 * 1000;

fn settings(clock: &Clock) -> Settings {
    clock.with(Settings::new())
}

/// Adds, removes and undoes, and asserts that each visitor sees the result.
async fn use_all(app: &App, visitor: &Visitor, task: &str) {
    let page = visitor.add(app, task).await;
    assert_eq!((page.status, page.tasks().last().map(String::as_str)), (200, Some(task)));
    assert_eq!(page.messages().len(), 1, "{}", page.body);
    assert!(visitor.remove(app, &page, task).await.tasks().iter().all(|name| name != task));
    assert_eq!(visitor.undo(app).await.tasks().last().map(String::as_str), Some(task));
    for _ in 0..3 {
        assert_eq!(app.get_from("localhost", "/").await.tasks().last().map(String::as_str), Some(task));
    }
}

async fn check(settings: &Settings, clock: &Clock) {
    let app = settings.serve();
    let visitor = Visitor::new();
    use_all(&app, &visitor, "before").await;
    for (number, jump) in JUMPS.into_iter().enumerate() {
        clock.set(jump);
        use_all(&app, &visitor, &format!("{number}, {jump}")).await;
        for path in ["/cache", "/cache.json", "/metrics", "/readyz"] {
            assert_eq!(app.get(path).await.status, 200, "{path} at {jump}");
        }
    }
    let decisions = app.get("/cache.json").await.body;
    assert!(decisions.contains("\"decisions\":[{"), "{decisions}");
    assert_logged(&app, 0);
    assert!(app.interrupt().0.success());
}

#[tokio::test]
async fn a_clock_that_jumps_makes_no_page_old_with_the_cache_in_this_process() {
    let clock = Clock::start();
    check(&settings(&clock), &clock).await;
}

#[tokio::test]
async fn nor_with_the_cache_in_files() {
    let clock = Clock::start();
    let settings = settings(&clock);
    let url = format!("file://{}/cache", settings.directory().display());
    check(&settings.with("CACHE_URL", &url), &clock).await;
}

#[tokio::test]
async fn nor_with_the_cache_in_the_database() {
    let clock = Clock::start();
    check(&settings(&clock).with("CACHE_URL", "db://"), &clock).await;
}

#[tokio::test]
async fn nor_with_memcached_whose_clock_does_not_jump() {
    let (clock, memcached) = (Clock::start(), Memcached::start());
    check(&settings(&clock).with_memcached(&memcached), &clock).await;
}

#[tokio::test]
async fn a_process_that_stood_still_for_years_goes_on() {
    let clock = Clock::start();
    let app = clock.with_measures(Settings::new()).serve();
    let visitor = Visitor::new();
    for passed in ["+0", "+1h", "+1d", "+10y"] {
        clock.set(passed);
        // Operations that had begun before are timed out, and connections are closed that were idle for so long.
        let is_answered =
            async || app.request("GET", "/").send().await.is_ok_and(|page| page.status() == 200);
        eventually("it goes on", is_answered).await;
        use_all(&app, &visitor, passed).await;
    }
    assert!(!app.output().contains("panicked"), "{}", app.output());
}

/// Puts a task back that this visitor has removed before.
async fn assert_remembered(app: &App, visitor: &Visitor) {
    assert_eq!(visitor.undo(app).await.tasks(), ["Mine"]);
    let page = visitor.get(app, "/").await;
    visitor.remove(app, &page, "Mine").await;
}

#[tokio::test]
async fn a_session_does_not_end_with_a_jump_that_is_shorter_than_its_life() {
    for engine in ["cached_db", "db", "cache"] {
        let clock = Clock::start();
        let app = settings(&clock).with("SESSION_ENGINE", engine).serve();
        let visitor = Visitor::new();
        let page = visitor.add(&app, "Mine").await;
        visitor.remove(&app, &page, "Mine").await;
        for jump in ["+1h", "-1h", "+1d", "-1d", "+0", "-1y"] {
            clock.set(jump);
            assert_remembered(&app, &visitor).await;
        }
        clock.set("+15d");
        assert_eq!(visitor.undo(&app).await.status, 200, "{engine}");
        let page = visitor.add(&app, "Of another session").await;
        assert_eq!(page.tasks(), ["Of another session"], "{engine}");
        assert_logged(&app, 0);
    }
}

#[tokio::test]
async fn a_session_that_is_used_after_a_jump_backwards_lives_no_longer_than_another() {
    let clock = Clock::start();
    let settings = settings(&clock);
    let file = settings.directory().join("db.sqlite3");
    let app = settings.serve();
    let end = async || {
        let mut connection = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
        sqlx::query_scalar::<_, i64>("select expires_at from sessions")
            .fetch_one(&mut connection)
            .await
            .unwrap()
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let real = |time: Duration| i64::try_from(time.as_millis()).unwrap();
    let visitor = Visitor::new();
    clock.set("+10y");
    visitor.add(&app, "Task").await;
    assert!(end().await > real(now()) + 3600 * DAY);
    clock.set("+0");
    // Only read.
    visitor.expect_message();
    let page: Page = visitor.get(&app, "/").await;
    assert_eq!(page.status, 200);
    let end = end().await;
    assert!((end - real(now()) - 14 * DAY).abs() < DAY, "{end}");
    assert_eq!(visitor.get(&app, "/").await.header("set-cookie"), None, "once");
}
