//! A limit on the POSTs of one address, counted in the cache and so for all processes together.
//!
//! A count begins with the first POST of an address and ends a minute later, whatever comes meanwhile. So an address
//! may send twice as many within a minute that lies across two counts. If the cache fails, every POST passes: a limit
//! that refuses clients because memcached is down would do more harm than good.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::header::{self, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::time::timeout;

use super::client_address;
use crate::config::ServerConfig;
use crate::error::Error;
use crate::monitor::{Monitor, Refusal};
use neverstale::{Cache, Event, Key, Ttl, backend};

/// How long a count lasts.
const MINUTE: Duration = Duration::from_secs(60);

/// How often a count that was there and is gone again is begun anew.
const ROUNDS: usize = 2;

/// The time by which the count of a client has ended. The exact time is not known.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

/// How long a POST waits for the count, a little longer than the cache waits for one operation.
const TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct PostLimit {
    limit: Option<NonZeroU32>,
    hops: usize,
    cache: Cache,
    monitor: Monitor,
    /// Warnings that were logged.
    warned: Mutex<BTreeSet<&'static str>>,
}

impl PostLimit {
    pub(super) fn new(config: &ServerConfig, cache: &Cache, monitor: &Monitor) -> Self {
        Self {
            limit: config.post_limit,
            hops: config.trusted_hops,
            cache: cache.counted_as("posts"),
            monitor: monitor.clone(),
            warned: Mutex::default(),
        }
    }

    /// Counts a POST, and returns the response to one too many.
    pub(super) async fn refuse(&self, parts: &Parts) -> Option<Response> {
        let limit = self.limit.filter(|_| parts.method == Method::POST)?;
        let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
        let address = client_address::find(&parts.headers, peer.ip(), self.hops).unwrap_or_else(|reason| {
            self.warn_once(reason);
            peer.ip()
        });
        let counted = timeout(TIMEOUT, count(&self.cache, &key(address), MINUTE)).await;
        let Some(count) = counted.ok().flatten() else {
            self.monitor.pass_uncounted();
            return None;
        };
        if count <= u64::from(limit.get()) {
            return None;
        }
        self.monitor.refuse(Refusal::Posts);
        let mut response = Error::new(StatusCode::TOO_MANY_REQUESTS, TooMany(limit)).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        Some(response)
    }

    /// Warns of an address that is unknown, once for each reason, or clients could fill the log. No address is logged.
    fn warn_once(&self, reason: &'static str) {
        if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(reason) {
            tracing::warn!(
                trusted_hops = self.hops,
                "POST_LIMIT counts the address of the connection: {reason}"
            );
        }
    }
}

/// Counts one more under a key, and returns how many there are now. The first begins the count, which is forgotten when
/// `within` has passed since then, however many come meanwhile. `None` if the cache fails: nobody knows then.
///
/// The end of the count is the backend's business: no clock is read here. What may happen between its two operations,
/// `incr` and, where there is no counter, `add`:
///
/// - *Two begin at once.* Both miss, one adds; the other is told that there is a counter now, and counts after it.
/// - *The counter ends in between,* or a server evicts it: after `incr`, and it is begun anew; after an `add` that
///   found it, and both are tried once more. If that happens again, nobody knows.
/// - *An answer is lost.* It may have been counted, and counts as unknown. The next one is one more, or two.
/// - *A server forgets everything.* All counts begin anew.
///
/// So no count is ever too high but by such a lost answer. Each failure ends it, so it costs one timeout at most.
async fn count(cache: &Cache, key: &Key, within: Duration) -> Option<u64> {
    let name = cache.name(key);
    // The key may be named after a visitor, so it is not logged, as the cache would.
    let failed = |_: &backend::Error| cache.record(Event::Error);
    for _ in 0..ROUNDS {
        if let Some(count) = cache.backend().incr(&name, 1).await.inspect_err(failed).ok()? {
            return Some(count);
        }
        let begun = cache.backend().add(&name, Bytes::from_static(b"1"), Ttl::After(within)).await;
        if begun.inspect_err(failed).ok()? {
            return Some(1);
        }
    }
    None
}

#[derive(Debug, thiserror::Error)]
#[error("more than {0} POSTs in a minute from one address (POST_LIMIT)")]
struct TooMany(NonZeroU32);

/// Returns the key of an address's count. A client with an IPv6 address has all 2^64 of its network.
fn key(address: IpAddr) -> Key {
    let name = match address.to_canonical() {
        IpAddr::V4(address) => format!("posts.{address}"),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("posts.{a:x}:{b:x}:{c:x}:{d:x}")
        }
    };
    Key::new(name).expect("digits, dots and colons are clean")
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use neverstale::CacheOptions;
    use neverstale::backend::locmem::Locmem;

    use super::*;

    #[test]
    fn an_address_counts_for_itself_and_with_ipv6_for_its_network() {
        for (address, expected) in [
            ("192.0.2.7", "posts.192.0.2.7"),
            ("::ffff:192.0.2.7", "posts.192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "posts.2001:db8:1:2"),
            ("2001:db8:1:2::", "posts.2001:db8:1:2"),
            ("::1", "posts.0:0:0:0"),
        ] {
            assert_eq!(key(address.parse().unwrap()).to_string(), expected);
        }
    }

    #[tokio::test]
    async fn of_posts_at_once_each_counts_once_until_the_time_is_over() {
        let cache = Cache::new(Locmem::new(), CacheOptions::default());
        let [key, short] = ["n", "short"].map(|name| Key::new(name).unwrap());
        let counts = join_all((0..20).map(|_| count(&cache, &key, MINUTE))).await;
        assert_eq!(counts.into_iter().map(Option::unwrap).collect::<BTreeSet<_>>(), (1..=20).collect());
        count(&cache, &short, Duration::from_millis(50)).await;
        while count(&cache, &short, MINUTE).await != Some(1) {
            tokio::task::yield_now().await;
        }
        cache.backend().set(&cache.name(&key), "no number".into(), Ttl::Never).await.unwrap();
        assert_eq!(count(&cache, &key, MINUTE).await, None, "nobody knows");
        assert_eq!(cache.stats_of_all()[0].errors, 1);
    }
}
