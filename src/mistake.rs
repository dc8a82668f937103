//! Mistakes that this program makes on purpose when a test wants to know whether it would be noticed.
//!
//! Those of the cache are in `crates/*/src/mistake.rs`, and what is said there holds here as well.

/// What one could easily have got wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mistake {
    /// When the database fails, a read goes on with the last version that its process has seen.
    FallsBack,
    /// The list is read, then in another statement its version.
    LabelReadSecond,
    /// Versions are counted and no more.
    VersionWithoutToken,
    /// Keys do not say which page of the list.
    KeyWithoutPage,
    /// A write is acknowledged before the database has answered.
    AcknowledgesEarly,
    /// A writer deletes from the cache what nobody asks for any more.
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
