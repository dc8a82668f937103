//! What sessions, messages and undo once did wrong.

use std::convert::Infallible;
use std::time::Duration;

use tasklist::cache::backend::memcached;
use tasklist::cache::{Cache, CacheOptions, Key, Ttl};
use tasklist::memcached::Options;

use crate::support::eventually;
use crate::support::memcached::Memcached;
use crate::support::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn a_build_lock_that_nobody_waits_for_any_more_is_let_go() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let options = Options::new(vec![proxy.address.to_string().parse().unwrap()]);
    let cache = Cache::new(memcached::Memcached::new(options), CacheOptions::default());
    proxy.hold(".lock");
    let asking = tokio::spawn(async move {
        let build = async || Ok::<_, Infallible>(0);
        cache.get_or_set(&Key::new("answer").unwrap(), Ttl::After(Duration::from_secs(60)), build).await
    });
    proxy.wait_for_held().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    proxy.release();
    // The lock is taken, looked at, and removed. It would expire as well, but not by a message.
    eventually("the lock is let go", async || proxy.messages_with(".lock") == 3).await;
    assert!(memcached.keys().is_empty());
}
