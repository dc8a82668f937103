//! `tasklist migrate`: brings the database's tables up to date.

use anyhow::{Context, Result};

use crate::config::Config;
use crate::db::Database;

pub(super) async fn run(config: &Config) -> Result<()> {
    let url = &config.database.url;
    let db = Database::new(&config.database);
    let applied = db.migrate().await.with_context(|| format!("failed to migrate {url}"))?;
    for name in &applied {
        println!("applied {name}");
    }
    println!("{url}: up to date");
    Ok(())
}
