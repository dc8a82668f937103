//! How long a value lives.

use std::time::Duration;

/// The lifetime of a cached value. It is memory hygiene: no correctness rests on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Until it is deleted or evicted.
    Never,
    /// For so long; zero expires at once.
    After(Duration),
}

impl Ttl {
    /// A lifetime that is over at once: what is stored with it cannot be read.
    #[must_use]
    pub fn is_over(self) -> bool {
        self == Self::After(Duration::ZERO)
    }
}
