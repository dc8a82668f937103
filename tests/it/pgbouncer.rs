//! Postgres behind a pooler, in each of its modes: nothing that the program does needs a session of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{Connection, PgConnection};

use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;
use testkit::pgbouncer::PgBouncer;
use testkit::postgres::{Postgres, TestDatabase};

/// As hosted ones are: more clients than connections, which are lent for a transaction.
const TRANSACTION: [&str; 3] = [
    "pool_mode = transaction",
    "ignore_startup_parameters = extra_float_digits,options",
    "default_pool_size = 3",
];

/// As it is installed.
const DEFAULT: [&str; 0] = [];

fn settings(database: &TestDatabase, pooler: &PgBouncer) -> Settings {
    Settings::new()
        .with("DATABASE_URL", &database.url_through(pooler.address()))
        .with("DEVELOPMENT_MODE", "False")
}

/// Production: nothing is migrated by the way.
fn in_production(settings: &Settings) -> Settings {
    settings.clone().with("SECRET_KEY", "a key that all processes of a test have in common")
}

#[track_caller]
fn run(settings: &Settings, command: &str) -> String {
    let output = settings.run(&[command]);
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success(), "{command}: {said}");
    said
}

/// Adds, removes and reads at two processes at once.
async fn assert_work(apps: &[App; 2]) {
    let [one, other] = apps;
    for round in 0..20 {
        let name = format!("round {round}");
        let adds = [one, other].map(|app| app.request("POST", "/add").form(&[("name", &name)]).send());
        let [added, added_too] = adds;
        let (added, added_too) = tokio::join!(added, added_too);
        assert_eq!([added.unwrap().status().as_u16(), added_too.unwrap().status().as_u16()], [303; 2]);
        let [here, there] = [one.get("/").await, other.get("/").await];
        assert_eq!(here.tasks(), there.tasks());
        assert_eq!(here.tasks().iter().filter(|task| **task == name).count(), 2);
        one.remove(&here, &name).await;
        assert_eq!(other.get("/").await.tasks(), one.get("/").await.tasks());
    }
}

async fn assert_usable(lines: &[&str]) {
    let database = Postgres::shared().database().await;
    let pooler = PgBouncer::start(&database, lines);
    let memcached = Memcached::start();
    let settings = in_production(&settings(&database, &pooler)).with_memcached(&memcached);
    assert!(run(&settings, "migrate").contains("applied 0001"));
    assert!(!run(&settings, "migrate").contains("applied"));
    let said = run(&settings, "check");
    assert!(said.contains("behind a pooler"), "{said}");
    let apps = [settings.serve(), settings.serve()];
    assert_work(&apps).await;
    run(&settings, "clearsessions");
}

#[tokio::test]
async fn commands_and_processes_share_a_pooler_that_lends_for_a_transaction() {
    assert_usable(&TRANSACTION).await;
}

#[tokio::test]
async fn a_pooler_that_knows_one_parameter_only_lends_for_a_transaction() {
    assert_usable(&["pool_mode = transaction", "ignore_startup_parameters = extra_float_digits"]).await;
}

#[tokio::test]
async fn a_pooler_as_it_is_installed_needs_no_parameter() {
    assert_usable(&DEFAULT).await;
}

#[tokio::test]
async fn one_connection_behind_the_pooler_is_enough() {
    assert_usable(&["pool_mode = transaction", "default_pool_size = 1"]).await;
}

#[tokio::test]
async fn a_pooler_that_takes_few_clients_makes_requests_wait() {
    let database = Postgres::shared().database().await;
    let pooler = PgBouncer::start(&database, &["pool_mode = transaction", "max_client_conn = 3"]);
    let settings = settings(&database, &pooler).with("DEVELOPMENT_MODE", "True");
    let app = settings.with("CACHE_URL", "dummy://").serve();
    let removals = (0..16).map(|id| app.request("POST", "/remove").form(&[("id", id)]).send());
    for answer in futures_util::future::join_all(removals).await {
        assert_eq!(answer.unwrap().status(), 303);
    }
    app.add("After").await.assert_lists(["After"]);
}

/// What a connection that is lent has of another program's is not touched, and nothing stays on it.
#[tokio::test]
async fn nothing_is_left_on_connections_that_others_are_lent() {
    let database = Postgres::shared().database().await;
    let lines = [
        "pool_mode = transaction",
        "default_pool_size = 1",
        "ignore_startup_parameters = extra_float_digits",
    ];
    let pooler = PgBouncer::start(&database, &lines);
    let mut other = PgConnection::connect(&database.url_through(pooler.address())).await.unwrap();
    // Another program has prepared a statement under the first name that sqlx gives.
    sqlx::raw_sql("prepare sqlx_s_1 as select 'another''s'").execute(&mut other).await.unwrap();
    let settings = settings(&database, &pooler).with("DEVELOPMENT_MODE", "True");
    let app = settings.serve();
    app.add("Safe").await.assert_lists(["Safe"]);
    let sql = "select name || ' ' || statement from pg_prepared_statements \
               union all select 'timeout ' || setting from pg_settings where name = 'statement_timeout' and setting <> '0' \
               union all select 'lock' from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    let rows = sqlx::raw_sql(sql).fetch_all(&mut other).await.unwrap();
    let left: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
    assert_eq!(left, ["sqlx_s_1 prepare sqlx_s_1 as select 'another''s'"]);
}

#[tokio::test]
async fn a_direct_connection_is_told_from_a_lent_one() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    let app = settings.serve();
    app.add("Safe").await.assert_lists(["Safe"]);
    assert!(!app.output().contains("pooler"), "{}", app.output());
    let told = settings.with("DATABASE_URL", &database.url_with("127.0.0.1", "?pgbouncer=true"));
    let app = told.serve();
    app.add("Safe").await;
    assert!(app.output().contains("behind a pooler"), "{}", app.output());
}

#[tokio::test]
async fn two_migrations_at_once_through_a_pooler_apply_each_step_once() {
    let database = Postgres::shared().database().await;
    let pooler = PgBouncer::start(&database, &TRANSACTION);
    let settings = in_production(&settings(&database, &pooler));
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| run(&settings, "migrate"))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(outputs.concat().matches("applied 0001").count(), 1, "{outputs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_pooler_under_load_does_nothing_twice() {
    let database = Postgres::shared().database().await;
    let mut pooler = PgBouncer::start(&database, &TRANSACTION);
    let settings =
        settings(&database, &pooler).with("DEVELOPMENT_MODE", "True").with("CACHE_URL", "dummy://");
    let apps = [settings.serve(), settings.serve()];
    let is_over = AtomicBool::new(false);
    let clients = (0..8).map(|client| {
        let (app, is_over) = (&apps[client % 2], &is_over);
        async move {
            let mut done = vec![];
            for number in 0.. {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let name = format!("client {client}, task {number}");
                let answer = app.request("POST", "/add").form(&[("name", &name)]).send().await.unwrap();
                let status = answer.status().as_u16();
                assert!([303, 503].contains(&status), "{status}");
                if status == 303 {
                    done.push(name);
                }
                assert!([200, 503].contains(&app.get("/").await.status));
            }
            done
        }
    });
    let restarts = async {
        for _ in 0..3 {
            // Each of them has work under way by then.
            let before = database.tasks().await.len();
            testkit::eventually("tasks are added", async || database.tasks().await.len() > before + 20).await;
            tokio::task::block_in_place(|| pooler.restart());
        }
        let before = database.tasks().await.len();
        testkit::eventually("tasks are added", async || database.tasks().await.len() > before + 20).await;
        is_over.store(true, Ordering::SeqCst);
    };
    let (done, ()) = tokio::join!(futures_util::future::join_all(clients), restarts);
    let mut counts = HashMap::new();
    for (_, name) in database.tasks().await {
        *counts.entry(name).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert!(done.iter().flatten().all(|name| counts.contains_key(name)), "{done:?}");
    for app in &apps {
        app.add("After").await;
        assert_eq!(app.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_pooler_that_was_restarted_between_two_requests_fails_none() {
    let database = Postgres::shared().database().await;
    let mut pooler = PgBouncer::start(&database, &TRANSACTION);
    let settings =
        settings(&database, &pooler).with("DEVELOPMENT_MODE", "True").with("CACHE_URL", "dummy://");
    let app = settings.serve();
    app.add("Safe").await.assert_lists(["Safe"]);
    for _ in 0..3 {
        pooler.restart();
        app.remove(&app.get("/").await, "Safe").await;
        pooler.restart();
        app.add("Safe").await.assert_lists(["Safe"]);
    }
}

/// The user's rights are not what is wrong then.
#[tokio::test]
async fn a_pooler_that_cannot_be_used_is_told_from_missing_rights() {
    for (lines, remedy) in [
        (&["pool_mode = statement"][..], "pool_mode = transaction"),
        (&["pool_mode = session", "default_pool_size = 1"], "default_pool_size"),
    ] {
        let database = Postgres::shared().database().await;
        run(&Settings::new().with("DATABASE_URL", &database.url), "migrate");
        let pooler = PgBouncer::start(&database, lines);
        let output = in_production(&settings(&database, &pooler)).run(&["check"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(remedy) && !said.contains("may the user"), "{said}");
    }
}
