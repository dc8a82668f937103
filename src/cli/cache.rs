//! `tasklist cache`: one operation on the cache, for people and for scripts.

mod outcome;
mod stats;
mod verb;

use anyhow::{Result, bail};
use clap::Args;

use super::migrate;
use super::output::{note, print};
use super::remedy::Place;
use crate::app::AppState;
use crate::config::Config;
use crate::config::cache::BackendConfig;

pub(super) use self::verb::Verb;

/// Do one operation on the cache.
///
/// Values go in and out as bare bytes, as any other client stores them. Keys get CACHE_KEY_PREFIX before them. A result
/// is on standard output and nothing else is; how long it took is said on standard error if that is a terminal.
///
/// What did not happen, such as a miss or `add` on a key that is there, is said on standard error with exit code 1, and
/// so is a server that cannot be asked. A bad key or argument is exit code 2.
#[derive(Debug, Args)]
pub(super) struct CacheCommand {
    /// Print one JSON object, such as {"ok":true,"key":"foo","found":true,"value":"bar","took_ms":0.4}.
    ///
    /// `ok` is whether the exit code is 0. `get`, `incr` and `decr` say `found` and `value`, `set`, `add` and `replace`
    /// say `stored`, `delete` says `deleted`, `touch` `touched`, `clear` `cleared`, and `stats` lists `servers`. A
    /// value that is not UTF-8 is `value_base64` instead. What failed has `cause` and `remedy`.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

/// Gives the cache in a SQLite file its table in development, as `serve` does. Where that fails, so does the operation
/// on the cache, and says why.
pub(super) async fn prepare(config: &Config) {
    if matches!(config.cache.backend, BackendConfig::Database) {
        let _ = migrate::in_development(config).await;
    }
}

pub(super) async fn run(config: &Config, command: &CacheCommand) -> Result<()> {
    prepare(config).await;
    let cache = AppState::from_config(config)?.cache;
    if matches!(config.cache.backend, BackendConfig::Locmem) {
        note("tasklist: the cache is in this process and ends with it; `tasklist shell` keeps one longer");
    }
    let outcome = command.verb.run(&cache, Place::of(config)).await;
    if command.json { print(outcome.to_json().to_string().as_bytes()) } else { outcome.print() }?;
    match outcome.failure() {
        Some(failure) => bail!(failure),
        None => Ok(()),
    }
}
