//! `tasklist clearsessions`: removes the sessions that have expired.

use anyhow::{Context, Result};

use super::migrate;
use super::output::say;
use crate::app::AppState;
use crate::config::Config;
use crate::config::session::SessionEngine;

pub(super) async fn run(config: &Config) -> Result<()> {
    if config.session.engine != SessionEngine::Cache {
        migrate::in_development(config).await?;
    }
    let sessions = AppState::from_config(config)?.sessions;
    let failed =
        || format!("failed to clear sessions of {}; `tasklist check` says more", config.database.url);
    let cleared = sessions.clear_expired(usize::MAX).await.with_context(failed)?;
    let noun = if cleared == 1 { "session" } else { "sessions" };
    say(&format!("{cleared} expired {noun} removed"))?;
    Ok(())
}
