//! The composition root: makes the parts of the configuration and puts them together.

use std::sync::Arc;

use axum::extract::FromRef;
use axum::response::IntoResponse;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::cache::BackendConfig;
use crate::config::session::SessionEngine;
use crate::config::{Config, ServerConfig};
use crate::db::Database;
use crate::db::cache::DatabaseCache;
use crate::db::sessions::DatabaseStore;
use crate::error::Error;
use crate::handlers::health::Readiness;
use crate::listing::Listing;
use crate::memcache_crate::{MemcacheCrate, UnsupportedCredentials};
use crate::monitor::Monitor;
use crate::tasks::Adder;
use crate::upstream::Upstream;
use neverstale::backend::dummy::Dummy;
use neverstale::backend::file::Files;
use neverstale::backend::locmem::Locmem;
use neverstale::backend::memcached::Memcached;
use neverstale::{Cache, CacheOptions, Integrity};
use neverstale_axum::PageCache;
use neverstale_sessions::Sessions;

/// The bytes of current pages in this process, as responses to be replayed.
const LOCAL_COPIES: u64 = 32 * 1024 * 1024;

/// The application's parts. A handler takes those that it names in its signature.
#[derive(Clone, FromRef)]
pub struct AppState {
    /// The tasks' database.
    pub db: Database,
    /// Adds tasks, many at once.
    pub adder: Adder,
    /// The cache.
    pub cache: Cache,
    /// The list as it is shown.
    pub listing: Listing,
    /// Whole pages.
    pub pages: PageCache,
    /// Sessions of visitors.
    pub sessions: Sessions,
    /// The service behind `/apicalls`.
    pub upstream: Upstream,
    /// Changes under way, which the process waits for before it ends.
    pub changes: TaskTracker,
    /// Cancelled when the process has been told to stop.
    pub stopping: CancellationToken,
    /// What `/readyz` reports.
    pub readiness: Readiness,
    /// Settings of the server.
    pub server: Arc<ServerConfig>,
    /// The numbers of `/cache` and `/metrics`.
    pub monitor: Monitor,
}

impl AppState {
    /// Makes all parts, which connect to nothing yet.
    ///
    /// # Errors
    ///
    /// [`UnsupportedCredentials`] if the `memcache` crate cannot log in as configured.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn from_config(config: &Config) -> Result<Self, UnsupportedCredentials> {
        let db = Database::new(&config.database.url).with_slow_query(config.database.slow_query);
        let cache = cache_over(config, &db)?;
        let pages = PageCache::new(&cache).named("tasklist");
        let pages = if config.cache.local { pages.with_local_copies(LOCAL_COPIES) } else { pages };
        let sessions = sessions_over(config, &db, &cache);
        let listing = Listing::new(&db, &cache, &pages, config.cache.strategy);
        let (checks, kept_in) = (listing.clone(), config.session.engine.describe());
        Ok(Self {
            monitor: Monitor::new(&cache, &config.cache.strategy, &kept_in, move || checks.gate_stats()),
            adder: Adder::new(&db),
            db,
            listing,
            pages,
            sessions,
            upstream: Upstream::new(&config.api),
            changes: TaskTracker::new(),
            stopping: CancellationToken::new(),
            readiness: Readiness::default(),
            cache,
            server: Arc::new(config.server.clone()),
        })
    }
}

fn sessions_over(config: &Config, db: &Database, cache: &Cache) -> Sessions {
    let secret = config.session.signing_secret();
    let sessions = match config.session.engine {
        SessionEngine::Cache => Sessions::in_cache(cache, &secret),
        SessionEngine::CachedDb => Sessions::write_through(DatabaseStore::new(db), cache, &secret),
        SessionEngine::Db => Sessions::in_store(DatabaseStore::new(db), &secret),
    };
    sessions.error_response(|error| Error::from(error).into_response())
}

fn cache_over(config: &Config, db: &Database) -> Result<Cache, UnsupportedCredentials> {
    let prefix = config.cache.key_prefix.clone();
    let secret = config.session.signing_secret();
    let integrity = if config.cache.signed { Integrity::signed(&secret) } else { Integrity::default() };
    let options = CacheOptions::default().prefix(prefix).integrity(integrity);
    let options = options.max_wait(db.max_wait_for_others());
    Ok(match &config.cache.backend {
        BackendConfig::Locmem => Cache::new(Locmem::new(), options),
        BackendConfig::Memcached(servers) => Cache::new(Memcached::new(servers.clone()), options),
        BackendConfig::MemcacheCrate(servers) => Cache::new(MemcacheCrate::new(servers)?, options),
        BackendConfig::Dummy => Cache::new(Dummy, options),
        BackendConfig::File(directory) => Cache::new(Files::new(directory.clone()), options),
        BackendConfig::Database => Cache::new(DatabaseCache::new(db.clone()), options),
    })
}
