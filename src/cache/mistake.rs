//! Mistakes that the cache makes on purpose when a test wants to know whether it would be noticed.
//!
//! Only a build with `--cfg fault_injection` can make any, and that makes the one that `TASKLIST_MISTAKE` names. It is
//! no Cargo feature: any crate in the graph of a user could switch that on. In every other build
//! [`Mistake::is_made`] is a constant `false`, and the compiler removes the code behind it.
//! `tests/it/consistency/mistakes.rs` tells for each what comes of it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// What one could easily have got wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mistake {
    /// A read is told the version by a query that was sent before the read began.
    JoinsSentQuery,
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
    /// The copy in the process is given out whatever its version.
    CopyOfAnyVersion,
}

impl Mistake {
    /// Returns whether this process makes it.
    #[cfg(not(fault_injection))]
    pub(super) const fn is_made(self) -> bool {
        false
    }

    /// Returns whether this process makes it.
    #[cfg(fault_injection)]
    pub(super) fn is_made(self) -> bool {
        is_chosen(&self)
    }
}

/// Returns whether a mistake, of the cache's or of others, is the one that `TASKLIST_MISTAKE` names, and says so.
#[cfg(fault_injection)]
pub(crate) fn is_chosen(mistake: &dyn std::fmt::Debug) -> bool {
    #[expect(clippy::disallowed_methods, reason = "what only tests set is no configuration")]
    static CHOSEN: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("TASKLIST_MISTAKE").ok());
    let is_chosen = CHOSEN.as_deref() == Some(&format!("{mistake:?}"));
    if is_chosen {
        // Whoever wants to know how far it has come cannot see it otherwise.
        tracing::error!(?mistake, "a mistake is made");
    }
    is_chosen
}

/// Makes [`Mistake::JoinsSentQuery`]: waits for the call under way, if there is one.
pub(super) async fn join<E>(call: impl Future<Output = Result<Arc<str>, E>>) -> Result<Arc<str>, E> {
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
