//! Fault injection: mistakes that a build for tests makes, to see whether the tests notice.
//!
//! Those of the cache are in `crates/*/src/mistake.rs`, which explains how a mistake is chosen.

/// A mistake that is easily made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mistake {
    /// When the database fails, a read uses the last version that its process has seen.
    FallsBack,
    /// The list is read first, and then its version in another statement.
    LabelReadSecond,
    /// A version is a counter without a random token.
    VersionWithoutToken,
    /// Keys do not contain the page of the list.
    KeyWithoutPage,
    /// A write is acknowledged before the database has confirmed it.
    AcknowledgesEarly,
    /// A writer deletes an older version from the cache.
    WriterDeletes,
}

impl Mistake {
    /// Returns whether this process makes it.
    #[cfg(not(fault_injection))]
    pub(crate) const fn is_made(self) -> bool {
        false
    }

    /// Returns whether this process makes it.
    #[cfg(fault_injection)]
    pub(crate) fn is_made(self) -> bool {
        neverstale::makes_mistake(&self)
    }
}
