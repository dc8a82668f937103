//! A store for each backend, of a test's own.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use neverstale::backend::dummy::Dummy;
use neverstale::backend::file::Files;
use neverstale::backend::locmem::Locmem;
use neverstale::backend::{Backend, memcached};
use tasklist::config::{Config, Variables, cache::BackendConfig};
use tasklist::db::cache::DatabaseCache;
use tasklist::memcache_crate::MemcacheCrate;
use tokio_memcached::Options;

use super::database::open_database;
use testkit::memcached::{Memcached, PASSWORD, USER};
use testkit::postgres::Postgres;

/// An empty store, and two handles on it.
pub struct Store {
    pub backend: Arc<dyn Backend>,
    /// Another handle, as another process has it; the same one where the store is in this process.
    pub other: Arc<dyn Backend>,
    /// What goes when the store does: a server, a directory.
    _kept: Box<dyn Any>,
}

impl Store {
    fn new([backend, other]: [Arc<dyn Backend>; 2], kept: impl Any) -> Self {
        Self { backend, other, _kept: Box::new(kept) }
    }
}

impl AsRef<Self> for Store {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsRef<dyn Backend> for Store {
    fn as_ref(&self) -> &(dyn Backend + 'static) {
        &*self.backend
    }
}

pub async fn locmem() -> Store {
    let backend = Arc::new(Locmem::new());
    Store::new([backend.clone(), backend], ())
}

pub async fn memcached() -> Store {
    let server = Memcached::start_with_sasl();
    let handle = || Arc::new(memcached::Memcached::new(patient(&server)));
    Store::new([handle(), handle()], server)
}

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
    [Arc::new(migrated(url).await), Arc::new(DatabaseCache::new(open_database(url)))]
}

/// The cache in a database, which gets its tables.
pub async fn migrated(url: &str) -> DatabaseCache {
    let db = open_database(url);
    db.migrate().await.unwrap();
    DatabaseCache::new(db)
}

pub async fn file() -> Store {
    let directory = tempfile::tempdir().unwrap();
    let handle = || Arc::new(Files::new(directory.path().join("cache")));
    Store::new([handle(), handle()], directory)
}

pub async fn dummy() -> Store {
    Store::new([Arc::new(Dummy), Arc::new(Dummy)], ())
}

/// Options for a server that asks for a login and is expected to answer, however busy the machine is.
fn patient(server: &Memcached) -> Options {
    let mut options = options(&server.address(), true);
    options.operation_timeout = Duration::from_secs(10);
    options.connect_timeout = Duration::from_secs(10);
    options
}

/// Options as the program makes them of `CACHE_URL`.
pub fn options(address: &str, login: bool) -> Options {
    let login = if login { format!("{USER}:{PASSWORD}@") } else { String::new() };
    let url = format!("memcached://{login}{address}");
    let config = Config::from_variables(&Variables::from([("CACHE_URL", url.as_str())])).unwrap();
    let BackendConfig::Memcached(options) = config.cache.backend else { panic!("{url}") };
    options
}

/// Both backends on memcached servers.
pub fn both_clients(address: &str, login: bool) -> [Arc<dyn Backend>; 2] {
    let options = options(address, login);
    [Arc::new(MemcacheCrate::new(&options).unwrap()), Arc::new(memcached::Memcached::new(options))]
}
