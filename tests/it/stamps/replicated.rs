//! Tasks that arrive by a logical subscription, which runs no statements: the subscriber's pages show them at once.

use sqlx::{Connection, PgConnection};

use super::stamp;
use crate::support::app::Settings;
use crate::support::database::open_database;
use testkit::eventually;
use testkit::postgres::{Postgres, TestDatabase};

const CHANGES: [&str; 8] = [
    "insert into tasks (name) values ('one')",
    "insert into tasks (id, name) select n, 'many' from generate_series(10, 1200) n",
    "update tasks set name = 'another name' where id = 10",
    "update tasks set id = 5000 where id = 11",
    "delete from tasks where id between 20 and 600",
    "begin; insert into tasks (name) values ('both'); delete from tasks where id = 700; commit",
    "truncate tasks",
    "copy tasks (id, name) from program 'echo 3000,copied' with (delimiter ',')",
];

async fn text(database: &TestDatabase, sql: &'static str) -> String {
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

/// Waits until the subscriber has the publisher's tasks.
async fn wait_for_tasks(publisher: &TestDatabase, subscriber: &TestDatabase) {
    let expected = publisher.tasks().await;
    eventually("the tasks are replicated", async || subscriber.tasks().await == expected).await;
}

async fn assert_counted(database: &TestDatabase) {
    let known =
        "select coalesce(string_agg(block || ': ' || total, ', ' order by block), '') from task_counts";
    let counted = "select coalesce(string_agg(block || ': ' || total, ', ' order by block), '') \
                   from (select id >> 9 as block, count(*) as total from tasks group by 1) as counted";
    assert_eq!(text(database, known).await, text(database, counted).await);
}

#[tokio::test]
async fn what_a_subscription_brings_has_a_stamp_and_is_counted() {
    let (publishing, subscribing) = (
        Postgres::start_with(&["wal_level=logical"]),
        // How often it looks for tables that are to be copied.
        Postgres::start_with(&["wal_retrieve_retry_interval=100ms"]),
    );
    let (publisher, subscriber) = (publishing.database().await, subscribing.database().await);
    for database in [&publisher, &subscriber] {
        open_database(&database.url).migrate().await.unwrap();
    }
    publisher.execute("insert into tasks (name) values ('there before')").await;
    publisher.execute("create publication tasks for table tasks").await;
    let subscribe = format!("create subscription tasks connection '{}' publication tasks", publisher.url);
    subscriber.execute(sqlx::AssertSqlSafe(subscribe)).await;
    wait_for_tasks(&publisher, &subscriber).await;
    // What a worker has copied it hands over to the one that applies changes.
    let state = "select string_agg(srsubstate::text, '') from pg_subscription_rel";
    eventually("the first copy has ended", async || text(&subscriber, state).await == "r").await;

    let db = open_database(&subscriber.url);
    let app = Settings::new().with("DATABASE_URL", &subscriber.url).serve();
    app.get("/").await.assert_lists(["there before"]);
    for change in CHANGES {
        let before = stamp(&db).await;
        publisher.execute(change).await;
        wait_for_tasks(&publisher, &subscriber).await;
        assert_ne!(stamp(&db).await, before, "{change}");
        assert_counted(&subscriber).await;
        let names: Vec<_> = subscriber.tasks().await.into_iter().map(|(_, name)| name).take(100).collect();
        assert_eq!(app.get("/").await.tasks(), names, "{change}");
    }
}
