//! The backends of the application keep the contract of all backends, and both clients of memcached do the same in
//! outages. The backends of `neverstale` are tested there.

mod distance;
mod outages;
mod refusals;
mod servers;

use neverstale::backend::Backend;

use crate::support::backends::both_clients;
use testkit::memcached::Memcached;

mod contract {
    use crate::support::backends as stores;

    testkit::backend_contract! { memcache_crate database_on_sqlite database_on_postgres }
}

/// Runs a test on both memcached backends without a login.
async fn on_both_clients(memcached: &mut Memcached, test: impl AsyncFn(&dyn Backend, &mut Memcached)) {
    for backend in both_clients(&memcached.address(), false) {
        test(&*backend, memcached).await;
    }
}
