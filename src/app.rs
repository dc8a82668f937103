//! The composition root: makes the parts of the configuration and puts them together.

use axum::extract::FromRef;

use crate::config::{Config, ServerConfig};
use crate::db::Database;

/// What views take their parts from, each the one it names in its signature.
#[derive(Clone, FromRef)]
pub struct AppState {
    /// The tasks' database.
    pub db: Database,
    /// Hosts and debug.
    pub server: ServerConfig,
}

impl AppState {
    /// Makes all parts. Connects to nothing yet.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self { db: Database::new(&config.database), server: config.server.clone() }
    }
}
