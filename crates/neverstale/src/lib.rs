//! A cache for async Rust: its failures make calls slower and never wrong, and versioned values are never stale.
//!
//! # What is here
//!
//! A [`Cache`] is a handle over one [`Backend`](backend::Backend). What an application keeps goes through it as a
//! typed value under a checked [`Key`] with a [`Ttl`]. Two layers over it are here: a query's rows, and the fragments
//! of a page rendered from them. A third, whole pages, is the crate `neverstale-axum`.
//!
//! ```text
//!   layer 1  query::CachedQuery ──┐                      ┌─ locmem     this process
//!            rows, by a Strategy  │                      ├─ memcached  servers
//!   layer 2  fragment::Fragments ─┼─► Cache ──► Backend ─┼─ file       files in a directory
//!            rendered fragments   │   typed     bytes    ├─ dummy      nowhere
//!   layer 3  neverstale-axum ─────┘   values    by name  └─ yours
//!            whole pages                        ▲
//!   tools    Cache::backend: bytes and errors ──┘
//! ```
//!
//! The handle puts a prefix before the key and an envelope around the value, lets one build for all, counts, and makes
//! a miss of every error.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use neverstale::{Cache, CacheOptions, Key, Ttl, backend::locmem::Locmem};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::new(Locmem::new(), CacheOptions::default());
//! let key = Key::new("answer")?;
//! let slow = async || Ok::<u64, Infallible>(42);
//! assert_eq!(cache.get_or_set(&key, Ttl::After(Duration::from_secs(60)), slow).await?, 42);
//! assert_eq!(cache.get(&key).await, Some(42_u64));
//! # Ok(())
//! # }
//! ```
//!
//! # Steps of `get_or_set`
//!
//! 1. *Look.* A hit ends here, after one round trip.
//! 2. *Queue in this process.* Of all callers that miss the key one builds, and the others wait for its value.
//! 3. *Lock out the other processes.* The builder adds `KEY~lock` to the backend, which lives for three seconds and is
//!    renewed while it builds. With the lock it looks once more: its holder before may have stored the value.
//! 4. *Wait for the lock's holder.* Without the lock it looks for value and lock every 5 to 100 ms, with jitter, until
//!    the value is there or the lock is gone.
//! 5. *Build.* If the backend cannot be used, without a lock: once per process.
//! 6. *Store,* unless the key was written to meanwhile; hand the value to the callers that wait; delete the lock.
//!
//! A caller waits for another process for [`CacheOptions::max_wait`] at most: a lock that is not renewed costs time and
//! nothing else. For callers in its own process, which are alive, it waits as long, and ten seconds at least. A build
//! that fails is the error of all callers that waited for it in its process: an outage costs them one timeout together.
//! A caller that leaves, or whose build panics, lets the next one build.
//!
//! # Freshness
//!
//! Values are kept under the [`version`] of the data that they were made of, and the database says which is the current
//! one: then nothing in the cache is ever wrong. Where there are no versions, writers tell the cache by a [`Strategy`].
//!
//! # Pitfalls
//!
//! - **A miss is data.** [`Cache::get`] answers `None` if there was no value, one of another format, or no server. The
//!   counters and the log tell which.
//! - **Nothing is a value too.** A cached empty list and a cached null are hits.
//! - **A write that fails leaves a pending delete.** A server that could not take a new value, or refused it, may hold
//!   the old one. Until it has deleted that, this process does not read the key.
//! - **A value that is too large** leaves nothing behind, not the older value either, and is counted.
//! - **Keys are checked** where they are made: blanks and control characters never reach a server. Names of the library
//!   have a `~`, and no key of a user equals one.
//! - **Sharing a build is sharing its age.** A caller that misses after another process has written may be given what
//!   was read before. What a [`Strategy`] does not guarantee is written there.
//! - **A fragment's key has all that it shows,** and a digest of its template, so a fragment is never old. What is left
//!   out of the key must never change.
//! - **Counters, locks and raw values are bare.** [`Cache::get`] does not read what [`Cache::backend`]
//!   stores, nor the reverse.
//! - **A checksum finds damage and no malice.** Anybody with access to the servers can make a value, unless values are
//!   [signed](Integrity::signed); and even then bring an old one back.
//! - **[`Cache::clear`] empties the servers,** for all their users; a prefix keeps names apart and nothing more.
//!
//! # How to add a backend
//!
//! Implement [`Backend`](backend::Backend), whose documentation is the contract, and give it to [`Cache::new`]. For a
//! store that can fail, [`Recover`](backend::recovery::Recover) marks it down, retries it, and sends pending deletes.
//!
//! # Limits
//!
//! A name has 250 bytes: a longer key is hashed. Values are compressed from 16 KiB on, and have 1,000,000 bytes in
//! their envelope and 64 MiB before that; [`CacheOptions`] moves these limits. Lifetimes are exact to a second. An
//! operation takes 750 ms at most, and on memcached what the options of the client say. There is no compare-and-swap,
//! and nothing is ordered between processes.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `compression` | yes | long values are compressed, with LZ4 |
//! | `memcached` | no | `backend::memcached`, over servers that processes share |
//! | `file` | no | `backend::file`, over files below a directory, on Unix |
//!
//! Next: [`version`], why versioned values are never wrong.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backend;
pub mod build;
mod build_lock;
mod cache;
mod codec;
pub mod fragment;
mod get_or_set;
mod integrity;
mod key;
#[cfg(fault_injection)]
mod mistake;
mod options;
pub mod query;
mod single_flight;
mod stats;
mod strategy;
mod sync;
mod verbs;
pub mod version;

#[doc(inline)]
pub use self::backend::Ttl;
pub use self::cache::{Cache, IntoBackend};
pub use self::codec::Envelope;
pub use self::integrity::{Integrity, Secret, WeakSecret};
pub use self::key::{InvalidKey, Key, KeyPrefix};
#[cfg(fault_injection)]
pub use self::mistake::is_chosen as makes_mistake;
pub use self::options::CacheOptions;
pub use self::stats::{Event, Latency, LayerStats};
pub use self::strategy::{Strategy, VERSIONED};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
