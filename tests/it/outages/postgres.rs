//! A Postgres that is restarted, or ends its connections: not one request fails once it is back.

use std::collections::HashMap;

use super::{CONNECTIONS, add_at_once, assert_logged, assert_unavailable, names};
use crate::support::app::{App, Settings};
use testkit::eventually;
use testkit::postgres::{Postgres, TestDatabase};

/// An app that has opened all its connections, and caches nothing.
async fn busy_app(database: &TestDatabase) -> App {
    let settings = Settings::new().with("DATABASE_URL", &database.url).with("CACHE_URL", "dummy://");
    let app = settings.with("DEBUG", "False").serve();
    app.add("Safe").await.assert_lists(["Safe"]);
    let mut round = 0;
    eventually("all connections are open", async || {
        round += 1;
        let statuses = add_at_once(&app, names(&format!("round {round}, first"), 2 * CONNECTIONS)).await;
        assert_eq!(statuses, [303; 2 * CONNECTIONS]);
        database.connections().await == CONNECTIONS + 1
    })
    .await;
    app
}

/// Asserts that nothing fails any more, on any of the connections there were.
async fn assert_well(app: &App) {
    assert_eq!(app.get("/readyz").await.status, 200);
    assert_eq!(app.get("/").await.status, 200);
    assert_eq!(add_at_once(app, names("after", 2 * CONNECTIONS)).await, [303; 2 * CONNECTIONS]);
    let gets: Vec<_> = (0..20).map(|_| tokio::spawn(app.request("GET", "/").send())).collect();
    for answer in gets {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
}

async fn assert_no_task_twice(database: &TestDatabase) {
    let mut counts = HashMap::new();
    for (_, name) in database.tasks().await {
        *counts.entry(name).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test]
async fn after_a_crash_of_postgres_no_request_meets_a_connection_of_before() {
    let mut postgres = Postgres::start();
    let database = postgres.database().await;
    let app = busy_app(&database).await;
    postgres.kill();
    assert_unavailable(&app.get("/").await);
    assert_unavailable(&app.post("/add", &[("name", "lost")]).await);
    assert_eq!(app.get("/healthz").await.status, 200);
    assert_eq!(app.get("/readyz").await.status, 503);
    assert_logged(&app, 2);
    postgres.restart();
    assert_well(&app).await;
    assert_logged(&app, 2);
    assert_no_task_twice(&database).await;
}

#[tokio::test]
async fn connections_that_postgres_has_ended_fail_no_request() {
    let database = Postgres::shared().database().await;
    let app = busy_app(&database).await;
    database.end_connections().await;
    app.remove(&app.get("/").await, "Safe").await;
    app.add("Safe").await;
    database.end_connections().await;
    assert_eq!(add_at_once(&app, names("again", CONNECTIONS)).await, [303; CONNECTIONS]);
    database.end_connections().await;
    assert_well(&app).await;
    assert_logged(&app, 0);
}

#[tokio::test]
async fn statements_under_way_at_a_shutdown_of_postgres_fail_and_run_once_at_most() {
    let mut postgres = Postgres::start();
    let database = postgres.database().await;
    let app = busy_app(&database).await;
    let lock = database.lock_tasks().await;
    let (statuses, ()) = tokio::join!(add_at_once(&app, names("cut", CONNECTIONS)), async {
        // One alone, and those that came meanwhile.
        database.wait_for_waiting(2).await;
        postgres.shut_down();
    });
    drop(lock);
    postgres.restart();
    assert_well(&app).await;
    assert_no_task_twice(&database).await;
    // The connection that holds the lock may be ended first, and waiting ones get through before they are ended.
    let tasks: Vec<_> = database.tasks().await.into_iter().map(|(_, name)| name).collect();
    for (name, status) in names("cut", CONNECTIONS).zip(statuses) {
        assert!(
            status == 503 || (status == 303 && tasks.contains(&name)),
            "{status} for {name} of {tasks:?}"
        );
    }
}

#[tokio::test]
async fn requests_under_way_while_connections_are_ended_fail_cleanly_and_write_nothing_twice() {
    let database = Postgres::shared().database().await;
    let app = busy_app(&database).await;
    let mut acknowledged = vec![];
    for round in 0..3 {
        let names: Vec<_> = names(&format!("round {round}, task"), 3 * CONNECTIONS).collect();
        let (statuses, ()) =
            tokio::join!(add_at_once(&app, names.iter().cloned()), database.end_connections());
        assert!(statuses.iter().all(|status| [303, 503].contains(status)), "{statuses:?}");
        let done = names.into_iter().zip(statuses).filter(|(_, status)| *status == 303);
        acknowledged.extend(done.map(|(name, _)| name));
    }
    assert_well(&app).await;
    assert_no_task_twice(&database).await;
    let tasks: Vec<_> = database.tasks().await.into_iter().map(|(_, name)| name).collect();
    assert!(acknowledged.iter().all(|name| tasks.contains(name)), "{acknowledged:?} of {tasks:?}");
}
