//! `tasklist check`: tries configuration and database, and says what is wrong with them and what to do.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

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
    let db = Database::new(&config.database);
    let findings = [configuration(config), database(&db, config).await];
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
    let outcome = format!("{mode}, hosts {}", config.server.allowed_hosts);
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
