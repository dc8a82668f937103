//! Versions of the data that cached values were made of, and the protocol by which no read is older than a write.
//!
//! A version names one state of the origin's data: a counter with a random token, a revision, a digest. Where
//! everything that is cached has the version in its key, nothing cached is ever wrong, only no longer asked for. What
//! is left to learn is the current version, and only the origin knows it. A [`VersionSource`] asks the origin.
//!
//! # The promise
//!
//! *The result of a call comes from a query that was sent after the call began.* So it is no older than any change that
//! was acknowledged before the call, in any process, and no older than any earlier result. If the query fails, so do
//! its callers: there is no last known version to fall back to.
//!
//! ```text
//!   calls        a b          c d e                f
//!   query 1          [ a b             ]
//!   query 2                             [ c d e         ]
//!   query 3                                              [ f ...
//! ```
//!
//! A call joins the round that gathers. The task that runs the queries first closes that round, under the same lock,
//! and then sends its query; so no call joins a round whose query may have been sent. Meanwhile the next round gathers:
//! the origin sees one query a round trip, not one a request. With a
//! [change token](VersionSource::with_change_tokens) a call needs no query while nothing changes.
//!
//! # The protocol
//!
//! ```text
//!   write   change + new version, one transaction ──→ commit ──→ acknowledged
//!           (nothing is sent to the cache)
//!
//!   read    version S ──→ copy of S? ──→ cache has S? ──→ build ──→ store under L
//!                                                         reads data and label L
//!                                                         in one statement
//! ```
//!
//! 1. The origin draws a version that was never used, in the transaction of every change, by any client.
//! 2. A read learns the current version S. It takes what this process, or else the cache, has under S.
//! 3. Otherwise it builds, or waits for a build *begun by a read that had learned S as well*. A build reads the data
//!    and its version, the label L, in one statement and outside any transaction; its result is stored under L.
//!
//! # Why no read is old
//!
//! Write "S covers w" where the state that S names has the change w in it or came after it.
//!
//! - *What is stored under a version is of that version.* It is stored only under the label that was read with it, and
//!   no version is drawn twice. A store that comes late, twice or out of order stores what would be there anyway; a
//!   value that is lost, evicted, or forgotten in a restart is a miss; one that comes back is still right.
//! - *S covers every write that was acknowledged before the read began.* The query that returned S was sent after that,
//!   the acknowledgement came after the commit, and the statement sees what is committed.
//! - *L covers what S covers.* The build's statement was sent after S was known, to its own reader or to one with which
//!   it shares S.
//! - So *no read is older than a write acknowledged before it began*; and *no read is older than one that ended before
//!   it began*, since what that one showed was committed before it ended, and the later query came after.
//!
//! No clock, no lifetime, no compare-and-swap and no delete is in the argument. A lifetime only frees memory, and the
//! lock that lets one process build for all may be lost: then two build the same.
//!
//! It assumes that the origin sees its own commits: the primary, not a replica that lags. That every change draws a
//! version: no trigger is switched off. That the version's random part does not come again. And that no process goes on
//! through a restored backup: a build that was begun before it may be shared after it.
//!
//! # Cost and failures
//!
//! A read takes a share of one point read at the origin, and one `get` if the process has no copy; if the cache has
//! nothing either, one reader runs the query. A write takes one more row in its transaction. What was kept under the
//! version before expires, or is evicted: frequent writes to much data need a cache with room for that.
//!
//! | what fails | what comes of it |
//! |---|---|
//! | the cache, in any way | reads build, once in each process; never an old page, never an error |
//! | a builder's process | its lock expires, after three seconds by default, and the next one builds |
//! | the process after the commit, before it could answer | a write of unknown outcome, which readers see |
//! | the origin | no page; there is no last known version |
//!
//! # How to use it
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use neverstale::version::{VersionSource, Lost};
//!
//! /// An error, of which all callers that wait for the same query get the same `Arc`.
//! #[derive(Debug)]
//! struct NoAnswer;
//!
//! impl From<Lost> for NoAnswer {
//!     fn from(_: Lost) -> Self {
//!         Self
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Arc<NoAnswer>> {
//! // Prices change. A row of a table, a file's time or a header of a service would do as well.
//! let revision = Arc::new(AtomicU64::new(7));
//! let origin = Arc::clone(&revision);
//! let prices = VersionSource::new(move || {
//!     let origin = Arc::clone(&origin);
//!     async move { Ok::<_, NoAnswer>(origin.load(Ordering::SeqCst)) }
//! });
//! assert_eq!(prices.current().await?, 7);
//! revision.store(8, Ordering::SeqCst);
//! assert_eq!(prices.current().await?, 8);
//! # Ok(())
//! # }
//! ```

mod change_token;
mod source;

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt};

use super::sync;

pub use self::source::{Lost, VersionSource, VersionStats};

/// A [`VersionSource`] of version names, for keys, with an error `E` of its user. Cheap to clone.
pub struct Versions<E>(Arc<Current<E>>);

type Current<E> = dyn Fn() -> BoxFuture<'static, Result<Arc<str>, E>> + Send + Sync;

/// The name of the version that was named last, which most calls ask for again.
struct LastName<S>(Mutex<Option<(S, Arc<str>)>>);

impl<S: Display + PartialEq> LastName<S> {
    fn of(&self, version: S) -> Arc<str> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, name)) = &*last
            && *known == version
        {
            return Arc::clone(name);
        }
        let name: Arc<str> = version.to_string().into();
        *last = Some((version, Arc::clone(&name)));
        name
    }
}

impl<E> Versions<E> {
    /// Names the versions of a source, and puts other errors in the place of its errors. A name may be any text.
    pub fn of<S, F>(
        source: &VersionSource<S, F>,
        fail: impl Fn(Arc<F>) -> E + Clone + Send + Sync + 'static,
    ) -> Self
    where
        S: Display + Clone + PartialEq + Send + Sync + 'static,
        F: From<Lost> + Send + Sync + 'static,
        E: 'static,
    {
        let source = source.clone();
        let names = Arc::new(LastName(Mutex::default()));
        Self(Arc::new(move || {
            let (source, fail, names) = (source.clone(), fail.clone(), Arc::clone(&names));
            async move { source.current().await.map(|version| names.of(version)).map_err(fail) }.boxed()
        }))
    }

    /// Returns the name of the current version, as [`VersionSource::current`] does.
    ///
    /// # Errors
    ///
    /// That of the query, as `fail` made it.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point. The query goes on for the other callers.
    pub async fn current(&self) -> Result<Arc<str>, E> {
        (self.0)().await
    }

    /// Returns whether both are clones of the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<E> Clone for Versions<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> fmt::Debug for Versions<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Versions")
    }
}
