//! Stores for the backends of the application, beside those of `testkit::stores`.

use std::sync::Arc;

use neverstale::backend::Backend;
use neverstale::backend::memcached::Memcached as MemcachedBackend;
use tasklist::config::{Config, cache::BackendConfig};
use tasklist::db::cache::DatabaseCache;
use tasklist::memcache_crate::MemcacheCrate;
use tokio_memcached::Options;

use super::database::open_database;
use testkit::PATIENCE;
use testkit::memcached::{Memcached, PASSWORD, USER};
use testkit::postgres::Postgres;
use testkit::stores::patient;
pub use testkit::stores::{Store, dummy, file, locmem};

pub async fn memcache_crate() -> Store {
    let server = Memcached::start_with_sasl();
    let handle = || Arc::new(MemcacheCrate::new(&patient(&server)).unwrap());
    Store::new([handle(), handle()], server)
}

pub async fn database_on_sqlite() -> Store {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/db.sqlite3", directory.path().display());
    Store::new(tables(&url).await, directory)
}

pub async fn database_on_postgres() -> Store {
    let database = Postgres::shared().database().await;
    Store::new(tables(&database.url).await, database)
}

/// Two handles on one table, each with connections of its own.
async fn tables(url: &str) -> [Arc<dyn Backend>; 2] {
    migrated(url).await;
    let handle = || Arc::new(DatabaseCache::with_timeout(open_database(url), PATIENCE));
    [handle(), handle()]
}

/// The cache in a database, which gets its tables.
pub async fn migrated(url: &str) -> DatabaseCache {
    let db = open_database(url);
    db.migrate().await.unwrap();
    DatabaseCache::new(db)
}

/// Options as the program makes them of `CACHE_URL`.
pub fn options(address: &str, login: bool) -> Options {
    let login = if login { format!("{USER}:{PASSWORD}@") } else { String::new() };
    let url = format!("memcached://{login}{address}");
    let config = Config::from_variables([("CACHE_URL", url.as_str())]).unwrap();
    let BackendConfig::Memcached(options) = config.cache.backend else { panic!("{url}") };
    options
}

/// Both backends on memcached servers.
pub fn both_clients(address: &str, login: bool) -> [Arc<dyn Backend>; 2] {
    let options = options(address, login);
    [Arc::new(MemcacheCrate::new(&options).unwrap()), Arc::new(MemcachedBackend::new(options))]
}
