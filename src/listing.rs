//! The list behind the cache: its query, its rendered rows, its whole pages, and their invalidation.
//!
//! Tasks and cache meet here, and `CACHE_STRATEGY` takes effect here.

use std::sync::{Arc, Mutex, PoisonError};

use askama::Template;
use tokio::time::{Instant, timeout_at};

use crate::config::cache::CacheStrategy;
use crate::db::{self, Database};
use crate::error::Error;
use crate::mistake::Mistake;
use crate::tasks::{self, Page, Stamp, Stamped, Task, TaskList};
use crate::templates::{TaskRow, digest};
use crate::visitor::{Change, may_show_messages};
use neverstale::fragment::Fragments;
use neverstale::query::CachedQuery;
use neverstale::version::{VersionSource, VersionStats, Versions};
use neverstale::{Cache, Key, Strategy, Ttl, VERSIONED};
use neverstale_axum::{CachePageLayer, PageCache, PageVersion};

/// The path of the list.
const PATH: &str = "/";

/// The bytes of rendered rows that are kept in this process.
const ROW_COPIES: u64 = 4 * 1024 * 1024;

/// The list, cached in three layers. Cheap to clone.
#[derive(Clone)]
pub struct Listing(Arc<Layers>);

struct Layers {
    db: Database,
    strategy: CacheStrategy,
    gate: VersionSource<Stamp, Error>,
    /// Under `tasks.all`, as in the tutorial.
    query: CachedQuery<Stamped<TaskList>, Error>,
    rows: Fragments,
    pages: PageCache,
    page_ttl: Ttl,
}

impl Listing {
    /// Makes the three layers. Connects to nothing yet.
    #[must_use]
    pub fn new(db: &Database, cache: &Cache, pages: &PageCache, strategy: CacheStrategy) -> Self {
        let origin = db.clone();
        let ask = move || {
            let db = origin.clone();
            async move {
                let stamp = tasks::stamp(&db).await;
                Ok(if Mistake::FallsBack.is_made() { fall_back(stamp) } else { stamp }?)
            }
        };
        let seen = db.clone();
        let gate = VersionSource::with_change_tokens(ask, move || seen.change_token());
        let key = Key::new("tasks.all").expect("a constant without blanks");
        let query = match strategy {
            CacheStrategy::Versioned => {
                let label = |list: &Stamped<TaskList>| list.stamp.to_string();
                CachedQuery::versioned(cache, key, Versions::of(&gate, |error| Error::clone(&error)), label)
            }
            CacheStrategy::ByHand(strategy) => CachedQuery::new(cache, key, strategy),
        };
        let rows = Fragments::new(cache, "task-fragment", digest::TASK_ROW, Ttl::Never);
        let rows = if pages.has_local_copies() { rows.with_local_copies(ROW_COPIES) } else { rows };
        let page_ttl = match strategy {
            CacheStrategy::Versioned => VERSIONED,
            CacheStrategy::ByHand(strategy) => strategy.ttl(cache.default_ttl()),
        };
        let db = db.clone();
        Self(Arc::new(Layers { db, strategy, gate, query, rows, pages: pages.clone(), page_ttl }))
    }

    /// Returns the layer that caches the pages.
    #[must_use]
    pub fn layer(&self) -> CachePageLayer {
        let parameter = if Mistake::KeyWithoutPage.is_made() { "" } else { "page" };
        let layer = self.0.pages.cache_page(self.0.page_ttl);
        let layer = match self.0.strategy {
            CacheStrategy::Versioned => layer.versioned(&self.0.gate, Error::clone),
            CacheStrategy::ByHand(_) => layer,
        };
        let layer = layer.vary_on_query([parameter]).digest(digest::INDEX_PAGE);
        layer.personal("Cookie", |request| may_show_messages(&request.headers))
    }

    /// Returns the statistics of the version checks, if the strategy has them.
    #[must_use]
    pub fn gate_stats(&self) -> Option<VersionStats> {
        (self.0.strategy == CacheStrategy::Versioned).then(|| self.0.gate.stats())
    }

    /// Returns a page of the list, for a request that arrived at `arrival` and may have learned the version since.
    ///
    /// # Errors
    ///
    /// The database's, if the list is not cached or its version cannot be checked.
    pub async fn page(
        &self,
        arrival: Instant,
        version: Option<Arc<str>>,
        number: usize,
    ) -> Result<Stamped<Page>, Error> {
        // A request that waits for another's query must not wait for a query of its own as well.
        let deadline = arrival + self.0.db.max_wait();
        // The page may have waited for another process already.
        let patience = self.0.db.max_wait_for_others().saturating_sub(arrival.elapsed());
        let (db, query) = (self.0.db.clone(), self.0.query.with_max_wait(patience));
        let query = query.at(version);
        // The query that finds the list too long reads the page with it.
        let found = Arc::new(Mutex::new(None));
        let found_by_query = Arc::clone(&found);
        let list = query.get_or_set(async move || {
            let (list, page) = tasks::all_or_page(&db, number).await?;
            *found_by_query.lock().unwrap_or_else(PoisonError::into_inner) = page;
            Ok(list)
        });
        let Stamped { stamp, value } = in_time(deadline, list).await?;
        let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (value, found) {
            (TaskList::Whole(tasks), _) => Ok(Stamped { stamp, value: Page::of(tasks, number) }),
            (TaskList::TooLong, Some(page)) => Ok(page),
            (TaskList::TooLong, None) => {
                // The cache holds no more than that. This is a second query, as slow as the first.
                let page = async { Ok(tasks::page_stamped(&self.0.db, number).await?) };
                in_time(deadline + self.0.db.slow_query(), page).await
            }
        }
    }

    /// Drops the copies in this process: of pages and of rows.
    pub fn drop_copies(&self) {
        self.0.pages.drop_copies();
        self.0.rows.drop_copies();
    }

    /// Returns the rendered rows of a page. Fetches all cached rows in one round trip.
    pub async fn rows(&self, page: &Page) -> Vec<Arc<str>> {
        let render = |task: &Task| TaskRow { task }.render().expect("rendering into memory does not fail");
        self.0.rows.get_or_render(&page.tasks, row_of, render).await
    }

    /// Makes a committed change visible: in the list first, and then in the pages that show it.
    pub async fn changed(&self, change: Change, task: &Task) {
        // Versions make the row of a removed task unreachable, and the writer tells the cache nothing.
        let is_versioned = self.0.strategy == CacheStrategy::Versioned && !Mistake::WriterDeletes.is_made();
        if change == Change::Removed && !is_versioned {
            self.0.rows.delete(&row_of(task)).await;
        }
        let db = self.0.db.clone();
        self.0.query.changed(async move || Ok(tasks::all_stamped(&db).await?)).await;
        self.pages_changed().await;
    }

    /// Invalidates the list after a failed write, if the write may have happened all the same.
    pub async fn failed(&self, error: &db::Error) {
        if error.is_transient() {
            self.0.query.forget().await;
            self.pages_changed().await;
        }
    }

    /// Purges the pages, unless they are kept by version or left to expire.
    async fn pages_changed(&self) {
        match self.0.strategy {
            CacheStrategy::Versioned | CacheStrategy::ByHand(Strategy::Expire) => {}
            CacheStrategy::ByHand(_) => self.0.pages.purge(PATH).await,
        }
    }
}

/// Returns the version of a page, for its response.
#[must_use]
pub fn label(stamp: Stamp) -> PageVersion {
    PageVersion(stamp.to_string())
}

/// Returns everything that a row shows, and so depends on.
fn row_of(task: &Task) -> [String; 2] {
    [task.id.to_string(), task.name.clone()]
}

async fn in_time<T>(deadline: Instant, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout_at(deadline, answer).await.unwrap_or(Err(db::Error::Timeout.into()))
}

/// Makes [`Mistake::FallsBack`]: returns the last stamp in place of an error.
fn fall_back(told: Result<Stamp, db::Error>) -> Result<Stamp, db::Error> {
    static LAST: Mutex<Option<Stamp>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = told.as_ref().ok().copied().or(*last);
    last.map_or(told, Ok)
}
