//! `tasklist check`: tries configuration, database and cache, and says what is wrong with them and what to do.

mod cache;

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::remedy::reach_remedy;
use super::{Unwritten, milliseconds, say};
use crate::app::AppState;
use crate::config::Config;
use crate::config::cache::BackendConfig;
use crate::db::{self, Database};
use crate::session::{self, DatabaseStore};

/// What was tried, and how it went.
#[derive(Clone)]
struct Finding {
    what: String,
    outcome: Result<String, Problem>,
    took: Option<Duration>,
}

#[derive(Clone)]
struct Problem {
    cause: String,
    remedy: &'static str,
}

pub(super) async fn run(config: &Config, json: bool) -> Result<()> {
    let state = AppState::from_config(config)?;
    let database = database(&state.db, config).await;
    let cache = cache(&state, config, database.is_ok()).await;
    let findings = [vec![configuration(config), database], cache].concat();
    let failed = findings.iter().filter(|finding| !finding.is_ok()).count();
    if json {
        let checks: Vec<_> = findings.iter().map(Finding::to_json).collect();
        say(&json!({ "ok": failed == 0, "checks": checks }).to_string())?;
    } else {
        findings.iter().try_for_each(report)?;
    }
    if failed > 0 {
        bail!("{failed} of {} checks failed", findings.len());
    }
    Ok(())
}

/// Tries the cache, unless there is nothing to try, and nothing is wrong with that.
async fn cache(state: &AppState, config: &Config, is_database_well: bool) -> Vec<Finding> {
    let outcome = match config.cache.backend {
        BackendConfig::Dummy => Ok(state.cache.to_string()),
        BackendConfig::Database if !is_database_well => {
            let cause = format!("{}, which is not well", state.cache);
            Err(Problem { cause, remedy: "mend the database, as said above" })
        }
        BackendConfig::Database if is_to_be_made(&state.db, config).await => {
            Ok(format!("{}, which `serve` will make", state.cache))
        }
        _ => return cache::findings(&state.cache).await,
    };
    vec![Finding { what: "cache".into(), outcome, took: None }]
}

/// Returns whether `serve` will make the tables.
async fn is_to_be_made(db: &Database, config: &Config) -> bool {
    let is_pending = async || db.pending_migrations().await.is_ok_and(|pending| !pending.is_empty());
    config.development && (config.database.url.is_missing_file() || is_pending().await)
}

fn report(finding: &Finding) -> Result<(), Unwritten> {
    let Finding { what, outcome, took } = finding;
    let took = took.map(|took| format!(" ({took:.1?})")).unwrap_or_default();
    match outcome {
        Ok(found) => say(&format!("ok      {what}: {found}{took}")),
        Err(problem) => {
            say(&format!("FAILED  {what}: {}{took}", problem.cause))?;
            say(&format!("        remedy: {}", problem.remedy))
        }
    }
}

impl Finding {
    fn is_ok(&self) -> bool {
        self.outcome.is_ok()
    }

    fn to_json(&self) -> Value {
        let took = self.took.map(milliseconds);
        match &self.outcome {
            Ok(found) => json!({ "what": self.what, "ok": true, "found": found, "took_ms": took }),
            Err(Problem { cause, remedy }) => {
                json!({ "what": self.what, "ok": false, "cause": cause, "remedy": remedy, "took_ms": took })
            }
        }
    }
}

fn configuration(config: &Config) -> Finding {
    let mode = if config.development { "development" } else { "production" };
    let (hosts, strategy) = (&config.server.allowed_hosts, config.cache.strategy);
    let mut outcome =
        format!("{mode}, hosts {hosts}, strategy {strategy}, sessions {}", config.session.engine);
    if let Some(weakness) = config.session.weakness.filter(|_| !config.development) {
        outcome = format!("{outcome}; {weakness}");
    }
    Finding { what: "configuration".into(), outcome: Ok(outcome), took: None }
}

async fn database(db: &Database, config: &Config) -> Finding {
    let started = Instant::now();
    let what = format!("database {}", config.database.url);
    if config.development && config.database.url.is_missing_file() {
        return Finding { what, outcome: Ok("does not exist yet; `serve` makes it".into()), took: None };
    }
    let outcome = match db.knock().await {
        Ok(()) => inspect(db, config.development).await,
        Err(error) => {
            let remedy = reach_remedy(&config.database.url, &error);
            Err(Problem { cause: chain(error), remedy })
        }
    };
    Finding { what, outcome, took: Some(started.elapsed()) }
}

async fn inspect(db: &Database, development: bool) -> Result<String, Problem> {
    let unreadable =
        |error| Problem { cause: chain(error), remedy: "may the user of DATABASE_URL read its tables?" };
    let version = db.version().await.map_err(unreadable)?;
    let pending = db.pending_migrations().await.map_err(unreadable)?;
    match (pending.is_empty(), development) {
        (true, _) => match DatabaseStore::new(db).try_writing().await {
            Ok(()) => Ok(format!("{version}, migrated, can be written to")),
            Err(error) => Err(unwritable(error)),
        },
        (false, true) => Ok(format!("{version}, not migrated yet; `serve` does it")),
        (false, false) => Err(Problem {
            cause: format!("not migrated, {} missing", pending.join(", ")),
            remedy: "run `tasklist migrate`",
        }),
    }
}

fn unwritable(error: session::Error) -> Problem {
    let remedy = match &error {
        session::Error::Store(error) if matches!(error.downcast_ref(), Some(db::Error::NoRoom(_))) => {
            "make room on the disk of the database; nothing else is to be done"
        }
        _ => {
            "may the user of DATABASE_URL write to its tables, and with SQLite to the file and its directory?"
        }
    };
    Problem { cause: chain(error), remedy }
}

fn chain(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}
