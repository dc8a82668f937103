//! Databases as the program opens them: a SQLite file, and one in Postgres.

use tasklist::db::Database;

use testkit::postgres::Postgres;

/// A database with connections of its own, as another process has.
pub fn open_database(url: &str) -> Database {
    Database::new(&url.parse().unwrap())
}

/// Runs a test on a migrated database of each kind, by its URL.
pub async fn on_both_databases(test: impl AsyncFn(&str)) {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}/db.sqlite3", directory.path().display());
    for url in [sqlite, Postgres::shared().database().await.url] {
        open_database(&url).migrate().await.unwrap();
        test(&url).await;
    }
}
