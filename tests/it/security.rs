//! What docs/security.md promises: against a cache server in other hands, visitors who want others to be shown something
//! else, and whoever reads what the program prints.

mod document;
mod hostile;
mod injection;
mod poisoning;
mod secrets;
mod signed;
mod supply;

use crate::support::app::{App, Settings};
use crate::support::memcached::Memcached;

const SECRET: &str = "a-key-that-is-long-enough-for-this-site";

/// The strategies of which a server could make what it likes.
const STRATEGIES: [&str; 5] = ["versioned", "delete", "rotate", "update", "expire"];

fn settings(memcached: &Memcached, signed: bool) -> Settings {
    let settings = Settings::new().with_memcached(memcached).with("SECRET_KEY", SECRET);
    settings.with("CACHE_SIGNED", if signed { "on" } else { "off" })
}

/// How many values a server has taken for none of its own.
async fn unreadable(app: &App) -> u64 {
    let metrics = app.get("/metrics").await.body;
    let lines = metrics.lines().filter(|line| line.starts_with("tasklist_cache_unreadable_total"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
