//! A disk that is full under a cache in files.

use std::fs;

use crate::outages::assert_logged;
use crate::support::app::{App, Settings};
use crate::support::disk::Disk;
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::wait_until;

fn on_disk(strategy: &str) -> (Disk, Settings) {
    let settings = Settings::new();
    let disk = Disk::mount(&settings, 2 * 1024 * 1024);
    let database = format!("sqlite://{}", settings.directory().join("db.sqlite3").display());
    let cache = format!("file://{}", disk.path().join("cache").display());
    let settings = settings.with("DATABASE_URL", &database).with("CACHE_URL", &cache);
    let settings = settings.with("CACHE_STRATEGY", strategy).with("CACHE_LOCAL", "off");
    let settings = disk.with(settings);
    (disk, settings)
}

/// Returns how many operations of the layers were refused or failed.
async fn failures(app: &App) -> u64 {
    let report: serde_json::Value = serde_json::from_str(&app.get("/cache.json").await.body).unwrap();
    let layers = report["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["errors"].as_u64().unwrap() + layer["refused"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn without_room_for_its_cache_a_site_shows_nothing_old() {
    for strategy in ["versioned", "delete", "rotate", "update"] {
        let (disk, settings) = on_disk(strategy);
        let (app, visitor) = (settings.serve(), Visitor::new());
        visitor.add(&app, "Before").await.assert_lists(["Before"]);
        disk.fill();
        let mut expected = vec!["Before".to_owned()];
        for number in 0..20 {
            expected.push(format!("task {number}"));
            let page = visitor.add(&app, expected.last().unwrap()).await;
            assert_eq!((page.tasks(), page.messages().len()), (expected.clone(), 1), "{strategy}");
            assert_eq!(app.get("/").await.tasks(), expected, "{strategy}");
        }
        let mut left = fs::read_dir(disk.inside("cache")).unwrap().flatten().map(|file| file.file_name());
        assert!(!left.any(|name| name.to_str().unwrap().ends_with(".tmp")), "what was begun is taken away");
        assert!(failures(&app).await > 0);
        assert!(app.output().matches("the cache's files cannot be used").count() <= 1, "{}", app.output());
        wait_until("it is in the log", || app.output().contains("No space left on device"));
        disk.free();
        expected.push("After".into());
        assert_eq!(visitor.add(&app, "After").await.tasks(), expected, "{strategy}");
        app.get("/").await;
        assert!(app.get("/").await.header("cache-status").unwrap().contains("hit"), "{strategy}");
        assert_logged(&app, 0);
    }
}

#[tokio::test]
async fn sessions_in_files_without_room_cost_messages_and_come_back() {
    let (disk, settings) = on_disk("versioned");
    let app = settings.with("SESSION_ENGINE", "cache").serve();
    let visitor = Visitor::new();
    visitor.add(&app, "Before").await.assert_tells([words::added("Before")]);
    disk.fill();
    for number in 0..10 {
        let page = visitor.add(&app, &format!("task {number}")).await;
        assert_eq!((page.status, page.tasks().len()), (200, number + 2));
        assert_eq!(Visitor::new().add(&app, "x").await.status, 200);
        let page = visitor.get(&app, "/").await;
        assert_eq!(visitor.remove(&app, &page, "x").await.status, 200);
    }
    disk.free();
    let page = visitor.add(&app, "After").await;
    assert_eq!(page.messages(), [words::added("After")], "{}", page.body);
    assert_logged(&app, 0);
}
