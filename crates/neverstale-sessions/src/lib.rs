//! Sessions for axum, kept in a store of yours, in a cache, or in both.
//!
//! A session is the data of one visitor, kept from one request to the next. Handlers work with the [`Session`]
//! of `tower-sessions`. [`Sessions`] says where sessions are kept, signs their cookies, and makes the
//! [layer](Sessions::layer) that brings a request its session:
//!
//! ```
//! use axum::{Extension, Router, body::Body, http::Request, routing::post};
//! use neverstale::{Cache, CacheOptions, backend::locmem::Locmem};
//! use neverstale_sessions::{Session, Sessions};
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
//! let sessions = Sessions::in_cache(&cache, &secret);
//! let site: Router = Router::new().route("/", post(count)).layer(sessions.layer());
//!
//! let response = site.clone().oneshot(Request::post("/").body(Body::empty())?).await?;
//! let cookie = response.headers()["set-cookie"].to_str()?;
//! let cookie = cookie.split(';').next().expect("a pair");
//! let again = Request::post("/").header("cookie", cookie).body(Body::empty())?;
//! let body = axum::body::to_bytes(site.oneshot(again).await?.into_body(), 10).await?;
//! assert_eq!(body, "2");
//! # Ok(())
//! # }
//! ```
//!
//! # Where sessions are kept
//!
//! | | reads | a lost cache |
//! |---|---|---|
//! | [`Sessions::in_cache`] | the cache | loses all sessions |
//! | [`Sessions::in_store`] | your [`Store`], such as a table | does not matter |
//! | [`Sessions::write_through`] | the cache, else your store | costs a read of the store |
//!
//! # What the cookie holds
//!
//! `sessionid=ID.SEEN.SIGNATURE`: the session's id, and a digest of the latest state that this visitor has seen
//! ([`Seen`]). Without the secret no client can make a cookie, so no store is asked for an id that was never given out.
//! The cookie is `HttpOnly` and `SameSite=Lax`, and `Secure` over HTTPS.
//!
//! # Outages of the cache
//!
//! With [`Sessions::write_through`], an outage of the cache loses nothing:
//!
//! - **The store is written first.** The cache is written afterwards, and its failure does not matter.
//! - **A copy counts only if it equals what this visitor has seen.** Where a write to the cache was lost, or an old
//!   copy came back, the digests differ and the store is asked. Nothing relies on a time to live.
//! - **Requests that may change something ask the store** (all but the safe methods of RFC 9110, section 9.2.1). So a
//!   session that was deleted by another process is gone for them, whatever the cache holds.
//! - **A save replaces what was loaded.** If the session is gone, it fails with [`Error::Gone`]: nothing brings a
//!   deleted session back. If the session was changed meanwhile, the changes are merged, key by key.
//! - **A change that has begun is finished**, also if its request is dropped: the copy in the cache follows the store.
//!
//! # Pitfalls
//!
//! - **An empty session is not stored** and has no cookie. Without a cookie, no store is asked. [`Session::id`] is set
//!   in any case.
//! - **A session is renewed by requests that load it,** and by no others.
//! - **Save before you act** on what must not happen twice, by [`RequestSession::update`].
//! - **Change the id with every login,** by [`Session::cycle_id`]. An id that no store knows is never taken over.
//! - **If two requests set the same key,** the later one wins, unless both use `update`. A cache cannot compare: there
//!   the later save replaces the whole session.
//! - **Ids are secrets.** Stores see a digest of them, and values in the cache are signed.
//! - **A response that depends on a session is private.** `neverstale-axum` does not cache it for others, wherever the
//!   layers stand ([`Privacy`](neverstale_axum::Privacy)).
//!
//! # Limits
//!
//! Sessions expire by the clock of the machine: a clock that jumps ends or prolongs them by as much.
//!
//! With [`Sessions::write_through`], safe requests with an old cookie may still read a session that was deleted while
//! the cache was unreachable, or by hand in the store. The same holds if the cache goes back to an earlier state. If
//! you cannot have that, use [`Sessions::in_store`].
//!
//! A browser with two requests under way may receive the responses in the wrong order. Then safe requests may see the
//! earlier state until the next other request; and if one response changed the id, the other may take the new cookie
//! away.
//!
//! # Features
//!
//! This crate has none. The features of [`neverstale`] choose the backends of the cache.

mod cache_store;
mod cookie;
mod error;
mod layer;
mod request;
mod sessions;
mod store;
mod write_through;

pub use self::cookie::InvalidCookie;
pub use self::error::Error;
pub use self::layer::SessionLayer;
pub use self::request::RequestSession;
pub use self::sessions::Sessions;
pub use self::store::{Replaced, Seen, Store, Stored};
pub use tower_sessions::Session;
pub use tower_sessions::cookie::Cookie;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
