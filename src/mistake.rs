//! Mistakes that this program makes on purpose when a test wants to know whether it would be noticed.
//!
//! Only a build with the feature `mistakes` can make any, and that makes the one that `TASKLIST_MISTAKE` names. In every
//! other build [`Mistake::is_made`] is a constant `false`, and nothing is left of what hangs on it.
//! `tests/it/consistency/mistakes.rs` tells for each what comes of it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::db;
use crate::tasks::Stamp;

/// What one could easily have got wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mistake {
    /// A read is told the version by a query that was sent before the read began.
    JoinsSentQuery,
    /// When the database fails, a read goes on with the last version that its process has seen.
    FallsBack,
    /// The list is read, then in another statement its version.
    LabelReadSecond,
    /// A read waits for the build of its page that is under way, whichever version that was begun for.
    PageFlightWithoutVersion,
    /// The same, for the list that a page is made of.
    ListFlightWithoutVersion,
    /// A page is kept under the version that was asked for, though its view has read a newer one.
    PageUnderAskedVersion,
    /// The same, for the list.
    ListUnderAskedVersion,
    /// Keys do not say which version.
    KeyWithoutVersion,
    /// Versions are counted and no more.
    VersionWithoutToken,
    /// Keys do not say which page of the list.
    KeyWithoutPage,
    /// The copy in the process is given out whatever its version.
    CopyOfAnyVersion,
    /// A write is acknowledged before the database has answered.
    AcknowledgesEarly,
    /// A writer deletes from the cache what nobody asks for any more.
    WriterDeletes,
}

impl Mistake {
    /// Returns whether this process makes it.
    #[cfg(not(feature = "mistakes"))]
    pub(crate) const fn is_made(self) -> bool {
        false
    }

    /// Returns whether this process makes it.
    #[cfg(feature = "mistakes")]
    pub(crate) fn is_made(self) -> bool {
        #[expect(clippy::disallowed_methods, reason = "what only tests set is no configuration")]
        static CHOSEN: std::sync::LazyLock<Option<String>> =
            std::sync::LazyLock::new(|| std::env::var("TASKLIST_MISTAKE").ok());
        CHOSEN.as_deref() == Some(&format!("{self:?}"))
    }
}

/// Makes [`Mistake::JoinsSentQuery`]: waits for the call under way, if there is one.
pub(crate) async fn join<E>(call: impl Future<Output = Result<Arc<str>, E>>) -> Result<Arc<str>, E> {
    static UNDER_WAY: Mutex<Option<watch::Receiver<Option<Arc<str>>>>> = Mutex::new(None);
    let under_way = || UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    let joined = under_way().clone();
    if let Some(mut told) = joined
        && let Ok(version) = told.wait_for(Option::is_some).await
    {
        return Ok(version.clone().expect("it was waited for"));
    }
    let (tell, told) = watch::channel(None);
    *under_way() = Some(told);
    let version = call.await;
    *under_way() = None;
    tell.send_replace(version.as_ref().ok().cloned());
    version
}

/// Makes [`Mistake::FallsBack`]: returns what was told the last time, if now there is only an error.
pub(crate) fn fall_back(told: Result<Stamp, db::Error>) -> Result<Stamp, db::Error> {
    static LAST: Mutex<Option<Stamp>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = told.as_ref().ok().copied().or(*last);
    last.map_or(told, Ok)
}
