//! `tasklist migrate`: brings the database's tables up to date.

use anyhow::{Context, Result};

use super::output::say;
use super::remedy::unreachable;
use crate::config::Config;
use crate::db::{Database, DatabaseUrl};

/// Migrates a SQLite file in development, as `serve` does.
///
/// # Errors
///
/// What keeps it from that.
pub(super) async fn in_development(config: &Config) -> Result<()> {
    let url = &config.database.url;
    if !config.development || !matches!(url, DatabaseUrl::Sqlite(_)) {
        return Ok(());
    }
    let db = Database::new(url);
    match db.migrate().await {
        Ok(_) => Ok(()),
        Err(error) => Err(unreachable(url, db.knock().await.err().unwrap_or(error))),
    }
}

pub(super) async fn run(config: &Config) -> Result<()> {
    let url = &config.database.url;
    let db = Database::new(url);
    let failed = || format!("failed to migrate {url}; `tasklist check` says more");
    let migrated = db.migrate().await;
    // The pool hides why there is no connection.
    if migrated.as_ref().is_err_and(|error| error.is_transient() || error.is_untrusted())
        && let Err(cause) = db.knock().await
    {
        return Err(unreachable(url, cause));
    }
    for name in &migrated.with_context(failed)? {
        say(&format!("applied {name}"))?;
    }
    say(&format!("{url}: up to date"))?;
    Ok(())
}
