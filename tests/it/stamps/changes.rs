//! What changes the stamp, what leaves it, and when others see it.

use std::collections::HashSet;

use tasklist::tasks;

use super::{Session, add, list, stamp, v};
use crate::support::database::{on_both_databases, open_database};
use testkit::postgres::Postgres;

const CHANGES: &[&str] = &[
    "insert into tasks (name) values ('one')",
    "insert into tasks (name) values ('two'), ('three'), ('four')",
    "insert into tasks (id, name) values (-5, 'negative')",
    "insert into tasks (name) select name || ' again' from tasks",
    "insert into tasks (id, name) values (1, 'there') on conflict (id) do update set name = excluded.name",
    "update tasks set name = 'renamed' where id = 1",
    "update tasks set name = 'all'",
    "update tasks set id = 1000 where id = 1",
    "delete from tasks where id = 1000",
    "begin; insert into tasks (name) values ('kept'); savepoint s; delete from tasks; rollback to s; commit",
    "delete from tasks",
];

const CHANGES_ON_SQLITE: &[&str] = &[
    "insert into tasks (id, name) values (1, 'one'), (2, 'two')",
    "insert or ignore into tasks (id, name) values (1, 'there'), (3, 'new')",
    "insert or replace into tasks (id, name) values (1, 'replaced')",
    "insert or fail into tasks (name) values ('more')",
    "update or ignore tasks set name = 'all'",
    "pragma recursive_triggers = on; replace into tasks (id, name) values (1, 'replaced')",
];

const CHANGES_ON_POSTGRES: &[&str] = &[
    "insert into tasks (id, name) values (1, 'one')",
    "merge into tasks using (values (1)) as source (id) on tasks.id = source.id when matched then delete",
    "copy tasks (name) from program 'echo copied'",
    "with added as (insert into tasks (name) values ('with') returning id) select id from added",
    "truncate tasks",
    "truncate tasks restart identity cascade",
    "set search_path = ''; insert into public.tasks (name) values ('as a restored dump')",
    "create temp table list_state (one int primary key, v int); insert into public.tasks (name) values ('hidden')",
    "set session_replication_role = replica; insert into public.tasks (name) values ('replayed')",
];

#[tokio::test]
async fn every_change_made_by_hand_draws_a_new_stamp() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        let mut seen = HashSet::from([stamp(&db).await]);
        let more = if session.is_postgres() { CHANGES_ON_POSTGRES } else { CHANGES_ON_SQLITE };
        for sql in CHANGES.iter().chain(more) {
            let before = stamp(&db).await;
            session.execute(sql).await;
            let after = stamp(&db).await;
            assert!(seen.insert(after), "{sql} brought {after} back");
            assert!(v(after) > v(before), "{sql}: {before}, {after}");
            assert_eq!(list(&db).await.0, after, "{sql}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_apps_own_changes_draw_a_new_stamp() {
    on_both_databases(async |url| {
        let db = open_database(url);
        let before = stamp(&db).await;
        let task = add(&db, "x").await;
        let added = stamp(&db).await;
        assert!(tasks::remove(&db, task.id).await.unwrap().is_some());
        assert_eq!(HashSet::from([before, added, stamp(&db).await]).len(), 3);
    })
    .await;
}

#[tokio::test]
async fn what_does_not_happen_leaves_the_stamp() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        add(&db, "x").await;
        let before = stamp(&db).await;
        for sql in [
            "select * from tasks",
            "begin; insert into tasks (name) values ('not'); delete from tasks; rollback",
            "begin; savepoint s; insert into tasks (name) values ('not'); rollback to s; commit",
            "insert into cache (key, value) values ('k', 'v')",
        ] {
            session.execute(sql).await;
            assert_eq!(stamp(&db).await, before, "{sql}");
        }
        session.try_execute("insert into tasks (name) values (null)").await.unwrap_err();
        assert_eq!(stamp(&db).await, before);
    })
    .await;
}

#[tokio::test]
async fn a_stamp_and_its_rows_are_seen_together() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        add(&db, "old").await;
        let old = list(&db).await;
        session.execute("begin; insert into tasks (name) values ('new')").await;
        for _ in 0..3 {
            assert_eq!((stamp(&db).await, list(&db).await), (old.0, old.clone()));
        }
        session.execute("commit").await;
        let new = list(&db).await;
        assert_eq!((stamp(&db).await, &new.1[..]), (new.0, &["old".to_owned(), "new".to_owned()][..]));
        assert_ne!(new.0, old.0);
    })
    .await;
}

#[tokio::test]
async fn on_postgres_ids_are_in_the_order_of_the_commits() {
    let database = Postgres::shared().database().await;
    let db = open_database(&database.url);
    db.migrate().await.unwrap();
    let mut first = Session::open(&database.url).await;
    first.execute("begin; insert into tasks (name) values ('1')").await;
    let second = {
        let (url, sql) = (database.url.clone(), "insert into tasks (name) values ('3')");
        tokio::spawn(async move { Session::open(&url).await.execute(sql).await })
    };
    database.wait_for_waiting(1).await;
    first.execute("insert into tasks (name) values ('2'); commit").await;
    second.await.unwrap();
    // Had the second drawn its id before it waited, it would stand between the first's.
    assert_eq!(list(&db).await.1, ["1", "2", "3"]);
}
