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
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rogue;
pub mod statements;
#[cfg(feature = "stores")]
pub mod stores;
pub mod terminal;
pub mod upstream;

use std::future::poll_fn;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::atomic::{AtomicU16, Ordering};
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

/// Returns a port that stays free while nobody listens: below those that the kernel gives to whoever asks for any.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 5_000) as u16 * 2;
    let candidates = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed));
    candidates
        .take(1000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port is free")
}

/// Asks until the answer is yes; panics with `what` if it never is.
#[track_caller]
pub fn wait_until(what: &str, mut answer: impl FnMut() -> bool) {
    let started = Instant::now();
    while !answer() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
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
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
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
