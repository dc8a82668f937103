//! A database that hangs, goes away, comes back, or is not what it should be.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tasklist::app::AppState;
use tasklist::config::Config;
use tokio::time::Instant;

use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;
use testkit::{eventually, wait_until};

/// Asks until the app serves the list again; every answer until then must be a 503 page.
async fn wait_for_recovery(app: &App) {
    eventually("the app has recovered", async || {
        let page = app.get("/").await;
        if page.status != 200 {
            page.assert_error(503);
        }
        page.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_database_that_hangs_or_dies_is_a_503_and_comes_back_without_a_restart() {
    let mut postgres = Postgres::start();
    let database = postgres.database().await;
    // Without a cached list every page needs the database.
    let settings =
        Settings::new().with("DATABASE_URL", &database.url).with("MEMCACHIER_SERVERS", "127.0.0.1:1");
    let app = settings.serve();
    app.add("Safe").await.assert_lists(["Safe"]);

    postgres.hang();
    let requests: Vec<_> = (0..20).map(|_| tokio::spawn(app.request("GET", "/").send())).collect();
    let (added, ready) = tokio::join!(app.post("/add", &[("name", "x")]), app.get("/readyz"));
    added.assert_error(503);
    assert_eq!(ready.status, 503);
    for request in requests {
        let answer = request.await.unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "5"));
    }
    assert_eq!(app.get("/healthz").await.status, 200);
    postgres.go_on();
    wait_for_recovery(&app).await;

    postgres.kill();
    app.get("/").await.assert_error(503);
    postgres.restart();
    wait_for_recovery(&app).await;
    assert!(app.get("/").await.tasks().contains(&"Safe".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn whoever_has_waited_long_enough_for_others_waits_for_no_query() {
    // It accepts connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://nobody@{}/nothing", silent.local_addr().unwrap());
    let variables = [("DATABASE_URL", &*url), ("CACHE_STRATEGY", "delete")];
    let state = AppState::from_config(&Config::from_variables(variables).unwrap()).unwrap();
    let now = Instant::now();
    let page = async |arrival: Instant| state.listing.page(arrival, None, 1).await.map(|_| ());
    assert!(page(now - Duration::from_secs(10)).await.is_err());
    assert_eq!(now.elapsed(), Duration::ZERO);
    assert!(page(now).await.is_err());
    assert!(now.elapsed() > Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_waited_for_another_process_does_not_wait_for_a_version_that_is_late() {
    let (memcached, postgres) = (Memcached::start(), Postgres::start());
    let database = postgres.database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url).with_memcached(&memcached);
    let [slow, app] = [settings.clone().with("SLOW_QUERY", "20s").serve(), settings.serve()];
    let ask = |app: &App| tokio::spawn(Page::read(app.request("GET", "/").header("host", "localhost")));
    let builder = ask(&slow);
    let is_lock = |key: &String| key.starts_with("~view.page") && key.ends_with("~lock");
    wait_until("the page is being built", || memcached.keys_now().iter().any(is_lock));

    let before = memcached.stat("cmd_get");
    let waiting = ask(&app);
    wait_until("the page is asked for again and again", || memcached.stat("cmd_get") > before + 4);
    postgres.hang();
    builder.abort();
    let page = waiting.await.unwrap();
    page.assert_error(503);
    assert_eq!(page.header("cache-status"), Some("tasklist; fwd=bypass; detail=\"version-late\""));
    postgres.go_on();
}

// The proxy runs while the app is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_cut_without_a_word_are_replaced() {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(database.address()).await;
    let settings = Settings::new().with("DATABASE_URL", &database.url_through(proxy.address));
    let app = settings.with("MEMCACHIER_SERVERS", "127.0.0.1:1").serve();
    app.add("Safe").await.assert_lists(["Safe"]);
    // Statements, but not the pool's own probing before them. More of them than there are connections: none may be
    // lost to a statement that never ends.
    proxy.hold("sqlx_s_");
    let requests: Vec<_> = (0..20).map(|_| tokio::spawn(app.request("GET", "/").send())).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 503);
    }
    proxy.lose();
    wait_for_recovery(&app).await;
}

#[tokio::test]
async fn a_write_that_was_given_up_does_not_happen_after_all() {
    let database = Postgres::shared().database().await;
    let app = Settings::new().with("DATABASE_URL", &database.url).serve();
    // Twice, so that the statement is prepared on the connection that is used.
    app.add("Before").await;
    app.add("Before too").await;
    let lock = database.lock_tasks().await;
    app.post("/add", &[("name", "Given up")]).await.assert_error(503);
    drop(lock);
    app.add("After").await.assert_lists(["Before", "Before too", "After"]);
}

/// Each connection has prepared its statements for the table as it was.
#[tokio::test]
async fn a_table_that_changes_under_the_app_fails_no_request() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url).with("CACHE_URL", "dummy://");
    let app = settings.serve();
    app.add("Before").await;
    app.add("Before too").await;
    for change in [
        "alter table tasks alter column name type varchar(2000)",
        "alter table tasks alter column name type text",
        "alter table list_state alter column tok type varchar(40)",
    ] {
        let names = app.get("/").await.tasks();
        database.execute(change).await;
        // A read, an addition and a removal meet what was prepared before.
        assert_eq!(app.get("/").await.tasks(), names, "{change}");
        database.execute(change).await;
        assert!(app.add(change).await.tasks().contains(&change.to_owned()));
        database.execute(change).await;
        let page = app.get("/").await;
        app.remove(&page, change).await;
        assert_eq!(app.get("/").await.tasks(), names, "{change}");
    }
}

#[tokio::test]
async fn an_error_page_says_why_it_is_not_cached() {
    let database = Postgres::shared().database().await;
    let app = Settings::new().with("DATABASE_URL", &database.url).serve();
    database.execute("alter table tasks rename to elsewhere").await;
    let page = app.get("/").await;
    assert_eq!(page.header("cache-status"), Some("tasklist; fwd=miss; detail=\"status-500\""));
}

#[tokio::test]
async fn production_serves_only_a_migrated_database() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url).in_production();
    let refused = settings.run(&["serve"]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        message.contains(
            "is not migrated (0001 create tasks, 0002 create cache, 0003 list state, 0004 sessions, \
             0005 task counts, 0006 replicated tasks missing); run `tasklist migrate` first"
        ),
        "{message}"
    );

    let migrated = settings.run(&["migrate"]);
    assert!(migrated.status.success());
    assert!(String::from_utf8(migrated.stdout).unwrap().contains("applied 0001 create tasks"));
    let again = settings.run(&["migrate"]);
    assert!(!String::from_utf8(again.stdout).unwrap().contains("applied"));
    settings.serve().add("Works").await.assert_lists(["Works"]);
}

#[tokio::test]
async fn two_processes_may_start_on_a_new_database_at_once() {
    let database = Postgres::shared().database().await;
    for settings in [Settings::new(), Settings::new().with("DATABASE_URL", &database.url)] {
        std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| settings.serve())).collect();
            for start in starts {
                drop(start.join().expect("it starts"));
            }
        });
    }
}

#[tokio::test]
async fn a_row_inserted_by_hand_is_a_task() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    assert!(settings.run(&["migrate"]).status.success());
    database.execute("insert into tasks (name) values ('By hand')").await;
    settings.serve().get("/").await.assert_lists(["By hand"]);
}

#[tokio::test]
async fn a_postgres_is_reached_by_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let directory = directory.path().to_str().unwrap();
    let postgres = Postgres::start_with(&[&format!("unix_socket_directories={directory}")]);
    let url = postgres.database().await.url;
    let (server, name) = url.rsplit_once('/').unwrap();
    let port = server.rsplit_once(':').unwrap().1;
    let in_host = format!("postgres://tasks@{}:{port}/{name}", directory.replace('/', "%2F"));
    let in_query = format!("postgres:///{name}?user=tasks&host={directory}&port={port}");
    for (number, url) in [in_host, in_query].iter().enumerate() {
        let app = Settings::new().with("DATABASE_URL", url).serve();
        assert_eq!(app.add(&number.to_string()).await.tasks().len(), number + 1, "both are the same");
        let output = app.output();
        assert!(output.contains(&format!("Postgres, {name} at {directory}/.s.PGSQL.{port}")), "{output}");
    }
}

#[tokio::test]
async fn serve_waits_for_a_database_that_is_starting() {
    let mut postgres = Postgres::start();
    let database = postgres.database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    postgres.kill();
    let app = std::thread::scope(|scope| {
        let app = scope.spawn(|| settings.serve());
        postgres.restart();
        app.join().unwrap()
    });
    app.add("Patient").await.assert_lists(["Patient"]);
}

#[tokio::test]
async fn a_sqlite_file_that_another_process_writes_to_is_waited_for() {
    let settings = Settings::new();
    let [one, other] = [settings.serve(), settings.serve()];
    let mut adds = tokio::task::JoinSet::new();
    for number in 0..50 {
        for app in [&one, &other] {
            adds.spawn(app.request("POST", "/add").form(&[("name", &format!("task {number}"))]).send());
        }
    }
    while let Some(answer) = adds.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status(), 303);
    }
    wait_until("all are there", || {
        one.output().matches("task added").count() + other.output().matches("task added").count() == 100
    });
    assert_eq!(settings.serve().get("/").await.tasks().len(), 100);
}
