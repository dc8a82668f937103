//! The connection that the stamp is read on: it waits for no other query, and for no server that is gone.

use futures_util::future::join_all;
use tasklist::db::Error;
use tasklist::tasks;
use tokio::task::JoinSet;

use super::{Session, add, stamp};
use crate::support::database::open_database;
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;
use testkit::within_reason;

#[tokio::test]
async fn a_stamp_waits_for_no_other_query() {
    let database = Postgres::shared().database().await;
    let db = open_database(&database.url);
    db.migrate().await.unwrap();
    let mut lock = Session::open(&database.url).await;
    lock.execute("begin; lock table tasks").await;
    let mut slow = JoinSet::new();
    for _ in 0..20 {
        let db = db.clone();
        slow.spawn(async move { tasks::all_stamped(&db).await });
    }
    // All connections of the pool.
    database.wait_for_waiting(8).await;
    stamp(&db).await;
    assert!(slow.try_join_next().is_none(), "they still wait");
}

// The proxy runs while the database is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_cut_without_a_word_costs_nobody_a_stamp() {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(database.address()).await;
    let db = open_database(&database.url_through(proxy.address));
    db.migrate().await.unwrap();
    let before = stamp(&db).await;
    proxy.lose();
    add(&open_database(&database.url), "x").await;
    let after = join_all((0..5).map(|_| stamp(&db))).await;
    assert!(after.iter().all(|stamp| *stamp != before));
}

#[tokio::test]
async fn a_server_that_was_restarted_costs_nobody_a_stamp() {
    let mut postgres = Postgres::start();
    let db = open_database(&postgres.database().await.url);
    db.migrate().await.unwrap();
    let before = stamp(&db).await;
    postgres.kill();
    assert!(matches!(tasks::stamp(&db).await, Err(Error::Unavailable(_))));
    postgres.restart();
    assert_eq!(stamp(&db).await, before);
    postgres.kill();
    postgres.restart();
    assert_eq!(stamp(&db).await, before);
}

#[tokio::test]
async fn a_server_that_hangs_is_an_error_and_then_works_again() {
    let postgres = Postgres::start();
    let db = open_database(&postgres.database().await.url);
    db.migrate().await.unwrap();
    let before = stamp(&db).await;
    postgres.hang();
    let stamps = join_all((0..20).map(|_| tasks::stamp(&db)));
    for stamp in within_reason("it ends", stamps).await {
        assert!(matches!(stamp, Err(Error::Timeout)), "{stamp:?}");
    }
    postgres.go_on();
    assert_eq!(stamp(&db).await, before);
}

#[tokio::test]
async fn a_table_that_changes_under_the_connection_costs_nobody_a_stamp() {
    let url = Postgres::shared().database().await.url;
    let db = open_database(&url);
    db.migrate().await.unwrap();
    let before = stamp(&db).await;
    Session::open(&url).await.execute("alter table list_state alter column tok type varchar(40)").await;
    assert_eq!(stamp(&db).await, before);
}
