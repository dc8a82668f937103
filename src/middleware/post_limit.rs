//! A limit on the POSTs of one address, counted in the cache and so for all processes together.
//!
//! The count begins with an address's first POST and is forgotten a minute later, whatever comes meanwhile
//! ([`Cache::count`], which says what may happen in between). So an address may send twice as many within a minute that
//! lies across two counts. Where the cache fails, everybody passes: a limit that turns visitors away because memcached
//! is gone would do more harm than what it keeps off.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::header::{self, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::client_address::{self, Doubt};
use crate::config::ServerConfig;
use crate::error::Error;
use crate::monitor::{Monitor, Refusal};
use neverstale::{Cache, Key};

/// How long a count lasts.
const MINUTE: Duration = Duration::from_secs(60);

/// What a client is told: its count ends then at the latest. Nobody knows when exactly, nor has to.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

/// How long a POST waits for the count, a little longer than the cache for one operation.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct PostLimit {
    limit: Option<NonZeroU32>,
    hops: usize,
    cache: Cache,
    monitor: Monitor,
    doubts: [AtomicBool; Doubt::COUNT],
}

impl PostLimit {
    pub(super) fn new(config: &ServerConfig, cache: &Cache, monitor: &Monitor) -> Self {
        Self {
            limit: config.post_limit,
            hops: config.trusted_hops,
            cache: cache.counted_as("posts"),
            monitor: monitor.clone(),
            doubts: Default::default(),
        }
    }

    /// Returns the key under which a request counts, if it does: it is a POST, and there is a limit.
    pub(super) fn key(&self, request: &Request) -> Option<Key> {
        if request.method() != Method::POST {
            return None;
        }
        self.limit?;
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        let (address, doubt) = client_address::find(request.headers(), peer.ip(), self.hops);
        if let Some(doubt) = doubt {
            self.say_once(doubt);
        }
        Some(key(address))
    }

    /// Counts a POST, and returns whether its address has sent too many.
    pub(super) async fn is_used_up(&self, key: &Key) -> bool {
        let counted = timeout(PATIENCE, self.cache.count(key, MINUTE)).await;
        let Some(count) = counted.ok().flatten() else {
            self.monitor.pass_uncounted();
            return false;
        };
        self.limit.is_some_and(|limit| count > u64::from(limit.get()))
    }

    pub(super) fn refuse(&self) -> Response {
        self.monitor.refuse(Refusal::Posts);
        let limit = self.limit.map_or(0, NonZeroU32::get);
        let mut response = Error::new(StatusCode::TOO_MANY_REQUESTS, TooMany(limit)).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        response
    }

    /// Says what makes an address doubtful, once: whoever sends such requests could fill the log. No address is logged.
    fn say_once(&self, doubt: Doubt) {
        if !self.doubts[doubt as usize].swap(true, Ordering::Relaxed) {
            tracing::warn!(
                trusted_hops = self.hops,
                "POST_LIMIT counts the address of the connection: {doubt}"
            );
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("more than {0} POSTs in a minute from one address (POST_LIMIT)")]
struct TooMany(u32);

/// Returns the key of an address's count. Whoever has an IPv6 address has all 2^64 of its network.
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
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: &str) {
        assert_eq!(key(address.parse().unwrap()).to_string(), expected);
    }

    #[test]
    fn an_address_counts_for_itself_and_with_ipv6_for_its_network() {
        check("192.0.2.7", "posts.192.0.2.7");
        check("::ffff:192.0.2.7", "posts.192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", "posts.2001:db8:1:2");
        check("2001:db8:1:2::", "posts.2001:db8:1:2");
        check("::1", "posts.0:0:0:0");
    }
}
