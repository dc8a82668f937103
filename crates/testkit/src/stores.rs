//! A store for each backend of `neverstale`, of a test's own.

use std::any::Any;
use std::sync::Arc;

use neverstale::backend::Backend;
use neverstale::backend::dummy::Dummy;
use neverstale::backend::file::Files;
use neverstale::backend::locmem::Locmem;
use neverstale::backend::memcached::Memcached as MemcachedBackend;
use tokio_memcached::{Credentials, Options};

use super::PATIENCE;
use super::memcached::{Memcached, PASSWORD, USER};

/// An empty store, and two handles on it.
pub struct Store {
    pub backend: Arc<dyn Backend>,
    /// Another handle, as another process has it; the same one where the store is in this process.
    pub other: Arc<dyn Backend>,
    /// What goes when the store does: a server, a directory.
    _kept: Box<dyn Any>,
}

impl Store {
    pub fn new([backend, other]: [Arc<dyn Backend>; 2], kept: impl Any) -> Self {
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
    let handle = || Arc::new(MemcachedBackend::new(patient(&server)));
    Store::new([handle(), handle()], server)
}

pub async fn file() -> Store {
    let directory = tempfile::tempdir().unwrap();
    let handle = || Arc::new(Files::with_timeout(directory.path().join("cache"), PATIENCE));
    Store::new([handle(), handle()], directory)
}

pub async fn dummy() -> Store {
    Store::new([Arc::new(Dummy), Arc::new(Dummy)], ())
}

/// Options for a server, which may ask for a login.
pub fn options(address: &str, login: bool) -> Options {
    let options = Options::new([address.parse().unwrap()]).unwrap();
    if !login {
        return options;
    }
    options.credentials(Credentials { username: USER.to_owned(), password: PASSWORD.into() })
}

/// Options for a server that asks for a login and is expected to answer, however busy the machine is.
pub fn patient(server: &Memcached) -> Options {
    options(&server.address(), true).operation_timeout(PATIENCE).connect_timeout(PATIENCE)
}
