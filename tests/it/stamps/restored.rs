//! Databases that are restored, copied, migrated late, or tampered with.

use std::process::{Command, Stdio};

use tasklist::db::Error;
use tasklist::tasks;

use super::{Session, add, list, stamp, v};
use crate::support::database::{on_both_databases, open_database};
use testkit::postgres::Postgres;
use testkit::process::find;

#[tokio::test]
async fn a_database_that_has_tasks_already_gets_a_stamp() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        add(&db, "there already").await;
        let undo = if session.is_postgres() {
            "drop trigger tasks_will_change on tasks; drop function tasks_will_change; \
             drop table list_state; drop function list_state_is_new"
        } else {
            "drop trigger tasks_inserted; drop trigger tasks_updated; drop trigger tasks_deleted; drop table list_state"
        };
        session.execute(undo).await;
        session.execute("delete from _sqlx_migrations where version = 3").await;
        assert_eq!(db.migrate().await.unwrap(), ["0003 list state"]);
        let (before, names) = list(&db).await;
        assert_eq!(names, ["there already"]);
        add(&db, "new").await;
        assert_ne!(stamp(&db).await, before);
    })
    .await;
}

/// Copies a whole database as one does by hand.
pub(super) async fn copy(url: &str) -> String {
    if url.starts_with("sqlite:") {
        let target = format!("{}.copy", url.strip_prefix("sqlite://").unwrap());
        Session::open(url).await.execute(&format!("vacuum into '{target}'")).await;
        return format!("sqlite://{target}");
    }
    let target = Postgres::shared().database().await.url;
    let mut dump = Command::new(find("pg_dump")).arg(url).stdout(Stdio::piped()).spawn().unwrap();
    let mut restore = Command::new(find("psql"));
    restore.args(["-q", "-v", "ON_ERROR_STOP=1", &target]).stdin(dump.stdout.take().unwrap());
    assert!(restore.stdout(Stdio::null()).status().unwrap().success() && dump.wait().unwrap().success());
    target
}

#[tokio::test]
async fn a_copy_that_goes_its_own_way_has_stamps_of_its_own() {
    on_both_databases(async |url| {
        let db = open_database(url);
        add(&db, "x").await;
        let copy = open_database(&copy(url).await);
        assert_eq!(list(&copy).await, list(&db).await, "the same state");
        add(&db, "here").await;
        add(&copy, "there").await;
        let (here, there) = (stamp(&db).await, stamp(&copy).await);
        assert_eq!(v(here), v(there));
        assert_ne!(here, there);
    })
    .await;
}

#[tokio::test]
async fn rows_loaded_into_a_database_that_is_there_change_its_stamp() {
    let url = Postgres::shared().database().await.url;
    let db = open_database(&url);
    db.migrate().await.unwrap();
    add(&db, "old").await;
    let before = stamp(&db).await;
    let mut dump = Command::new(find("pg_dump"));
    let dump = dump.args(["--data-only", "--table=tasks", "--table=list_state", &url]).output().unwrap();
    assert!(dump.status.success());
    add(&db, "lost by this").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), dump.stdout).unwrap();
    let mut session = Session::open(&url).await;
    session.execute("truncate tasks").await;
    session.execute("truncate list_state").await;
    let path = file.path().to_str().unwrap();
    // The row is there again when its old self arrives, which is an error; the tasks are loaded all the same.
    assert!(Command::new(find("psql")).args(["-q", &url, "-f", path]).output().unwrap().status.success());
    let (after, names) = list(&db).await;
    assert_eq!(names, ["old"]);
    assert_ne!(after, before);
}

#[tokio::test]
async fn an_old_row_that_is_brought_back_gets_a_new_token() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        session.execute("create table kept as select v, tok from list_state").await;
        let old = stamp(&db).await;
        add(&db, "x").await;
        session.execute("delete from list_state").await;
        session.execute("insert into list_state (one, v, tok) select 1, v, tok from kept").await;
        let inserted = stamp(&db).await;
        session.execute("update list_state set v = 40").await;
        session.execute("update list_state set v = (select v from kept)").await;
        let updated = stamp(&db).await;
        assert_eq!((v(inserted), v(updated)), (v(old), v(old)));
        assert!(inserted != old && updated != old && updated != inserted);
    })
    .await;
}

#[tokio::test]
async fn there_is_one_row_and_without_it_an_error_until_the_next_change() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        for second in ["insert into list_state (one) values (1)", "insert into list_state (one) values (2)"] {
            session.try_execute(second).await.unwrap_err();
        }
        session.try_execute("update list_state set one = 2").await.unwrap_err();
        let before = stamp(&db).await;
        session.execute("delete from list_state").await;
        assert!(matches!(tasks::stamp(&db).await, Err(Error::Refused(_))));
        assert!(matches!(tasks::all_stamped(&db).await, Err(Error::Refused(_))));
        assert!(matches!(tasks::page_stamped(&db, 1).await, Err(Error::Refused(_))));
        add(&db, "x").await;
        assert!(stamp(&db).await != before && list(&db).await.1 == ["x"]);
        session.execute("delete from list_state").await;
        session.execute("insert into list_state (one) values (1)").await;
        assert_ne!(stamp(&db).await, before);
    })
    .await;
}
