//! Rows of `tasks` that no version of the app has written: each costs itself at most, and never the page.

use crate::support::app::Settings;
use crate::support::database::open_database;
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::postgres::Postgres;

const ODD_IN_BOTH: &str =
    "insert into tasks (id, name) values (-7, 'negative'), (0, 'zero'), (900, ''), (901, 'good')";

const ODD_IN_SQLITE: &str = "insert into tasks (id, name) values (910, x'ff00fe'), (911, cast(x'6162c328' as text)), \
                             (912, 'a' || char(0) || 'b'), (913, 42), (914, 4.5), (915, x''), \
                             (916, cast(x'' as text))";

const LONG_IN_SQLITE: &str = "insert into tasks (id, name) values (920, hex(zeroblob(500000)))";
const LONG_IN_POSTGRES: &str = "insert into tasks (id, name) values (920, repeat('0', 1000000))";

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_row_does_not_cost_the_page() {
    let database = Postgres::shared().database().await;
    for url in ["sqlite://db.sqlite3", &database.url] {
        for strategy in ["versioned", "delete"] {
            let settings = Settings::new().with("DATABASE_URL", url).with("CACHE_STRATEGY", strategy);
            let app = settings.serve();
            let at = format!("sqlite://{}/db.sqlite3", settings.directory().display());
            let is_sqlite = url.starts_with("sqlite");
            let db = open_database(if is_sqlite { &at } else { url });
            let mut ids = vec![-7, 0, 900, 901];
            db.fetch_all::<()>(ODD_IN_BOTH, &[]).await.unwrap();
            if is_sqlite {
                db.fetch_all::<()>(ODD_IN_SQLITE, &[]).await.unwrap();
                ids.extend(910..=916);
            }
            for is_long in [false, true] {
                if is_long {
                    db.fetch_all::<()>(db.choose(LONG_IN_SQLITE, LONG_IN_POSTGRES), &[]).await.unwrap();
                    ids.push(920);
                }
                // What the strategy `delete` has cached goes with a change.
                app.add("another").await;
                let page = app.get("/").await;
                assert_eq!(page.status, 200, "{url}: {}", page.body);
                for id in &ids {
                    assert!(page.body.contains(&format!("data-id=\"{id}\"")), "{url}: {id} is not shown");
                }
                for name in ["negative", "zero", "good"] {
                    assert!(page.body.contains(name), "{url}: {name}");
                }
            }
            // The long one first, since each page shows it until then.
            for id in ids.into_iter().rev() {
                let answer = app.post("/remove", &[("id", &id.to_string())]).await;
                assert_eq!(answer.status, 303, "{url}: {id} cannot be removed: {}", answer.body);
                let page = app.get("/").await;
                assert!(!page.body.contains(&format!("data-id=\"{id}\"")), "{url}: {id} is still there");
            }
            db.fetch_all::<()>("delete from tasks", &[]).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_count_does_not_cost_the_page() {
    let app_settings = Settings::new();
    let app = app_settings.serve();
    let db = open_database(&format!("sqlite://{}/db.sqlite3", app_settings.directory().display()));
    for total in ["1.5", "-1", "9223372036854775807", "'x'", "x'00ff'", "''"] {
        let odd = format!("insert or replace into task_counts values (-1, {total}), (77, {total})");
        db.fetch_all::<()>(odd.leak(), &[]).await.unwrap();
        app.add("good").await;
        for path in ["/", "/?page=2"] {
            let page = app.get(path).await;
            assert_eq!(page.status, 200, "{total} {path}: {}", page.body);
            assert!(page.body.contains("good"), "{total} {path}");
        }
        let check = app_settings.run(&["check"]);
        assert!(check.status.success(), "{total}: {}", String::from_utf8_lossy(&check.stdout));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_session_costs_itself() {
    let settings = Settings::new().with("SESSION_ENGINE", "db");
    let app = settings.serve();
    let db = open_database(&format!("sqlite://{}/db.sqlite3", settings.directory().display()));
    for odd in ["data = x'fffe'", "data = cast(x'fffe' as text)", "expires_at = 'abc'"] {
        let visitor = Visitor::new();
        let added = visitor.send(visitor.request(&app, "POST", "/add").form(&[("name", "milk")])).await;
        assert_eq!(added.status, 303, "{odd}");
        db.fetch_all::<()>(format!("update sessions set {odd}").leak(), &[]).await.unwrap();
        let undone = visitor.send(visitor.request(&app, "POST", "/undo")).await;
        assert_eq!(undone.status, 303, "{odd}: {}", undone.body);
        let added = visitor.send(visitor.request(&app, "POST", "/add").form(&[("name", "bread")])).await;
        assert_eq!(added.status, 303, "{odd}");
        let page = visitor.send(visitor.request(&app, "GET", "/")).await;
        page.assert_tells([words::added("bread")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_fails_where_the_list_cannot_be_read() {
    let settings = Settings::new();
    let app = settings.serve();
    let db = open_database(&format!("sqlite://{}/db.sqlite3", settings.directory().display()));
    for odd in ["delete from list_state", "insert into list_state (one, v) values (1, 'x')"] {
        db.fetch_all::<()>(odd, &[]).await.unwrap();
        let check = settings.run(&["check"]);
        let said = String::from_utf8_lossy(&check.stdout);
        assert_eq!(app.get("/").await.status, 500, "{odd}");
        assert!(!check.status.success() && said.contains("its list cannot be read"), "{odd}: {said}");
    }
}
