//! Change tokens of a SQLite file that this process and others write.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use tasklist::db::{ChangeToken, Database};
use tokio::time::sleep;

use super::{Session, add, list};
use crate::support::app::{App, Settings};
use crate::support::database::open_database;

/// The file's URL, in the directory of an app that is not there yet.
fn url(settings: &Settings) -> String {
    format!("sqlite://{}", settings.directory().join("db.sqlite3").display())
}

async fn watched(url: &str) -> Database {
    let db = open_database(url);
    db.open_change_tokens().await;
    db
}

fn token(db: &Database) -> ChangeToken {
    db.change_token().expect("there is something to see")
}

#[tokio::test]
async fn each_commit_changes_the_token_and_nothing_else_does() {
    let settings = Settings::new();
    drop(settings.serve().interrupt());
    let url = url(&settings);
    let (db, mut session) = (watched(&url).await, Session::open(&url).await);
    let before = token(&db);
    session.execute("begin immediate; insert into tasks (name) values ('not yet')").await;
    assert_eq!(token(&db), before, "it is not committed");
    session.execute("rollback").await;
    list(&db).await;
    assert_eq!(token(&db), before, "nobody has changed anything");
    let mut tokens = HashSet::from([format!("{before:?}")]);
    for round in 0..50 {
        let changes = ["insert into tasks (name) values ('x')", "update tasks set name = name || '.'"];
        session.execute(changes[round % 2]).await;
        assert!(tokens.insert(format!("{:?}", token(&db))), "round {round}");
        add(&db, "y").await;
        assert!(tokens.insert(format!("{:?}", token(&db))), "round {round}, by a pool");
        let checkpoint = ["passive", "full", "restart", "truncate"][round % 4];
        session.execute(&format!("pragma wal_checkpoint({checkpoint})")).await;
        // A log that begins anew may have another token.
        tokens.insert(format!("{:?}", token(&db)));
    }
}

#[tokio::test]
async fn a_commit_of_another_process_changes_the_token_before_it_is_acknowledged() {
    let settings = Settings::new();
    let mut app = settings.serve();
    let db = watched(&url(&settings)).await;
    let mut last = token(&db);
    for round in 0..60 {
        app.add(&format!("task {round}")).await;
        let now = token(&db);
        assert_ne!(now, last, "round {round}");
        last = now;
        if round % 20 == 19 {
            app.kill();
            app = settings.serve();
            last = token(&db);
        }
    }
}

#[tokio::test]
async fn of_two_processes_neither_shows_what_is_older_than_what_the_other_has_acknowledged() {
    let settings = Settings::new();
    let apps = [settings.serve(), settings.serve()];
    let mut newest = 0;
    for round in 0..40 {
        let [writes, reads] = [&apps[round % 2], &apps[1 - round % 2]];
        newest += 1;
        let name = format!("task {newest}");
        writes.add(&name).await;
        for app in [reads, writes, reads] {
            assert_eq!(app.get("/").await.tasks().last(), Some(&name), "round {round}");
        }
    }
    for app in &apps {
        let asked = async || (metric(app, "calls").await, metric(app, "queries").await);
        let (calls, queries) = asked().await;
        for _ in 0..20 {
            app.get("/").await;
        }
        assert_eq!(asked().await, (calls + 20, queries), "what is to be seen spares the queries");
    }
}

async fn metric(app: &App, name: &str) -> u64 {
    app.metric(&format!("tasklist_gate_{name}_total")).await
}

#[tokio::test]
async fn nothing_is_to_be_seen_of_a_file_that_is_gone() {
    let settings = Settings::new();
    drop(settings.serve().interrupt());
    let db = watched(&url(&settings)).await;
    let before = token(&db);
    let (file, elsewhere) = (settings.directory().join("db.sqlite3"), settings.directory().join("elsewhere"));
    fs::rename(&file, &elsewhere).unwrap();
    assert_ne!(db.change_token(), Some(before), "it has another name");
    fs::remove_file(&elsewhere).unwrap();
    assert_eq!(db.change_token(), None);
}

#[tokio::test]
async fn who_has_looked_leaves_the_locks_of_this_process_alone() {
    let settings = Settings::new();
    let app = settings.serve();
    let mut session = Session::open(&url(&settings)).await;
    session.execute("begin immediate; insert into tasks (name) values ('first')").await;
    drop(watched(&url(&settings)).await);
    let second = tokio::spawn(app.request("POST", "/add").form(&[("name", "second")]).send());
    // An addition that found no lock would be quicker, and this one waits for far longer.
    sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "the other process waits for the lock");
    session.execute("commit").await;
    assert_eq!(second.await.unwrap().unwrap().status(), 303);
    app.get("/").await.assert_lists(["first", "second"]);
}
