//! Whole pages cached around axum handlers, until they expire or are purged: Django's `cache_page`, as a tower layer.
//!
//! # What it is
//!
//! ```
//! # use std::time::Duration;
//! # use axum::{Router, routing::get};
//! # use neverstale::backend::locmem::Locmem;
//! # use neverstale_axum::PageCache;
//! # use neverstale::{Cache, CacheOptions, Ttl};
//! let cache = Cache::new(Locmem::new(), CacheOptions::default());
//! let pages = PageCache::new(&cache);
//! let five_minutes = pages.cache_page(Ttl::After(Duration::from_secs(300)));
//! let news = get(|| async { "news" }).layer(five_minutes.vary_on_query(["page"]));
//! let site: Router = Router::new().route("/news", news);
//! // Elsewhere, after a change: `pages.purge("/news").await`
//! ```
//!
//! A layer around one view, or around a whole router. The answer to GET or HEAD comes from the cache, or else from the
//! view, once however many ask; `Cache-Status` on every answer says which, and why an answer was not stored.
//!
//! ```text
//!              ┌── generation of the path ──┐   one round trip
//!   request ──→│   page of the URL          │──→ page, of this generation ───────────────────→ hit
//!              └── its variant, if known ───┘──→ none, or of another ──→ view, once ──→ store ──→ answer
//! ```
//!
//! # The steps
//!
//! 1. Three kinds of keys: `~view.generation:PATH#` is a random token; `~view.page:GET:URL#` is a page, or the names
//!    of the request headers that it varies on; then the page is at `~view.page:GET:URL#~#HASH`, of their names and
//!    values.
//! 2. A request asks for the generation and the page at once, and for the variant as well if this process has learned
//!    the names (`learn_cache_key`). What it finds counts only if it bears the generation that it found.
//! 3. On a miss one builds and the others wait for it, in this process and in others
//!    ([`Cache::get_or_set`](neverstale::Cache::get_or_set) has the same rules). What they wait for is named by page
//!    *and generation*.
//! 4. The view runs. Its answer is stored with the generation of step 2, which was read before the view began.
//! 5. An answer that may not be stored goes to its own caller. All who waited then run the view at once, and for two
//!    seconds nobody waits for it, unless it was a failure.
//!
//! # What holds
//!
//! **No request that begins after a purge has returned gets an answer whose view began before it.** For a page bears a
//! generation that was current before its view began; a purge replaces it with a token that was never used; and whoever
//! begins later reads the new one. Nothing rests on who stores last:
//!
//! | what happens | what comes of it |
//! |---|---|
//! | view begins, purge, view ends, page stored | it bears the old generation: a miss |
//! | view A begins, purge, view B begins and stores, A stores over it | B's page is lost: a miss, once |
//! | view begins, purge, another asks | it waits for a build of the new generation, never for the old one |
//! | two ask where there is no generation | `add` lets one win, the other reads its token |
//! | no generation is found, purge, `add` | the `add` fails, the purge's token is read |
//! | the generation is evicted, or its server restarted | a new random one: misses, never an old page |
//! | a purge's token arrives late, after another's | both are new to every page: misses |
//! | a page or a list of names is evicted | a miss |
//! | the generation cannot be read or made | the view runs, nothing is stored: bypass |
//!
//! # Pages kept by version
//!
//! Where the origin can say which version of the data is the current one, [`CachePageLayer::versioned`] needs no
//! generation and no purge. Every request first passes the [`VersionSource`](neverstale::version::VersionSource); then
//! it looks for the page of that version, in this process's copies and in the cache, where the version is part of the
//! key. A miss runs the view, which says with a [`PageVersion`] which version it has read: at least the one that was
//! asked for, and it is stored under that. What is stored is never wrong, only no longer asked for; so the cache may
//! lose, delay, repeat or bring back whatever it likes.
//!
//! # Conditions
//!
//! A page has a strong `ETag` for each encoding, and the layer answers 304 or 412 where a request's conditions say so
//! (RFC 9110, section 13). [`conditional`] does that for responses that are not cached.
//!
//! # Private state
//!
//! A response is not stored if the request's private state was looked at while it was made: the request's [`Privacy`]
//! marker says so, wherever in the order of layers it is marked. `neverstale_sessions::carry` marks it when a session
//! is loaded; an extractor of credentials should do the same. Those who wait for such a page build their
//! own, and a request that was marked further out passes by the cache.
//!
//! # One visitor's own
//!
//! A page that now and then has something for one visitor, such as a message, stays everybody's with
//! [`CachePageLayer::personal`]: while the page is looked for, the visitor's session is, and only if there is
//! something in it the view runs, for an answer that nobody keeps. Whoever brings no cookie is not asked about.
//!
//! # What people trip over
//!
//! - **Two lifetimes.** `ttl` is the server's; an answer's own `max-age` does not change it, and
//!   [`Ttl::Never`](neverstale::Ttl::Never) is for ever. The browser is told `no-cache` with a strong `ETag`, unless
//!   the view gave a `max-age` or `Expires`, or the route a [`Browser`] lifetime, which counts from when the browser
//!   got the page. `Age` is set only where the view itself gave both `max-age` and `Expires` (Django sets both, and
//!   `Age` always).
//! - **`no-cache` in a view's own answer** means that it is not stored, as do `private` and `no-store`. So a view's
//!   layer belongs inside what adds such headers to every answer, and outside what makes an answer a visitor's own:
//!   it sees, and judges, only what is further in. [`watch_order`] warns where it is not so.
//! - **Any `Set-Cookie`** keeps an answer out. Django stores it, unless it varies on `Cookie`.
//! - **`Vary` is a promise.** A handler that looks at a header and does not name it shows one visitor's page to others.
//!   Only `Authorization` is added by itself, unless the response is `public`. The marker sees no look at a header.
//! - **The query counts as asked**, its order included, until the route names the parameters that matter. Then a view
//!   must look at no others.
//! - **Encodings** are the cache's: what becomes shorter is kept plain, in gzip and in brotli, and sent as
//!   `Accept-Encoding` likes it, which then is no part of the key. Where a process keeps copies, the page is stored in
//!   the one that its first visitor likes, and a copy gets another once somebody asks for it. Not so what the view
//!   encoded itself, or forbids to transform. A layer further out that compresses must leave such answers alone, see
//!   [`Outcome::is_as_stored`].
//! - **A view with a time limit** counts from its [`Arrival`], since it may run after others have been waited for.
//! - **Another build** with other templates must not find the pages of this one: see [`CachePageLayer::digest`].
//! - **HEAD** is GET without the body: the view sees a GET, and what it answers is stored as such.
//! - **The host is the client's word.** Put what checks it further out. `X-Forwarded-Proto` is believed.
//! - A client's own `Cache-Control` is ignored: no visitor can force a miss.
//!
//! # Limits
//!
//! - Answers of 200 only, of a length known beforehand, at most 1 MB with their headers. What streams passes untouched.
//! - A purge that did not reach its server is made up for before this process asks there again; other processes may
//!   show the old page until then, and for ever if this one ends first.
//! - The generation and the page are two keys: of two servers either may be away, which is a bypass or a miss.
//! - A purge is of one path, however written; there is none of all below a path.
//! - A page's remaining life is told by this machine's clock.

pub mod conditional;
pub mod finished;
pub mod head;
pub mod headers;
pub mod target;

mod again;
mod answer;
mod encodable;
mod encoding;
mod entry;
mod key;
mod layer;
mod local;
mod mistake;
mod order;
mod outcome;
mod personal;
mod policy;
mod privacy;
mod service;
mod store;
mod verdict;
mod visit;

pub use self::again::{Current, KnownVersion, Replay};
pub use self::layer::{CachePageLayer, PageCache, cache_page};
pub use self::order::{make_personal, watch_order};
pub use self::outcome::{Arrival, CACHE_STATUS, CurrentVersion, Fwd, Outcome, PageVersion, SERVER_TIMING};
pub use self::privacy::Privacy;
pub use self::service::CachePageService;
pub use self::verdict::Browser;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
