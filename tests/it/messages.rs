//! What a visitor is told of their own changes, how they take one back, and the cookie by which they are known.

mod announcements;
mod cookies;
mod identity;
mod kept;
mod outages;
mod pages;
mod shared;
mod undo;

use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;
use testkit::postgres::TestDatabase;

const KEY: &str = "a key that is long enough to sign with";

/// Where sessions are kept.
const ENGINES: [&str; 3] = ["cached_db", "db", "cache"];

const STRATEGIES: [&str; 5] = ["expire", "delete", "rotate", "update", "versioned"];

/// What processes of one site have in common, whichever database they have.
fn settings() -> Settings {
    Settings::new().with("SECRET_KEY", KEY)
}

/// As [`settings`], with this database and this cache.
fn site(database: &TestDatabase, memcached: &Memcached) -> Settings {
    settings().with("DATABASE_URL", &database.url).with_memcached(memcached)
}

/// Ends a process whose answers were never changed behind the view cache's back.
#[track_caller]
fn end_calmly(app: App) {
    let (_, output) = app.interrupt();
    assert!(!output.contains("outside the page cache") && !output.contains("panicked"), "{output}");
}
