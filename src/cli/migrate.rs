//! `tasklist migrate`: brings the database's tables up to date.

use anyhow::{Context, Result};

use super::say;
use crate::config::Config;
use crate::db::Database;

pub(super) async fn run(config: &Config) -> Result<()> {
    let url = &config.database.url;
    let db = Database::new(&config.database);
    let failed = || format!("failed to migrate {url}; `tasklist check` says more");
    for name in &db.migrate().await.with_context(failed)? {
        say(&format!("applied {name}"));
    }
    say(&format!("{url}: up to date"));
    Ok(())
}
