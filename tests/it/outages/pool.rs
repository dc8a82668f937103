//! No connection is to be had: all wait for a lock, or the server has none left.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{CONNECTIONS, add_at_once, assert_unavailable, names, remove_at_once};
use crate::support::app::{App, Settings};
use testkit::postgres::{Postgres, TestDatabase};

fn serve(database: &TestDatabase) -> App {
    Settings::new().with("DATABASE_URL", &database.url).with("DEBUG", "False").serve()
}

/// Takes all connections that the server has left.
async fn take_all(database: &TestDatabase) -> Vec<PgConnection> {
    let mut others = vec![];
    while let Ok(connection) = PgConnection::connect(&database.url).await {
        others.push(connection);
    }
    others
}

async fn leave(others: Vec<PgConnection>) {
    for other in others {
        other.close().await.unwrap();
    }
}

#[tokio::test]
async fn while_all_connections_wait_cached_pages_and_probes_are_answered() {
    let database = Postgres::shared().database().await;
    let app = serve(&database);
    app.add("Cached").await.assert_lists(["Cached"]);
    let lock = database.lock_tasks().await;
    // Twice as many as there are connections.
    let removals = remove_at_once(&app, 2 * CONNECTIONS);
    let meanwhile = async {
        database.wait_for_waiting(CONNECTIONS as i64).await;
        for _ in 0..10 {
            app.get("/").await.assert_lists(["Cached"]);
        }
        assert_eq!(app.get("/healthz").await.status, 200);
        assert_eq!(app.get("/readyz").await.status, 200);
        database.wait_for_waiting(CONNECTIONS as i64).await;
    };
    let (statuses, ()) = tokio::join!(removals, meanwhile);
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    drop(lock);
    app.add("After").await.assert_lists(["Cached", "After"]);
    assert_eq!(add_at_once(&app, names("more", 2 * CONNECTIONS)).await, [303; 2 * CONNECTIONS]);
    assert_eq!(app.get("/").await.tasks().len(), 2 + 2 * CONNECTIONS);
}

#[tokio::test]
async fn a_server_whose_connections_others_have_taken_is_a_503_until_they_leave() {
    let postgres = Postgres::start_with(&["max_connections=14"]);
    let database = postgres.database().await;
    let app = serve(&database);
    app.add("Safe").await.assert_lists(["Safe"]);
    let others = take_all(&database).await;
    for _ in 0..3 {
        app.get("/").await.assert_lists(["Safe"]);
    }
    leave(others).await;

    database.end_connections().await;
    let others = take_all(&database).await;
    assert_unavailable(&app.get("/").await);
    assert_unavailable(&app.post("/add", &[("name", "refused")]).await);
    assert_eq!(app.get("/healthz").await.status, 200);
    leave(others).await;
    app.add("After").await.assert_lists(["Safe", "After"]);
    assert_eq!(add_at_once(&app, names("more", CONNECTIONS)).await, [303; CONNECTIONS]);
}

/// Gives a database to a role that may have so few connections, and returns its URL.
async fn with_connection_limit(database: &TestDatabase, limit: usize) -> String {
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let role = format!("few_{name}");
    let sql = format!(
        "create role {role} login connection limit {limit}; alter database {name} owner to {role}; \
         alter schema public owner to {role}"
    );
    database.execute(AssertSqlSafe(sql)).await;
    format!("{}/{name}", server.replace("tasks@", &format!("{role}@")))
}

#[tokio::test]
async fn a_role_with_two_connections_makes_requests_wait_and_fails_none() {
    let database = Postgres::shared().database().await;
    let url = with_connection_limit(&database, 2).await;
    let settings = Settings::new().with("DATABASE_URL", &url).with("CACHE_URL", "dummy://");
    assert!(settings.run(&["migrate"]).status.success());
    let app = settings.serve();
    for round in 0..3 {
        let adds = add_at_once(&app, names(&format!("round {round}, task"), 2 * CONNECTIONS));
        let (added, removed) = tokio::join!(adds, remove_at_once(&app, 2 * CONNECTIONS));
        assert_eq!([added, removed].concat(), [303; 4 * CONNECTIONS]);
        assert_eq!(app.get("/").await.status, 200);
    }
    assert!(!app.output().contains("ERROR"), "{}", app.output());
}

#[tokio::test]
async fn two_processes_share_a_role_with_a_few_connections() {
    let database = Postgres::shared().database().await;
    let url = with_connection_limit(&database, 5).await;
    let settings = Settings::new().with("DATABASE_URL", &url).with("CACHE_URL", "dummy://");
    let apps = [settings.serve(), settings.serve()];
    for app in &apps {
        app.add("First").await;
    }
    let all = apps.iter().map(|app| remove_at_once(app, 2 * CONNECTIONS));
    let statuses = futures_util::future::join_all(all).await.concat();
    assert_eq!(statuses, [303; 4 * CONNECTIONS]);
}
