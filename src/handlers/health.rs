//! Probes of a hosting platform: is the process alive, and can it serve?

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;
use crate::db::Database;
use neverstale::Cache;

/// Answers as long as the process does.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The latest result of [`readyz`]. Cheap to clone.
///
/// Anybody may send probes at any rate. Concurrent ones share a result, so that they do not load database and cache.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Option<(Instant, Answer)>>>);

type Answer = (StatusCode, String);

impl Readiness {
    /// Returns the result of a check that began after this call. One check runs at a time, and all callers that wait
    /// meanwhile share the next one.
    async fn find(&self, look: impl Future<Output = Answer>) -> Answer {
        let asked = Instant::now();
        let mut latest = self.0.lock().await;
        if let Some((begun, answer)) = &*latest
            && *begun >= asked
        {
            return answer.clone();
        }
        let begun = Instant::now();
        let answer = look.await;
        *latest = Some((begun, answer.clone()));
        answer
    }
}

/// Answers 200 if the database can be reached and the process has not been told to stop, else 503.
///
/// A dead cache is reported and no failure: pages are served without it. Versions, addresses and user names are shown
/// in debug mode only.
pub async fn readyz(
    State(db): State<Database>,
    State(cache): State<Cache>,
    State(server): State<Arc<ServerConfig>>,
    State(stopping): State<CancellationToken>,
    State(readiness): State<Readiness>,
) -> (StatusCode, String) {
    if stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into());
    }
    readiness.find(look(&db, &cache, server.debug())).await
}

async fn look(db: &Database, cache: &Cache, debug: bool) -> Answer {
    let (database, checks) = tokio::join!(db.version(), cache.check());
    let status = if database.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let is_cache_well = checks.iter().all(|check| check.outcome.is_ok());
    let word = |is_well: bool| if is_well { "ok" } else { "failed" };
    let mut report = format!("database: {}\ncache: {}\n", word(database.is_ok()), word(is_cache_well));
    if debug {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::time::{sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn callers_that_wait_share_the_next_check() {
        let (readiness, looks) = (Readiness::default(), AtomicUsize::new(0));
        let ask = || {
            readiness.find(async {
                let number = looks.fetch_add(1, Ordering::Relaxed) + 1;
                sleep(SECOND).await;
                (StatusCode::OK, number.to_string())
            })
        };
        let others = async {
            sleep(SECOND / 2).await;
            join_all((0..100).map(|_| ask())).await
        };
        let (first, others) = tokio::join!(ask(), others);
        assert_eq!(first.1, "1");
        assert!(others.iter().all(|(_, number)| number == "2"), "they asked after the first look began");
        assert_eq!(ask().await.1, "3");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_check_is_left_to_the_next_caller() {
        let readiness = Readiness::default();
        assert!(timeout(SECOND, readiness.find(std::future::pending())).await.is_err());
        assert_eq!(readiness.find(async { (StatusCode::OK, "ok".into()) }).await.1, "ok");
    }
}
