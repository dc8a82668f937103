//! `tasklist check`: tries configuration, database and cache, and says what is wrong with them and what to do.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use crate::app::AppState;
use crate::cache::backend::{self, ErrorKind};
use crate::config::Config;
use crate::db::Database;

/// What was tried, and how it went.
struct Finding {
    what: String,
    outcome: Result<String, Problem>,
    took: Duration,
}

struct Problem {
    cause: String,
    remedy: &'static str,
}

pub(super) async fn run(config: &Config) -> Result<()> {
    let state = AppState::from_config(config)?;
    let mut findings = vec![configuration(config), database(&state.db, config).await];
    findings.extend(cache(&state).await);
    for finding in &findings {
        report(finding);
    }
    let failed = findings.iter().filter(|finding| finding.outcome.is_err()).count();
    if failed > 0 {
        bail!("{failed} of {} checks failed", findings.len());
    }
    Ok(())
}

fn report(finding: &Finding) {
    let Finding { what, outcome, took } = finding;
    match outcome {
        Ok(found) => println!("ok      {what}: {found} ({took:.1?})"),
        Err(problem) => {
            println!("FAILED  {what}: {}", problem.cause);
            println!("        remedy: {}", problem.remedy);
        }
    }
}

fn configuration(config: &Config) -> Finding {
    let mode = if config.development { "development" } else { "production" };
    let outcome =
        format!("{mode}, hosts {}, strategy {}", config.server.allowed_hosts, config.cache.strategy);
    Finding { what: "configuration".into(), outcome: Ok(outcome), took: Duration::ZERO }
}

async fn database(db: &Database, config: &Config) -> Finding {
    let started = Instant::now();
    let version = db.version().await;
    let took = started.elapsed();
    let outcome = match version {
        Err(error) => Err(Problem {
            cause: format!("{:#}", anyhow::Error::from(error)),
            remedy: "is the server of DATABASE_URL up, are user, password and database name right?",
        }),
        Ok(version) => migrated(db).await.map(|()| format!("{version}, migrated")),
    };
    Finding { what: format!("database {}", config.database.url), outcome, took }
}

async fn migrated(db: &Database) -> Result<(), Problem> {
    match db.pending_migrations().await {
        Ok(pending) if pending.is_empty() => Ok(()),
        Ok(pending) => Err(Problem {
            cause: format!("not migrated, {} missing", pending.join(", ")),
            remedy: "run `tasklist migrate`",
        }),
        Err(error) => Err(Problem {
            cause: format!("{:#}", anyhow::Error::from(error)),
            remedy: "may the user of DATABASE_URL read its tables?",
        }),
    }
}

async fn cache(state: &AppState) -> Vec<Finding> {
    let to_finding = |check: backend::ServerCheck| Finding {
        what: format!("cache {}", check.server),
        took: check.took,
        outcome: check
            .outcome
            .map_err(|error| Problem { cause: error.kind.to_string(), remedy: remedy(&error.kind) }),
    };
    let checks = state.cache.check().await;
    if checks.is_empty() {
        let outcome = Ok(state.cache.to_string());
        return vec![Finding { what: "cache".into(), outcome, took: Duration::ZERO }];
    }
    checks.into_iter().map(to_finding).collect()
}

fn remedy(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unreachable(_) => {
            "is MEMCACHIER_SERVERS right, does memcached run there, is it behind a firewall?"
        }
        ErrorKind::Timeout(_) => {
            "it accepts connections and does not answer: is it overloaded, stopped, or no memcached?"
        }
        ErrorKind::Unauthenticated => {
            "check MEMCACHIER_USERNAME and MEMCACHIER_PASSWORD on the provider's overview page"
        }
        _ => "is the server of MEMCACHIER_SERVERS a memcached that speaks the binary protocol?",
    }
}
