//! A task list that shows how to cache a web application well.
//!
//! This crate is an application to run and a text to read.
//!
//! ```text
//!              cli ── config ── app                      start
//!                                │
//!   request ── middleware ── router ── handlers ── listing ── templates
//!                  │            │         │         │   │
//!                  │    neverstale_axum   │         │   └── neverstale ── tokio_memcached
//!       neverstale_sessions ── visitor ───┘         │
//!                                     tasks ── db ──┘
//! ```
//!
//! The parts that have nothing to do with tasks are crates of their own, below `crates`: the memcached client
//! ([`tokio_memcached`]), the cache ([`neverstale`]), cached pages ([`neverstale_axum`]) and sessions
//! ([`neverstale_sessions`]). The compiler keeps them from knowing anything of this application. Here, [`tasks`] does
//! not know that there is a cache; only [`config::env`] reads the environment, and only [`app`] names a concrete
//! backend.
//!
//! # The guided tour
//!
//! Below, and at the side, modules are sorted by name. This is the order to read them in. If you came for the caching
//! alone, begin at the third part; four stops marked ★ are essays, and the rest of the code follows from them.
//!
//! **How it starts.**
//!
//! 1. [`cli`]: the commands. [`cli::main`] is what `main` calls, and begins with the configuration.
//! 2. [`config`]: all that can be set from outside, one struct per concern, each field a variable and an option.
//! 3. [`app`]: makes the parts of it, which connect to nothing yet; it alone names every backend and store.
//! 4. [`telemetry`]: starts the log that they write to.
//!
//! **How a request is answered.**
//!
//! 5. [`server`]: accepts connections within limits, and drains them at the end. What comes in goes to the layers.
//! 6. `middleware` (private; `src/middleware.rs`): every layer, from the outside in, with the reason for its place. The
//!    innermost is the router.
//! 7. [`router`]: every route on one screen, each leading to a handler, and around which of them there is a cache.
//! 8. [`handlers`]: one function per route; [`handlers::tasks`] first. A handler fills a template, or fails.
//! 9. [`templates`]: the pages, one struct each; [`assets`], the files that they name.
//! 10. [`error`]: what a visitor is told of a failure, and what the log. [`no_store`] and [`admin`] are small, and
//!     about who may keep and see what.
//!
//! **What is shown, and how it is cached.**
//!
//! 11. [`tasks`]: the type and its queries, over [`db`]: one handle for two databases, with limits.
//! 12. [`listing`]: where tasks and cache meet, in one file that uses all that follows.
//! 13. ★ [`neverstale`]: the handle that never fails, the steps of
//!     [`get_or_set`](neverstale::Cache::get_or_set), and the pitfalls. Then its parts:
//!     [`neverstale::query`], [`neverstale::fragment`], [`neverstale::Strategy`], and under all of them
//!     [`neverstale::backend`], the contract of a store. Two stores are here: [`db::cache`], a table of the
//!     database, and [`memcache_crate`], memcached through the `memcache` crate; both recover by
//!     [`neverstale::backend::recovery`].
//! 14. ★ [`neverstale::version`]: why no page is older than a write that was acknowledged, with the argument; and the
//!     [`VersionSource`](neverstale::version::VersionSource) that it needs.
//! 15. ★ [`neverstale_axum`]: whole pages, Django's `cache_page`.
//! 16. ★ [`tokio_memcached`]: the client, down to [`tokio_memcached::protocol`], which is bytes and nothing else.
//!
//! **What is kept for a visitor, and what is seen from outside.**
//!
//! 17. [`neverstale_sessions`]: why no session is lost; [`visitor`] is what this application keeps in one.
//! 18. [`upstream`]: a slow service, asked once for all, as [`handlers::api_calls`] shows it.
//! 19. [`monitor`]: the numbers of `/cache` and `/metrics`.
//! 20. `mistake` (private; `src/mistake.rs`): what one could have got wrong, for tests to find.
//!
//! Next: [`config`], or [`neverstale`].

pub mod cli;
pub mod config;
pub mod telemetry;

pub mod app;
pub mod router;
pub mod server;

pub mod error;
mod middleware;
pub mod no_store;

pub mod admin;
pub mod assets;
pub mod handlers;
pub mod templates;

pub mod db;
pub mod listing;
pub mod memcache_crate;
pub mod monitor;
pub mod tasks;
pub mod upstream;
pub mod visitor;

mod mistake;
