//! Change tokens: what can be seen of an origin's state without a query.
//!
//! A counter in memory, a header that every change of a file ends with: a token says only whether it is the one that it
//! was. That is enough to know that the version is still the current one.
//!
//! What a token must hold: *it is another one before a change is acknowledged, and never an earlier one again.* Then
//!
//! ```text
//!   token: T ──→ query: S ──→ token: T   no change in between: S is the version under T
//!   call ──→ token: T                    no change acknowledged since: S is current
//! ```
//!
//! and the token was read after the call began, as is promised of the queries. The token before the query is what
//! matters. Without it: query: S ──→ a change ──→ token: T, and S would be the version under T for ever.
//!
//! A token that does not follow the changes, such as one in a file whose pages the system keeps twice, would break
//! that. So a token is trusted only once it has been seen to change with the version, and never again once it was seen
//! not to.

use std::sync::PoisonError;

use super::sync::{Mutex, MutexGuard};

/// The tokens of an origin whose versions are `S`, whatever their type.
pub(super) trait Tokens<S>: Send + Sync {
    /// Returns the version under the present token, if it is known.
    fn version(&self) -> Option<S>;

    /// Reads the token. To be called before each query is sent, one after the other.
    fn before_query(&self);

    /// Notes the version that the query has returned.
    fn after_query(&self, version: &S);
}

/// Tokens that a function reads, if there is something to see.
pub(super) struct Reader<S, T, F> {
    read: F,
    seen: Mutex<Seen<S, T>>,
}

struct Seen<S, T> {
    before_query: Option<T>,
    known: Option<(T, S)>,
    trust: Trust,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Unproven,
    Proven,
    Broken,
}

impl<S, T, F> Reader<S, T, F> {
    pub(super) fn new(read: F) -> Self {
        let seen = Seen { before_query: None, known: None, trust: Trust::Unproven };
        Self { read, seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen<S, T>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S, T, F> Tokens<S> for Reader<S, T, F>
where
    S: Clone + PartialEq + Send + Sync,
    T: PartialEq + Send + Sync,
    F: Fn() -> Option<T> + Send + Sync,
{
    fn version(&self) -> Option<S> {
        let token = (self.read)()?;
        let seen = self.seen();
        let (known, version) = seen.known.as_ref()?;
        (seen.trust == Trust::Proven && *known == token).then(|| version.clone())
    }

    fn before_query(&self) {
        let token = (self.read)();
        self.seen().before_query = token;
    }

    fn after_query(&self, version: &S) {
        let token = (self.read)();
        let mut seen = self.seen();
        let before = seen.before_query.take();
        let Some(token) = token.filter(|token| before.as_ref() == Some(token)) else { return };
        let was = seen.known.as_ref().map(|(known, last)| (*known == token, last == version));
        match was {
            _ if seen.trust == Trust::Broken => return,
            Some((true, false)) => {
                tracing::warn!("change tokens do not follow the versions of the origin and are not used");
                seen.trust = Trust::Broken;
            }
            Some((false, false)) => seen.trust = Trust::Proven,
            // With another token and the same version, what has no version has changed.
            Some((_, true)) | None => {}
        }
        seen.known = Some((token, version.clone()));
    }
}
