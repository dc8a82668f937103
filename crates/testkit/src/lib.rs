//! Real servers, proxies and a terminal for tests, on free ports, in directories that go when they do.
//!
//! Not published: the crates of this workspace use it in their tests.

#![expect(missing_docs, reason = "only the tests of this workspace use it")]
#![expect(clippy::must_use_candidate, reason = "as above")]
#![expect(clippy::unwrap_used, reason = "a test that finds something missing ends there")]
#![expect(clippy::disallowed_methods, reason = "tests look around and wait for processes in real time")]

pub mod authority;
#[cfg(feature = "stores")]
pub mod contract;
pub mod fake;
pub mod line;
pub mod memcached;
pub mod openmetrics;
pub mod page;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rogue;
pub mod statements;
#[cfg(feature = "stores")]
pub mod stores;
pub mod terminal;
pub mod upstream;

pub use self::port::free_port;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// A client for servers of this machine: it follows no redirect, and trusts nobody where it comes to TLS.
pub fn http() -> reqwest::Client {
    http_trusting(RootCertStore::empty())
}

/// As [`http`], for servers with a certificate of these authorities.
pub fn http_trusting(authorities: RootCertStore) -> reqwest::Client {
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into());
    let tls = tls.with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(authorities).with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    client.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// How long a test waits before it fails: a guard against tests that hang, and far more than a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a future, and panics with `what` if it does not end at all.
pub async fn within_reason<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// Asks until the answer is yes; panics with `what` if it never is.
#[track_caller]
pub fn wait_until(what: &str, mut answer: impl FnMut() -> bool) {
    let started = Instant::now();
    while !answer() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks until the answer is yes, and lets the runtime go on meanwhile; panics with `what` if it never is.
pub async fn eventually(what: &str, mut answer: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !answer().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within_reason(what, asked).await;
}

/// Polls a future so many times, lets everybody else go on in between, and drops it, done or not.
pub async fn abandon(future: impl Future, polls: usize) {
    let mut future = pin!(future);
    for _ in 0..polls {
        if poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// A value of about 4 MB, of which no two parts are alike, so that no compression makes it fit.
pub fn too_long_to_store() -> Vec<u64> {
    (0..200_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
}
