//! A disk that is full, or may only be read, under a SQLite file.

use std::fs;

use sqlx::{Connection, SqliteConnection};

use crate::outages::{add_at_once, assert_discreet, assert_logged, names};
use crate::support::app::{App, Settings};
use crate::support::disk::Disk;
use testkit::page::Page;

const BYTES: usize = 4 * 1024 * 1024;

fn on_disk() -> (Disk, Settings) {
    let settings = Settings::new().with("DEBUG", "False");
    let disk = Disk::mount(&settings, BYTES);
    let url = format!("sqlite://{}", disk.path().join("db.sqlite3").display());
    let settings = disk.with(settings.with("DATABASE_URL", &url));
    (disk, settings)
}

/// Adds tasks until there is no room for one, and returns the refusal and how many there are.
async fn add_until_full(app: &App) -> (Page, usize) {
    // A write-ahead log that was longer has room for some.
    for number in 0..2000 {
        let page = app.post("/add", &[("name", &format!("task {number}"))]).await;
        if page.status != 303 {
            return (page, number);
        }
    }
    panic!("2000 tasks take no room: {}", app.output());
}

#[track_caller]
fn assert_full(page: &Page) {
    page.assert_error(507);
    assert_eq!(page.texts("h1"), ["No room left"]);
    assert!(page.body.contains("Your change was not made") && page.body.contains("can still be read"));
    assert_discreet(page);
}

fn check(settings: &Settings) -> (bool, String) {
    let output = settings.run(&["check"]);
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn a_full_disk_is_reported_until_there_is_room_and_the_list_is_read_meanwhile() {
    for strategy in ["versioned", "delete"] {
        let (disk, settings) = on_disk();
        let settings = settings.with("CACHE_STRATEGY", strategy).with("CACHE_URL", "dummy://");
        let app = settings.serve();
        disk.fill();
        let (refusal, added) = add_until_full(&app).await;
        assert_full(&refusal);
        for _ in 0..10 {
            assert_full(&app.post("/add", &[("name", "no room")]).await);
            assert_eq!(app.get("/").await.texts("tr td.name").len(), added.min(100), "{strategy}");
        }
        assert_eq!(app.get("/readyz").await.status, 200);
        assert_logged(&app, 11);
        let said = "database has no room left on its disk: error";
        assert_eq!(app.output().matches(said).count(), 11, "{}", app.output());

        let (is_well, said) = check(&settings);
        assert!(!is_well && said.contains("no room left on its disk"), "{said}");
        assert!(said.contains("remedy: make room on the disk of the database"), "{said}");

        disk.free();
        assert_eq!(add_at_once(&app, names("after", 8)).await, [303; 8]);
        let last = app.get("/?page=1000").await;
        assert!(last.tasks().iter().all(|name| name != "no room"), "half a task is none");
        assert!(last.tasks().contains(&"after 7".to_owned()));
        assert!(check(&settings).0, "{}", check(&settings).1);
        // A checkpoint every 1,000 pages; what was refused leaves nothing behind that grows.
        let log = fs::metadata(disk.inside("db.sqlite3-wal")).unwrap().len();
        assert!(log < 5_000_000, "{log} bytes");
    }
}

#[tokio::test]
async fn a_file_that_may_only_be_read_is_read() {
    let (disk, settings) = on_disk();
    let app = settings.serve();
    app.add("Kept").await.assert_lists(["Kept"]);
    app.kill();
    disk.make_read_only();
    let app = settings.serve();
    app.get("/").await.assert_lists(["Kept"]);
    let refusal = app.post("/add", &[("name", "refused")]).await;
    refusal.assert_error(503);
    assert_eq!(refusal.texts("h1"), ["Nothing can be changed"]);
    assert_discreet(&refusal);
    app.get("/").await.assert_lists(["Kept"]);
    assert_logged(&app, 1);
    assert!(
        app.output().contains("database can only be read; may this user write to its file"),
        "{}",
        app.output()
    );
    let (is_well, said) = check(&settings);
    assert!(!is_well && said.contains("database can only be read"), "{said}");
}

#[tokio::test]
async fn a_directory_without_room_for_sqlites_other_files_is_reported_at_the_start() {
    let (disk, settings) = on_disk();
    let elsewhere = Settings::new();
    assert!(elsewhere.run(&["migrate"]).status.success());
    let file = elsewhere.directory().join("db.sqlite3");
    // Whoever closes a file last takes away what is beside it, which the next reader makes again.
    SqliteConnection::connect(file.to_str().unwrap()).await.unwrap().close().await.unwrap();
    fs::copy(file, disk.inside("db.sqlite3")).unwrap();
    disk.make_read_only();
    let refused = settings.run(&["serve"]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{message}");
    assert!(message.contains("may this user write to it?"), "{message}");
    let (is_well, said) = check(&settings);
    assert!(!is_well && said.contains("may this user write to it?"), "{said}");
}
