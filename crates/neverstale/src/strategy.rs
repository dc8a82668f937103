//! Strategies: how a write becomes visible to readers of the cache, where writers tell the cache.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Ttl;

/// The lifetime of answers and pages that are left to expire.
const SHORT: Ttl = Ttl::After(Duration::from_secs(5));

/// The lifetime of values that are kept by version: one hour.
///
/// It only frees memory: once there is another version, no reader asks for them.
pub const VERSIONED: Ttl = Ttl::After(Duration::from_secs(60 * 60));

/// How a write becomes visible in a cached query and in the pages that show it.
///
/// These are the tutorial's four ways, for several processes that share a cache.
///
/// Fragments need none, since their key has all that they show. Nor does data that is kept under its
/// [`version`](super::version): the database tells readers, and writers tell the cache nothing.
///
/// # In common
///
/// Pages live as long as answers do. All but `expire` purge them after the answer, by a new generation (see
/// the page cache of `neverstale-axum`): a page that was begun before is not shown after. But a page has the weaknesses
/// of the answer that it shows.
///
/// Each of the four has weaknesses that cannot be removed. A writer deletes after an outage what it could not delete
/// during it, before it reads from that server again; but other processes may read the old answer in between, and a
/// writer that ends first never deletes it. And a caller may be given the build of another process, which has read
/// before the write (see [`Cache::get_or_set`](super::Cache::get_or_set)). Old answers expire after five minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The writer does nothing; answers live for five seconds.
    ///
    /// *Not guaranteed*: everybody, the writer's own visitor too, may see the old list for five seconds, as long as the
    /// query takes, and another five seconds on a page that was made of it at the end. Nothing else can go wrong.
    Expire,
    /// The writer deletes the cached value after its commit; the next reader fills it again.
    ///
    /// *Not guaranteed*: a reader that queried before the commit may store what it read after the delete. Such an old
    /// list stays until the next write, or until it expires.
    Delete,
    /// The key ends with a token that is itself in the cache; the writer replaces the token after its commit, and the
    /// old list is never asked for again.
    ///
    /// A late reader stores under the old token, where it harms nobody. Every hit costs a second round trip, and what
    /// was left behind waits to be evicted. *Not guaranteed*: anything while the token's server is away, as above.
    Rotate,
    /// The writer stores the new value after its commit, so that no reader waits for the query.
    ///
    /// *Not guaranteed*: of two writers the one that queried first may store last, and a slow reader may store over
    /// both. The writer pays for the query.
    Update,
}

const NAMES: [(Strategy, &str); 4] = [
    (Strategy::Expire, "expire"),
    (Strategy::Delete, "delete"),
    (Strategy::Rotate, "rotate"),
    (Strategy::Update, "update"),
];

impl Strategy {
    /// Returns the lifetime of values under this strategy: five seconds for [`Expire`](Self::Expire), otherwise `ttl`.
    #[must_use]
    pub fn ttl(self, ttl: Ttl) -> Ttl {
        match self {
            Self::Expire => SHORT,
            Self::Delete | Self::Rotate | Self::Update => ttl,
        }
    }
}

impl FromStr for Strategy {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        NAMES.into_iter().find(|(_, known)| *known == name).map(|(strategy, _)| strategy).ok_or(())
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        NAMES.into_iter().filter(|(strategy, _)| strategy == self).try_for_each(|(_, name)| f.write_str(name))
    }
}
