//! What a hosting platform asks: is the process alive, can it serve?

use std::fmt::Write;

use axum::extract::State;
use axum::http::StatusCode;

use crate::cache::Cache;
use crate::db::Database;

/// Answers as long as the process does.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Answers 200 if the database can be reached, else 503. A dead cache is told, and is no failure: pages are served
/// without it.
pub async fn readyz(State(db): State<Database>, State(cache): State<Cache>) -> (StatusCode, String) {
    let (database, checks) = tokio::join!(db.version(), cache.check());
    let status = if database.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut report = match database {
        Ok(version) => format!("database: ok, {version}\n"),
        Err(error) => format!("database: {error}\n"),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(report, "cache: {cache}; since start {}", cache.stats());
    for check in checks {
        let _ = match check.outcome {
            Ok(found) => writeln!(report, "cache {}: ok, {found}", check.server),
            Err(error) => writeln!(report, "cache {error}"),
        };
    }
    (status, report)
}
