//! What a copy must be labelled with to be shown again: the version of the data it was made of.
//!
//! A version is whatever the origin says names one state of its data: a counter with a random token, a revision, a
//! digest. Where all that is cached has the version in its key, nothing cached is ever wrong, only no longer asked for.
//! What is left to know is which version is the current one, and only the origin can say. It is asked by a [`Gate`].
//!
//! # What the gate promises
//!
//! *The answer to a call comes from a query that was sent after the call began.* So it is no older than any change that
//! was acknowledged before the call, to whomever, and since queries are sent one after the other it is no older than any
//! answer the gate gave before. There is no last known version to fall back to: if the query fails, so do its callers.
//!
//! # Why that holds, and is cheap
//!
//! ```text
//!   calls        a b          c d e                f
//!   query 1          [ a b             ]
//!   query 2                             [ c d e         ]
//!   query 3                                              [ f ...
//! ```
//!
//! Who calls takes a seat in the round that gathers. Whoever runs the queries first closes that round, under the same
//! lock, and then sends the query for it; so nobody takes a seat in a round whose query may have been sent. While it is
//! under way the next round gathers, however many that are. The origin sees one query a round trip, not one a request.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use tasklist::cache::version::{Gate, Lost};
//!
//! /// Errors are shared by all who wait for the same query.
//! #[derive(Clone, Debug)]
//! struct NoAnswer;
//!
//! impl From<Lost> for NoAnswer {
//!     fn from(_: Lost) -> Self {
//!         Self
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), NoAnswer> {
//! // Prices change; a row of the table of versions, a file's time, a header of a service would do as well.
//! let revision = Arc::new(AtomicU64::new(7));
//! let origin = Arc::clone(&revision);
//! let gate = Gate::new(move || {
//!     let origin = Arc::clone(&origin);
//!     async move { Ok::<_, NoAnswer>(origin.load(Ordering::SeqCst)) }
//! });
//! assert_eq!(gate.current().await?, 7);
//! revision.store(8, Ordering::SeqCst);
//! assert_eq!(gate.current().await?, 8);
//! # Ok(())
//! # }
//! ```

mod gate;
mod sync;

pub use self::gate::{Gate, GateStats, Lost};
