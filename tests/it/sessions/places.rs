//! A store of sessions of each kind, empty, and two processes' handles on it.

use std::any::Any;

use neverstale::{Cache, CacheOptions, Integrity};
use neverstale_sessions::Sessions;
use tasklist::db::Database;
use tasklist::db::sessions::DatabaseStore;
use tempfile::TempDir;

use super::secret;
use crate::support::backends::{self, options};
use crate::support::database::open_database;
use testkit::memcached::Memcached;
use testkit::postgres::Postgres;

/// A store, and what is behind it.
pub struct Place {
    pub here: Sessions,
    /// As another process has it.
    pub there: Sessions,
    pub cache: Option<Cache>,
    pub table: Option<Table>,
    pub memcached: Option<Memcached>,
    /// What goes when the store does.
    _kept: Box<dyn Any>,
}

/// A migrated database.
pub struct Table {
    pub url: String,
    pub db: Database,
    _kept: Box<dyn Any + Send>,
}

impl Table {
    pub async fn on_sqlite() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap()).await
    }

    pub async fn in_directory(directory: TempDir) -> Self {
        let url = format!("sqlite://{}/db.sqlite3", directory.path().display());
        Self::new(url, directory).await
    }

    pub async fn on_postgres() -> Self {
        let database = Postgres::shared().database().await;
        Self::new(database.url.clone(), database).await
    }

    async fn new(url: String, kept: impl Any + Send) -> Self {
        let db = open_database(&url);
        db.migrate().await.unwrap();
        Self { url, db, _kept: Box::new(kept) }
    }

    /// Returns connections of another process.
    pub fn other(&self) -> Database {
        open_database(&self.url)
    }

    /// All that is in the table.
    pub async fn rows(&self) -> Vec<(String, String)> {
        self.db.fetch_all("select id, data from sessions order by id", &[]).await.unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        crate::support::session::Session::open(&self.url).await.execute(sql).await;
    }
}

/// A handle that reads and writes values as sessions are.
pub fn signed(cache: &Cache) -> Cache {
    cache.with_integrity(Integrity::signed(&secret()))
}

/// Two handles on a store of the cache's tests.
fn caches(store: &backends::Store) -> [Cache; 2] {
    [&store.backend, &store.other].map(|backend| Cache::new(backend.clone(), CacheOptions::default()))
}

fn in_cache(store: backends::Store) -> Place {
    let [here, there] = caches(&store);
    Place {
        here: Sessions::in_cache(&here, &secret()),
        there: Sessions::in_cache(&there, &secret()),
        cache: Some(signed(&here)),
        table: None,
        memcached: None,
        _kept: Box::new(store),
    }
}

fn in_table(table: Table) -> Place {
    Place {
        here: Sessions::in_store(DatabaseStore::new(&table.db), &secret()),
        there: Sessions::in_store(DatabaseStore::new(&table.other()), &secret()),
        cache: None,
        table: Some(table),
        memcached: None,
        _kept: Box::new(()),
    }
}

fn through([here, there]: [Cache; 2], table: Table, kept: impl Any) -> Place {
    Place {
        here: Sessions::write_through(DatabaseStore::new(&table.db), &here, &secret()),
        there: Sessions::write_through(DatabaseStore::new(&table.other()), &there, &secret()),
        cache: Some(signed(&here)),
        table: Some(table),
        memcached: None,
        _kept: Box::new(kept),
    }
}

/// A handle on a memcached that is expected to answer, however busy the machine is.
pub fn patient(address: &str) -> Cache {
    let limit = std::time::Duration::from_secs(10);
    let options = options(address, false).operation_timeout(limit).connect_timeout(limit);
    Cache::new(neverstale::backend::memcached::Memcached::new(options), CacheOptions::default())
}

fn through_memcached(table: Table) -> Place {
    let memcached = Memcached::start();
    let caches = [patient(&memcached.address()), patient(&memcached.address())];
    Place { memcached: Some(memcached), ..through(caches, table, ()) }
}

pub async fn cache_over_locmem() -> Place {
    in_cache(backends::locmem().await)
}

pub async fn cache_over_memcached() -> Place {
    let memcached = Memcached::start();
    let [here, there] = [patient(&memcached.address()), patient(&memcached.address())];
    Place {
        here: Sessions::in_cache(&here, &secret()),
        there: Sessions::in_cache(&there, &secret()),
        cache: Some(signed(&here)),
        table: None,
        memcached: Some(memcached),
        _kept: Box::new(()),
    }
}

pub async fn cache_over_memcache_crate() -> Place {
    in_cache(backends::memcache_crate().await)
}

pub async fn cache_over_database() -> Place {
    in_cache(backends::database_on_sqlite().await)
}

pub async fn cache_over_files() -> Place {
    in_cache(backends::file().await)
}

pub async fn database_on_sqlite() -> Place {
    in_table(Table::on_sqlite().await)
}

pub async fn database_on_postgres() -> Place {
    in_table(Table::on_postgres().await)
}

pub async fn through_memcached_on_sqlite() -> Place {
    through_memcached(Table::on_sqlite().await)
}

pub async fn through_memcached_on_postgres() -> Place {
    through_memcached(Table::on_postgres().await)
}

pub async fn through_locmem() -> Place {
    let store = backends::locmem().await;
    through(caches(&store), Table::on_sqlite().await, store)
}

pub async fn through_nothing() -> Place {
    let store = backends::dummy().await;
    through(caches(&store), Table::on_sqlite().await, store)
}
