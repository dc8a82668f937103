//! Fault injection: mistakes that tests must notice, as in `crates/neverstale/src/mistake.rs`.
//!
//! The published package is without this file.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

#[derive(Clone, Copy, Debug)]
pub(super) enum Mistake {
    /// A version check joins a query that was sent before the check began.
    JoinsSentQuery,
    /// A request waits for the build of its page that is under way, whichever version that was begun for.
    PageFlightWithoutVersion,
    /// A page is stored under the version of its request, though its handler has read a newer one.
    PageUnderAskedVersion,
    /// A copy in the process is shown whatever its version.
    CopyOfAnyVersion,
}

impl Mistake {
    /// Returns whether this process makes it.
    pub(super) fn is_made(self) -> bool {
        neverstale::makes_mistake(&self)
    }
}

/// Makes [`Mistake::JoinsSentQuery`]: waits for the call under way, if there is one.
pub(super) async fn join<E>(call: impl Future<Output = Result<Arc<str>, E>>) -> Result<Arc<str>, E> {
    static UNDER_WAY: Mutex<Option<watch::Receiver<Option<Arc<str>>>>> = Mutex::new(None);
    let under_way = || UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    let joined = under_way().clone();
    if let Some(mut joined) = joined
        && let Ok(version) = joined.wait_for(Option::is_some).await
    {
        return Ok(version.clone().expect("it was waited for"));
    }
    let (sender, receiver) = watch::channel(None);
    *under_way() = Some(receiver);
    let version = call.await;
    *under_way() = None;
    sender.send_replace(version.as_ref().ok().cloned());
    version
}
