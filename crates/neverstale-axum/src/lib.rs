//! Whole pages cached around axum handlers, until they expire, are purged or change: Django's `cache_page` as a tower
//! layer.
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use neverstale::{Cache, CacheOptions, Ttl, backend::locmem::Locmem};
//! use neverstale_axum::PageCache;
//!
//! let cache = Cache::new(Locmem::new(), CacheOptions::default());
//! let pages = PageCache::new(&cache);
//! let five_minutes = pages.cache_page(Ttl::After(Duration::from_secs(300)));
//! let news = get(|| async { "news" }).layer(five_minutes.vary_on_query(["page"]));
//! let site: Router = Router::new().route("/news", news);
//! // Elsewhere, after a change: `pages.purge("/news").await`
//! ```
//!
//! The layer goes around one handler or a whole router. The response to GET or HEAD comes from the cache, or else from
//! the handler, which runs once for all requests that miss. `Cache-Status` on every response names the outcome, and the
//! reason if a response was not stored.
//!
//! ```text
//!              ┌── generation of the path ──┐   one round trip
//!   request ──→│   page of the URL          │──→ page of this generation ──→ hit
//!              └── its variant, if known ───┘──→ none, or of another ──┐
//!                                                                      │
//!                 response ←── store ←── handler, once ←───────────────┘
//! ```
//!
//! # The steps
//!
//! 1. There are three kinds of keys. At `~view.generation:PATH#` is a random token. At `~view.page:GET:URL#` is a page,
//!    or the names of the request headers that it varies on. Then the page is at `~view.page:GET:URL#~#HASH`, where
//!    `HASH` is of their names and values.
//! 2. A request gets the generation and the page at once, and the variant as well if this process knows the names. A
//!    page counts only if it bears that generation.
//! 3. On a miss one request builds and the others wait for it, in this process and in others, as for
//!    [`Cache::get_or_set`](neverstale::Cache::get_or_set). They wait for a build of this page *and generation*.
//! 4. The handler runs. Its response is stored with the generation of step 2, which was read before the handler began.
//! 5. A response that may not be stored goes to its own client. All requests that waited for it then run the handler at
//!    once, and for two seconds no request waits for it, unless it was a failure.
//!
//! # What holds
//!
//! **No request that begins after a purge has returned gets a response whose handler began before the purge.** A page
//! bears a generation that was current before its handler began. A purge replaces the generation by a token that was
//! never used, and later requests read the new one. Nothing depends on which store comes last:
//!
//! | what happens | result |
//! |---|---|
//! | handler begins, purge, handler ends, page stored | the page bears the old generation: a miss |
//! | handler A begins, purge, handler B begins and stores, A stores over it | B's page is lost: a miss, once |
//! | handler begins, purge, another request | it waits for a build of the new generation, never for the old one |
//! | two requests find no generation | `add` lets one win, the other reads its token |
//! | no generation is found, purge, `add` | the `add` fails, the purge's token is read |
//! | the generation is evicted, or its server restarted | a new random one: misses, never an old page |
//! | a purge's token arrives late, after another's | both are new to every page: misses |
//! | a page or a list of names is evicted | a miss |
//! | the generation cannot be read or made | the handler runs, nothing is stored: bypass |
//!
//! # Pages by version
//!
//! Where the origin knows the current version of the data, [`CachePageLayer::versioned`] needs no generation and no
//! purge. Every request first gets the current version from the [`VersionSource`](neverstale::version::VersionSource);
//! then it looks for the page of that version in the cache, where the version is part of the key. On a miss the
//! handler runs and names with a [`PageVersion`] the version that it has read, under which the page is stored. What is
//! stored is never wrong, only no longer current; so the cache may lose, delay, repeat or bring back whatever it likes.
//!
//! # Copies in the process
//!
//! A [`ReplayLayer`] outside of the site keeps finished responses [in the process](PageCache::with_local_copies). Then
//! a hit passes none of the site's layers: see [`replay`]. A page by version needs no cache for that. Of other pages
//! the generation is read, once for all requests that come at the same time.
//!
//! # Private state
//!
//! A response is not stored if the request's private state was looked at while the response was made. The request's
//! [`Privacy`] marker records that, wherever in the order of layers it is marked. The layer of `neverstale-sessions`
//! marks it when a session is loaded; an extractor of credentials should do the same. Requests that waited for such a
//! page build their own, and a request that was marked further out bypasses the cache.
//!
//! A page that now and then shows something to one visitor, such as a message, is shared by all other requests with
//! [`CachePageLayer::personal`].
//!
//! # Pitfalls
//!
//! - **Two lifetimes.** `ttl` is the server's; a response's own `max-age` does not change it, and
//!   [`Ttl::Never`](neverstale::Ttl::Never) is for ever. The browser is told `no-cache` with a strong `ETag`, unless
//!   the handler gave a `max-age` or `Expires`, or the route a [`Browser`] lifetime. `Age` is set only where the
//!   handler gave both `max-age` and `Expires`.
//! - **`no-cache` from a handler** means that its response is not stored, as do `private`, `no-store` and any
//!   `Set-Cookie`. So the page layer belongs inside layers that add such headers to every response, and outside layers
//!   that make a response one visitor's own. [`watch_order`] warns where it is not so.
//! - **`Vary` is a promise.** A handler that looks at a header and does not name it shows one visitor's page to others.
//!   Only `Authorization` is added by itself, unless the response is `public`.
//! - **The whole query counts**, its order included, until the route names the parameters that matter. Then the handler
//!   must look at no others.
//! - **Encodings** belong to the cache: a page that becomes shorter is stored plain, in gzip and in brotli, and
//!   `Accept-Encoding` chooses. Behind a [`ReplayLayer`] an encoding is made once a client prefers it. A layer further
//!   out that compresses must leave such responses alone, see [`Outcome::is_as_stored`]. A body that the handler
//!   encoded, or forbids to transform, stays as it is.
//! - **A handler with a time limit** counts from [`PageContext::arrival`]: it may run after others were waited for.
//! - **Another build** with other templates must not find the pages of this one: see [`CachePageLayer::digest`].
//! - **HEAD** is GET without the body: the handler sees a GET. Conditions (RFC 9110, section 13) are answered with 304
//!   or 412, by the tag of each encoding; [`conditional`] does that for responses that are not cached.
//! - **The client chooses the `Host`.** Check it further out. `X-Forwarded-Proto` is believed. A client's own
//!   `Cache-Control` is ignored: no visitor can force a miss.
//!
//! # Limits
//!
//! - Only responses of status 200 and of known length are stored, up to 1 MB with their headers
//!   ([`CachePageLayer::max_size`]). Streams pass untouched.
//! - A purge that did not reach its server is repeated before this process reads there again. Other processes may show
//!   the old page until then, and until it expires if this process ends first.
//! - The generation and the page are two keys: if one of two servers is down, that is a bypass or a miss.
//! - A purge is of one path, in any spelling; no purge covers all paths below another.
//! - A page's remaining lifetime is computed by this machine's clock.
//!
//! # Features
//!
//! This crate has none. The features of [`neverstale`] choose the backends: turn on its `memcached` to share pages
//! between processes.

pub mod conditional;
pub mod head;
pub mod headers;
pub mod replay;
pub mod target;

mod context;
mod encoding;
mod entry;
mod key;
mod layer;
#[cfg(fault_injection)]
mod mistake;
mod order;
mod outcome;
mod personal;
mod policy;
mod privacy;
mod request;
mod service;
mod storable;
mod store;
mod version;

pub use self::context::PageContext;
pub use self::encoding::accepts_nothing;
pub use self::layer::{CachePageLayer, PageCache};
pub use self::order::{make_personal, watch_order};
pub use self::outcome::{CACHE_STATUS, Fwd, Outcome, SERVER_TIMING};
pub use self::policy::Browser;
pub use self::privacy::Privacy;
#[doc(inline)]
pub use self::replay::{ReplayLayer, ReplayService};
pub use self::service::CachePageService;
pub use self::version::PageVersion;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
