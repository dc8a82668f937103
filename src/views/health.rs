//! What a hosting platform asks: is the process alive, can it serve?

use axum::extract::State;
use axum::http::StatusCode;

use crate::db::Database;

/// Answers as long as the process does.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Answers 200 if the database can be reached, else 503.
pub async fn readyz(State(db): State<Database>) -> (StatusCode, String) {
    match db.version().await {
        Ok(version) => (StatusCode::OK, format!("database: ok, {version}\n")),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("database: {error}\n")),
    }
}
