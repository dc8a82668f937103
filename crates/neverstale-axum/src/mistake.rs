//! Mistakes that the page cache makes on purpose when a test wants to know whether it would be noticed.
//!
//! They are as those in `crates/neverstale/src/mistake.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// What one could easily have got wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mistake {
    /// A read is told the version by a query that was sent before the read began.
    JoinsSentQuery,
    /// A read waits for the build of its page that is under way, whichever version that was begun for.
    PageFlightWithoutVersion,
    /// A page is kept under the version that was asked for, though its view has read a newer one.
    PageUnderAskedVersion,
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
        neverstale::makes_mistake(&self)
    }
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
