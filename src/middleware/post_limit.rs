//! A limit on the POSTs of one address, counted in the cache and so for all processes together.
//!
//! A count begins with the first POST of an address and ends a minute later, whatever comes meanwhile
//! ([`Cache::count`] names the exceptions). So an address may send twice as many within a minute that lies across two
//! counts. If the cache fails, every POST passes: a limit that refuses clients because memcached is down would do more
//! harm than good.

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
use tokio::time::timeout;

use super::client_address;
use crate::config::ServerConfig;
use crate::error::Error;
use crate::monitor::{Monitor, Refusal};
use neverstale::{Cache, Key};

/// How long a count lasts.
const MINUTE: Duration = Duration::from_secs(60);

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
        let counted = timeout(TIMEOUT, self.cache.count(&key(address), MINUTE)).await;
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
}
