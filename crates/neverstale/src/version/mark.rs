//! Marks: what can be seen of an origin's state without waiting for it.
//!
//! A counter in memory, a header that every change of a file ends with: what can be seen there says nothing but whether
//! it is what it was. That is enough to know that the version is still the one that was told, and takes no query.
//!
//! What is asked of a mark: *it is another one before a change is acknowledged, and never an earlier one again.* Then
//!
//! ```text
//!   look: M ──→ query: S ──→ look: M         no change between the looks, so S is the version under M
//!   call ──→ look: M                         no change was acknowledged between those looks and this one, so S is told
//! ```
//!
//! and the look was made after the call began, as the gate promises of its queries. The look before the query is what
//! matters. Without it: query: S ──→ a change ──→ look: M, and S would be told under M for ever.
//!
//! A mark that does not follow the changes, such as one in a file whose pages the system keeps twice, would be the end
//! of that. So a mark is believed only once it has been seen to change with the version, and never again once it was
//! seen not to.

use std::sync::PoisonError;

use arc_swap::ArcSwapOption;

use super::sync::{Arc, Mutex};

/// The marks of an origin whose versions are `S`.
pub(super) trait Marks<S>: Send + Sync {
    /// Returns the version under the present mark, if it is known.
    fn told(&self) -> Option<Arc<Told<S>>>;

    /// Must be called before each query is sent, one after the other.
    fn before_query(&self);

    /// Must be called with what it has told: the same again as long as the version is the same.
    fn after_query(&self, told: &Arc<Told<S>>);
}

/// A version as it was told, the same for as long as it is told again; and its name, once somebody has needed it.
pub(super) struct Told<S> {
    pub(super) version: S,
    /// Of the standard library, since nobody waits for it.
    pub(super) name: std::sync::OnceLock<Arc<str>>,
}

/// Marks that a look returns, if there is something to see.
pub(super) struct Looks<S, M, F> {
    look: F,
    before: Mutex<Option<M>>,
    known: ArcSwapOption<Known<S, M>>,
}

struct Known<S, M> {
    mark: M,
    told: Arc<Told<S>>,
    trust: Trust,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Unproven,
    Believed,
    Broken,
}

impl<S, M, F: Fn() -> Option<M>> Looks<S, M, F> {
    pub(super) fn new(look: F) -> Self {
        Self { look, before: Mutex::new(None), known: ArcSwapOption::const_empty() }
    }
}

impl<S, M, F> Marks<S> for Looks<S, M, F>
where
    S: Send + Sync,
    M: PartialEq + Send + Sync,
    F: Fn() -> Option<M> + Send + Sync,
{
    fn told(&self) -> Option<Arc<Told<S>>> {
        let known = self.known.load();
        let known = known.as_ref().filter(|known| known.trust == Trust::Believed)?;
        ((self.look)()? == known.mark).then(|| Arc::clone(&known.told))
    }

    fn before_query(&self) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = (self.look)();
    }

    fn after_query(&self, told: &Arc<Told<S>>) {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mark) = before.filter(|mark| (self.look)().as_ref() == Some(mark)) else { return };
        let known = self.known.load();
        let trust = match known.as_ref() {
            None => Trust::Unproven,
            Some(known) if known.trust == Trust::Broken => return,
            Some(known) => match (known.mark == mark, Arc::ptr_eq(&known.told, told)) {
                (true, true) => return,
                // Others change the origin as well, in what has no version.
                (false, true) => known.trust,
                (false, false) => Trust::Believed,
                (true, false) => {
                    tracing::warn!(
                        "what is to be seen of the origin does not follow its versions; each is asked for"
                    );
                    Trust::Broken
                }
            },
        };
        self.known.store(Some(std::sync::Arc::new(Known { mark, told: Arc::clone(told), trust })));
    }
}
