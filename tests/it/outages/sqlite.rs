//! A SQLite file under a process that is killed, and a file that is taken from under a process.

use std::fs;

use super::{add_at_once, assert_discreet, assert_logged, names};
use crate::support::app::{App, Settings};

#[tokio::test]
async fn a_process_killed_while_it_writes_leaves_a_whole_database() {
    let settings = Settings::new();
    let mut acknowledged = vec![];
    for round in 0..4 {
        let app = settings.serve();
        let task = |number| format!("round {round}, task {number}");
        let add = |name: String| {
            (name.clone(), tokio::spawn(app.request("POST", "/add").form(&[("name", name)]).send()))
        };
        let mut adds: Vec<_> = (0..60).map(task).map(add).collect();
        // The rest is under way.
        for (name, added) in adds.drain(..10) {
            assert_eq!(added.await.unwrap().unwrap().status(), 303);
            acknowledged.push(name);
        }
        app.kill();
        for (name, added) in adds {
            if added.await.unwrap().is_ok_and(|answer| answer.status() == 303) {
                acknowledged.push(name);
            }
        }
    }
    let app = settings.serve();
    let mut listed = vec![];
    for page in 1..=3 {
        listed.extend(app.get(&format!("/?page={page}")).await.tasks());
    }
    let lost: Vec<_> = acknowledged.iter().filter(|name| !listed.contains(name)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let output = settings.run(&["check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    app.add("After").await;
}

/// Asserts that nothing is read or changed, and that the log says what to do.
async fn assert_moved(app: &App) {
    let answers = [app.get("/").await, app.post("/add", &[("name", "lost")]).await];
    for page in &answers {
        page.assert_error(503);
        assert_discreet(page);
    }
    assert_eq!(app.get("/readyz").await.status, 503);
    assert_eq!(app.get("/healthz").await.status, 200);
    let said = "was removed or replaced while it was in use; put it back as it was";
    assert_logged(app, answers.len());
    assert_eq!(app.output().matches(said).count(), answers.len(), "{}", app.output());
}

#[tokio::test]
async fn a_file_that_is_moved_away_takes_no_task_along_and_is_used_again_when_it_is_back() {
    let settings = Settings::new().with("DEBUG", "False");
    let app = settings.serve();
    app.add("Kept").await.assert_lists(["Kept"]);
    // Changes that it has seen, so that the page is given again without a query.
    app.add("As well").await;
    app.add("And this").await;
    for _ in 0..2 {
        app.get("/").await.assert_lists(["Kept", "As well", "And this"]);
    }
    let (file, elsewhere) = (settings.directory().join("db.sqlite3"), settings.directory().join("elsewhere"));
    fs::rename(&file, &elsewhere).unwrap();
    assert_moved(&app).await;
    assert!(!file.exists(), "none is made in its place");
    fs::rename(&elsewhere, &file).unwrap();
    app.get("/").await.assert_lists(["Kept", "As well", "And this"]);
    assert_eq!(add_at_once(&app, names("after", 8)).await, [303; 8]);
}

#[tokio::test]
async fn a_file_that_is_replaced_is_neither_read_nor_written() {
    let [settings, other] = [Settings::new().with("DEBUG", "False"), Settings::new()];
    let app = settings.serve();
    app.add("Ours").await.assert_lists(["Ours"]);
    let theirs = other.serve();
    theirs.add("Theirs").await;
    assert!(theirs.interrupt().0.success());
    let path = |settings: &Settings| settings.directory().join("db.sqlite3");
    let before = fs::read(path(&other)).unwrap();
    fs::copy(path(&other), settings.directory().join("next")).unwrap();
    fs::rename(settings.directory().join("next"), path(&settings)).unwrap();
    assert_moved(&app).await;
    app.kill();
    assert_eq!(fs::read(path(&settings)).unwrap(), before);
}
