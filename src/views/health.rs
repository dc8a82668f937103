//! What a hosting platform asks: is the process alive, can it serve?

use std::fmt::Write;

use axum::extract::State;
use axum::http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::config::ServerConfig;
use crate::db::Database;

/// Answers as long as the process does.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Answers 200 if the database can be reached and the process has not been told to stop, else 503. A dead cache is
/// told, and is no failure: pages are served without it. Versions, addresses and user names are for developers only.
pub async fn readyz(
    State(db): State<Database>,
    State(cache): State<Cache>,
    State(server): State<ServerConfig>,
    State(stopping): State<CancellationToken>,
) -> (StatusCode, String) {
    if stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into());
    }
    let (database, checks) = tokio::join!(db.version(), cache.check());
    let status = if database.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let is_cache_well = checks.iter().all(|check| check.outcome.is_ok());
    let word = |is_well: bool| if is_well { "ok" } else { "failed" };
    let mut report = format!("database: {}\ncache: {}\n", word(database.is_ok()), word(is_cache_well));
    if server.debug {
        // Writing to a string cannot fail.
        let _ = match database {
            Ok(version) => writeln!(report, "\n{version}"),
            Err(error) => writeln!(report, "\n{error}"),
        };
        let _ = writeln!(report, "{cache}");
        for stats in cache.stats() {
            let _ = writeln!(report, "{stats}");
        }
        for check in checks {
            let _ = match check.outcome {
                Ok(found) => writeln!(report, "{}: {found}", check.server),
                Err(error) => writeln!(report, "{error}"),
            };
        }
    }
    (status, report)
}
