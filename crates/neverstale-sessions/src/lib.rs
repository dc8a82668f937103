//! Sessions: what is kept for one visitor from one request to the next.
//!
//! # What is here
//!
//! A [`Store`] keeps sessions: in the cache ([`CacheStore`]), in a store of yours such as a table, or in such a store
//! and read through the cache ([`WriteThrough`]). Handlers work with the [`Session`] of `tower-sessions`,
//! which [`carry`] puts among a request's extensions. [`Sessions`] is also a `SessionStore` of that crate, for those
//! who want its own layer: only [`carry`] says of a request that its session was loaded, so that a page made of it is
//! not cached ([`Privacy`](neverstale_axum::Privacy)).
//!
//! ```text
//!   carry ─── cookie ──→ Visit ─┬─ CacheStore ──────→ Cache       gone when the cache is
//!   (layer)   id, seen   (one   ├─ a store of yours → table
//!                    request's) └─ WriteThrough ────→ another store, and then Cache
//! ```
//!
//! ```
//! use axum::{Extension, Router, body::Body, http::Request, middleware::from_fn_with_state, routing::post};
//! use neverstale::{Cache, CacheOptions, backend::locmem::Locmem};
//! use neverstale_sessions::{CacheStore, Session, Sessions, Signer, carry};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! async fn count(Extension(session): Extension<Session>) -> String {
//!     let visits = session.get::<u32>("visits").await.ok().flatten().unwrap_or(0) + 1;
//!     session.insert("visits", visits).await.expect("a number has an encoding");
//!     visits.to_string()
//! }
//!
//! let cache = Cache::new(Locmem::new(), CacheOptions::default());
//! let secret = b"thirty-two bytes that nobody else knows"[..].try_into()?;
//! let sessions = Sessions::new(CacheStore::new(&cache), Signer::new(&secret));
//! let site: Router = Router::new().route("/", post(count)).layer(from_fn_with_state(sessions, carry));
//!
//! let response = site.clone().oneshot(Request::post("/").body(Body::empty())?).await?;
//! let cookie = response.headers()["set-cookie"].to_str()?.split(';').next().expect("a pair");
//! let again = Request::post("/").header("cookie", cookie).body(Body::empty())?;
//! let body = axum::body::to_bytes(site.oneshot(again).await?.into_body(), 10).await?;
//! assert_eq!(body, "2");
//! # Ok(())
//! # }
//! ```
//!
//! # What a cookie says
//!
//! `sessionid=ID.SEEN.SIGNATURE`: which session, and a digest of what was stored in it when this visitor was last told
//! ([`Seen`]). Nobody without the key can make one, so no store is ever asked for a session that was never given out.
//!
//! # Why an outage of the cache loses nothing
//!
//! - **Written to the database first.** The cache is told afterwards, and whether it hears does not matter.
//! - **A copy counts only if it is what this visitor has seen.** Where a set was lost, or an old copy came back, the
//!   digests differ and the database is asked. No time to live is relied on.
//! - **What changes something asks the database.** A request that is not safe (RFC 9110, section 9.2.1) passes by the
//!   cache when it loads, so a session that was deleted elsewhere is gone for it, whatever the cache still holds.
//! - **A save replaces what was loaded.** If that is no longer there, it is [`Error::Gone`]: nothing brings a deleted
//!   session back. If it was changed meanwhile, this request's changes are put on top of the others, key by key.
//! - **What has begun is ended.** A save or a deletion tells the cache what came of it also when nobody waits for it
//!   any more, and takes the copy away where that is not known.
//!
//! # What people trip over
//!
//! - **Store nothing, and there is no session** and no cookie. Without a cookie, no store is asked.
//!   [`Visit::may_have_session`] says whether there is one: a [`Session`] has an id in any case.
//! - **Save before you act** on what must not happen twice, as in showing a message: [`Session::save`] says whether the
//!   session is still there and, after [`Visit::insist`], whether it is still as it was loaded.
//! - **Change the id with every login,** by [`Session::cycle_id`]. An id that no store knows is never taken over.
//! - **Two requests at the same time** that set the same key: the later one wins, unless it insists. In the cache
//!   alone, which cannot compare, the later one wins altogether.
//! - **Ids are secrets,** so names in stores are digests of them.
//!
//! # Limits
//!
//! A session lives for two weeks after it was last changed, or read a day later, by the clock of this machine: one that
//! jumps ends it so much earlier or later, and when it is next read it gets its two weeks again. In [`WriteThrough`], a
//! session that was deleted while the cache could not be told may still be read, by safe requests with its old cookie,
//! where the cache has not been told since; so it is where somebody deletes the row by hand, or a cache goes back to
//! what it had. If you cannot have that, use your store alone. In [`CacheStore`] a session is gone when the cache
//! loses it, and what the cache could not be told, of a change or a deletion, no other process knows.
//!
//! A browser that has two requests under way may get their answers in the wrong order. Then safe requests are shown the
//! earlier state until the next that is not safe, if the cache misses the later change; and if one of them changed the
//! id, the other, which found no session any more, may take the new cookie away.

mod cache_store;
mod cookie;
mod layer;
mod store;
mod visit;
mod write_through;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};

pub use self::cache_store::CacheStore;
pub use self::cookie::{Signer, may_be_in};
pub use self::layer::carry;
pub use self::store::{Acceptable, Name, Replaced, Seen, Store, Stored, now};
pub use self::visit::Visit;
pub use self::write_through::WriteThrough;
pub use tower_sessions::Session;

/// How long a session lives after it was last used.
pub const LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The sessions of a site: their store, and the signer of their cookies. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    store: Arc<dyn Store>,
    signer: Arc<Signer>,
    refuse: fn(Error) -> Response,
}

/// Why a session could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was deleted, or has expired, since it was loaded.
    #[error("the session was deleted before the request was done")]
    Gone,
    /// What keeps it did not do it. A change may have happened.
    #[error("session store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What keeps it did not answer in time. A change may have happened.
    #[error("session store did not answer in time")]
    Timeout,
    /// The cache did not do it, and nothing else keeps the session.
    #[error("the cache that keeps the session fails")]
    Cache,
    /// Others went on changing it.
    #[error("the session is changed by too many requests at once")]
    Contended,
    /// What is in it cannot be encoded, or what was stored is no session.
    #[error("the session has no encoding")]
    Encoding(#[source] serde_json::Error),
}

impl Sessions {
    /// Keeps sessions in a store.
    pub fn new(store: impl Store, signer: Signer) -> Self {
        Self { store: Arc::new(store), signer: Arc::new(signer), refuse: Error::into_response }
    }

    /// Chooses what a visitor is answered whose session could not be saved; by default a bare status.
    #[must_use]
    pub fn refuse_with(mut self, refuse: fn(Error) -> Response) -> Self {
        self.refuse = refuse;
        self
    }

    /// Removes sessions that have expired, a thousand at a time and at most so many times, and returns how many. Stores
    /// that forget by themselves have none.
    ///
    /// # Errors
    ///
    /// The store's; those removed before are gone.
    pub async fn clear_expired(&self, rounds: usize) -> Result<usize, Error> {
        let mut cleared = 0;
        for _ in 0..rounds {
            let count = self.store.clear_expired(CLEARED_AT_ONCE).await?;
            cleared += count;
            if count < CLEARED_AT_ONCE {
                break;
            }
        }
        Ok(cleared)
    }
}

/// A statement that removes more would keep other writers waiting.
const CLEARED_AT_ONCE: usize = 1000;

/// Says where sessions are kept.
impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.store.describe())
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({self})")
    }
}

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
