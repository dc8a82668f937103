//! How a write becomes visible to readers of the cache.

use std::fmt;
use std::str::FromStr;

/// What happens to a cached query when its data changes.
///
/// Concurrent misses wait for one build. Who comes while another process builds, after a write through this one, waits
/// for a build of its own; but a build elsewhere that read before the write is waited for there until it ends.
///
/// Both work over several processes that share a cache, and both have weaknesses that no care on our side removes. What
/// a writer could not tell a server during an outage it tells it before it reads from there again; but other processes
/// may read the old answer in between, and a writer that ends first never tells. Old answers expire after five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The writer deletes the cached value after its commit; the next reader fills it again.
    ///
    /// *Not guaranteed*: a reader that queried before the commit may store what it read after the delete. Such an old
    /// list stays until the next write, or until it expires.
    #[default]
    Delete,
    /// The writer stores the new value after its commit, so that no reader waits for the query.
    ///
    /// *Not guaranteed*: of two writers the one that queried first may store last, and a slow reader may store over
    /// both. The writer pays for the query.
    Update,
}

impl Strategy {
    /// The names, for error messages.
    pub const ACCEPTED: &str = "delete or update";
}

impl FromStr for Strategy {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "delete" => Ok(Self::Delete),
            "update" => Ok(Self::Update),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "delete",
            Self::Update => "update",
        })
    }
}
