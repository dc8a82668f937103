//! `tasklist check`: tries configuration, database and cache, and says what is wrong with them and what to do.

mod cache;
mod finding;

use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Result, bail};
use serde_json::json;
use tokio::time::Instant;

use self::finding::{Finding, Problem, report};
use super::output::say;
use super::remedy::{Place, reach_remedy, read_remedy};
use super::serve;
use crate::app::AppState;
use crate::config::Config;
use crate::config::cache::BackendConfig;
use crate::db::sessions::DatabaseStore;
use crate::db::{self, Database, DatabaseUrl};
use crate::tasks;

pub(super) async fn run(config: &Config, json: bool) -> Result<()> {
    // Reading the list is not to take longer than it does.
    let mut config = config.clone();
    config.database.slow_query = Duration::ZERO;
    let config = &config;
    let state = AppState::from_config(config)?;
    let database = database(&state.db, config).await;
    let cache = cache(&state, config, database.is_ok()).await;
    let findings = [vec![configuration(config)], address(config), vec![database], cache].concat();
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

/// Tries the cache, if there is one that can be tried.
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
        _ => return cache::findings(&state.cache, Place::of(config)).await,
    };
    vec![Finding { what: "cache".into(), outcome, took: None }]
}

/// Returns whether `serve` will make the tables.
async fn is_to_be_made(db: &Database, config: &Config) -> bool {
    let is_pending = async || db.pending_migrations().await.is_ok_and(|pending| !pending.is_empty());
    config.development && (config.database.url.is_missing_file() || is_pending().await)
}

fn configuration(config: &Config) -> Finding {
    let mode = if config.development { "development" } else { "production" };
    let (hosts, strategy) = (&config.server.allowed_hosts, config.cache.strategy);
    let mut outcome =
        format!("{mode}, hosts {hosts}, strategy {strategy}, sessions {}", config.session.engine);
    if let Some(weakness) = config.session.weakness().filter(|_| !config.development) {
        outcome = format!("{outcome}; {weakness}");
    }
    Finding { what: "configuration".into(), outcome: Ok(outcome), took: None }
}

/// Tries the address, gives it back, and returns what is odd about it. A port that is in use is no fault: often it is
/// the server itself that has it.
fn address(config: &Config) -> Vec<Finding> {
    let address = config.server.address();
    let outcome = match serve::bind(address) {
        Ok(_) => return vec![],
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Ok("in use, perhaps by `serve` itself".into())
        }
        Err(error) => Err(Problem { cause: error.to_string(), remedy: serve::bind_remedy(&error) }),
    };
    vec![Finding { what: format!("address {address}"), outcome, took: None }]
}

/// Makes the database as `serve` would, under another name in the same directory, and removes it again.
async fn rehearse(config: &Config) -> Result<String, Problem> {
    let url = &config.database.url;
    let DatabaseUrl::Sqlite(options) = url else { return Ok("is on a server".into()) };
    let file = options.get_filename();
    // What a link leads to is what is made.
    let target = fs::read_link(file).map(|target| file.with_file_name(target));
    let mut trial = target.unwrap_or_else(|_| file.to_owned()).into_os_string();
    trial.push(format!("-check-{:016x}", fastrand::u64(..)));
    let trial = PathBuf::from(trial);
    let db = Database::new(&DatabaseUrl::Sqlite(options.clone().filename(&trial)));
    let made = match db.knock().await {
        Ok(()) => db.migrate().await.map(drop),
        Err(error) => Err(error),
    };
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut file = trial.clone().into_os_string();
        file.push(suffix);
        // There is none where it could not be made.
        let _ = fs::remove_file(file);
    }
    match made {
        Ok(()) => Ok("does not exist yet; `serve` makes it".into()),
        Err(error) => Err(Problem { remedy: reach_remedy(url, &error), cause: chain(error) }),
    }
}

async fn database(db: &Database, config: &Config) -> Finding {
    let started = Instant::now();
    let what = format!("database {}", config.database.url);
    if config.development && config.database.url.is_missing_file() {
        return Finding { what, outcome: rehearse(config).await, took: Some(started.elapsed()) };
    }
    let outcome = match db.knock().await {
        Ok(()) => inspect(db, config.development).await,
        Err(error) => {
            Err(Problem { remedy: reach_remedy(&config.database.url, &error), cause: chain(error) })
        }
    };
    Finding { what, outcome, took: Some(started.elapsed()) }
}

async fn inspect(db: &Database, development: bool) -> Result<String, Problem> {
    let unreadable = |error: db::Error| Problem { remedy: read_remedy(&error), cause: chain(error) };
    let version = db.version().await.map_err(unreadable)?;
    let pending = db.pending_migrations().await.map_err(unreadable)?;
    if !pending.is_empty() {
        return if development { may_migrate(db, &version).await } else { Err(not_migrated(&pending)) };
    }
    if development {
        // In production `serve` migrates nothing, and so does not mind.
        let altered = db.altered_migrations().await.map_err(unreadable)?;
        if !altered.is_empty() {
            return Err(Problem {
                cause: format!("migrated by another build: {} differ", altered.join(", ")),
                remedy: "use a database of its own for this build, or the build that migrated it",
            });
        }
    }
    DatabaseStore::new(db).try_writing().await.map_err(unwritable)?;
    tasks::page_stamped(db, 1).await.map_err(|error| Problem {
        cause: format!("its list cannot be read: {}", chain(error)),
        remedy: "may the user of DATABASE_URL read the tables tasks, task_counts and list_state, and is the \
                 one row of list_state as a migration made it? Else restore them from a backup",
    })?;
    Ok(format!("{version}, migrated, can be written to"))
}

fn not_migrated(pending: &[String]) -> Problem {
    let cause = format!("not migrated, {} missing", pending.join(", "));
    Problem { cause, remedy: "run `tasklist migrate`" }
}

/// Tries whether tables can be made, and makes none. SQLite takes the lock of a writer for that.
async fn may_migrate(db: &Database, version: &str) -> Result<String, Problem> {
    let sql = db.choose(
        "begin immediate; rollback; select true",
        "select coalesce(has_schema_privilege(current_schema(), 'create'), false)",
    );
    match db.fetch_one(sql, &[]).await {
        Ok((true,)) => Ok(format!("{version}, not migrated yet; `serve` does it")),
        Ok((false,)) => Err(Problem {
            cause: "not migrated, and this user may make no tables".into(),
            remedy: "give the user of DATABASE_URL the right to create tables, or run `tasklist migrate` as another",
        }),
        Err(error) => Err(unwritable(error.into())),
    }
}

fn unwritable(error: neverstale_sessions::Error) -> Problem {
    let remedy = match &error {
        neverstale_sessions::Error::Store(error)
            if matches!(error.downcast_ref(), Some(db::Error::NoRoom(_))) =>
        {
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
