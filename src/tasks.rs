//! Tasks, and their statements in the database.

mod adder;
mod stamp;
mod task;
mod text;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use self::task::columns;
use crate::db::{Arg, Database, Error};
use crate::mistake::Mistake;

pub use self::adder::Adder;
pub use self::stamp::{Stamp, Stamped, stamp};
pub use self::task::{InvalidName, Task, TaskName};

/// Tasks on one page of the list.
pub const PER_PAGE: usize = 100;

/// How many tasks are read as one list. A longer list is read by pages, which is quicker from a few hundred on: every
/// change sends, decodes and caches the whole list, and a page is found as quickly in any list.
const LONGEST_LIST: usize = 500;

/// How many bytes of names are read as one list, so that it fits into one cached value of 1 MB.
const LARGEST_LIST: usize = 800_000;

/// Bytes around a name in a cached list, with an id of usual length.
const BYTES_AROUND_NAME: usize = 30;

/// The result of the expensive query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskList {
    /// All tasks, ordered by id.
    Whole(Vec<Task>),
    /// Too many tasks for one list: read them by pages.
    TooLong,
}

/// One page of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The tasks on it, at most [`PER_PAGE`].
    pub tasks: Vec<Task>,
    /// Its number, from 1.
    pub number: usize,
    /// How many tasks there are on all pages.
    pub total: usize,
}

/// Reads the whole list and its stamp in one statement: the query that the tutorial calls expensive.
///
/// # Errors
///
/// As [`stamp()`].
pub async fn all_stamped(db: &Database) -> Result<Stamped<TaskList>, Error> {
    all_or_page(db, 1).await.map(|(list, _)| list)
}

/// Reads the whole list or, if it is too long, one page of it, and the stamp, in one statement.
///
/// # Errors
///
/// As [`stamp()`].
pub async fn all_or_page(
    db: &Database,
    number: usize,
) -> Result<(Stamped<TaskList>, Option<Stamped<Page>>), Error> {
    let mut read = read(db, number, LONGEST_LIST).await?;
    if Mistake::LabelReadSecond.is_made() {
        read.stamp = stamp(db).await?;
    }
    let Stamped { stamp, value: (total, tasks) } = read;
    if total > LONGEST_LIST {
        let page = Stamped { stamp, value: Page::read(tasks, number, total) };
        return Ok((Stamped { stamp, value: TaskList::TooLong }, Some(page)));
    }
    Ok((Stamped { stamp, value: TaskList::of(tasks) }, None))
}

/// Reads one page of the list and the list's stamp in one statement.
///
/// # Errors
///
/// As [`stamp()`].
pub async fn page_stamped(db: &Database, number: usize) -> Result<Stamped<Page>, Error> {
    Ok(read(db, number, 0).await?.map(|(total, tasks)| Page::read(tasks, number, total)))
}

/// Reads the number of tasks, and all tasks if they are at most `longest`, else those of a page.
async fn read(db: &Database, number: usize, longest: usize) -> Result<Stamped<(usize, Vec<Task>)>, Error> {
    // Even a sleep of no time takes a millisecond.
    if !db.slow_query().is_zero() {
        sleep(db.slow_query()).await;
    }
    // A number beyond the last page means the last page, as in `Page::of`. Counts of blocks of ids lead to the block in
    // which the page begins (migrations/README.md). An impossible count, written by hand, is taken for none.
    let sql = "with blocks as \
                   (select block, case when total between 0 and 512 then cast(total as integer) else 0 end as total \
                    from task_counts), \
               counted as materialized \
                   (select block, total, sum(total) over (order by block rows unbounded preceding) as upto \
                    from blocks), \
               asked as materialized \
                   (select total, \
                        case when total <= $3 then $3 + 1 else $1 end as most, \
                        case when total > $2 then $2 when total = 0 then 0 else (total - 1) / $1 * $1 end as start \
                    from (select coalesce(sum(total), 0) as total from blocks) as summed), \
               place as materialized \
                   (select block, start - (upto - counted.total) as skipped from counted, asked \
                    where upto > start and asked.total > $3 order by block limit 1) \
               select v, tok, total, null as id, null as name from list_state, asked \
               union all \
               select null, null, null, id, name \
               from (select id, name from tasks \
                     where id >= coalesce((select block << 9 from place), (select min(id) from tasks)) order by id \
                     limit (select most from asked) offset coalesce((select skipped from place), 0)) as listed \
               order by id";
    let offset = number.saturating_sub(1).saturating_mul(PER_PAGE);
    let lines = db.fetch_all(sql, &[to_sql(PER_PAGE), to_sql(offset), to_sql(longest)]).await?;
    stamp::gather(lines)
}

/// Adds a task and returns it.
///
/// # Errors
///
/// The database's. After [`Error::Timeout`] the task may be there or not.
pub async fn add(db: &Database, name: &TaskName) -> Result<Task, Error> {
    let sql = concat!("insert into tasks (name) values ($1) returning ", columns!());
    db.fetch_one(sql, &[Arg::Text(name.as_str())]).await
}

/// Removes a task and returns it, or `None` if no task has this id.
///
/// # Errors
///
/// The database's. After [`Error::Timeout`] the task may be there or not.
pub async fn remove(db: &Database, id: i64) -> Result<Option<Task>, Error> {
    let sql = concat!("delete from tasks where id = $1 returning ", columns!());
    db.fetch_optional(sql, &[Arg::Int(id)]).await
}

/// Puts a removed task back under its old id, and returns it. One that is there already stays as it is.
///
/// Where ids have been counted anew, it becomes a new task: its old id belongs, or will belong, to another.
///
/// # Errors
///
/// As [`remove`].
pub async fn put_back(db: &Database, task: &Task) -> Result<Task, Error> {
    let id = Arg::Int(task.id);
    let sql = db.choose(
        concat!(
            "insert into tasks (id, name) values ($1, $2) on conflict (id) do nothing returning ",
            columns!()
        ),
        concat!(
            "insert into tasks (id, name) select $1, $2 where $1 <= (select last_value from tasks_id_seq) \
             on conflict (id) do nothing returning ",
            columns!()
        ),
    );
    if let Some(added) = db.fetch_optional(sql, &[id, Arg::Text(&task.name)]).await? {
        return Ok(added);
    }
    let there: Option<Task> =
        db.fetch_optional(concat!("select ", columns!(), " from tasks where id = $1"), &[id]).await?;
    match there.filter(|there| there.name == task.name) {
        Some(there) => Ok(there),
        None => add(db, &TaskName::of(task)).await,
    }
}

/// Returns the number of the page that shows a task. If the task is gone, returns the page where it was.
///
/// # Errors
///
/// The database's.
pub async fn page_of(db: &Database, id: i64) -> Result<usize, Error> {
    let sql = "with blocks as \
                   (select block, case when total between 0 and 512 then cast(total as integer) else 0 end as total \
                    from task_counts) \
               select (select coalesce(sum(total), 0) from blocks where block < $1 >> 9) \
                      + (select count(*) from tasks where id >= $1 >> 9 << 9 and id < $1), \
                      (select coalesce(sum(total), 0) from blocks)";
    let (before, total): (i64, i64) = db.fetch_one(sql, &[Arg::Int(id)]).await?;
    let [before, total] = [before, total].map(|count| usize::try_from(count).unwrap_or_default());
    Ok((before / PER_PAGE + 1).min(pages(total)))
}

fn pages(total: usize) -> usize {
    total.div_ceil(PER_PAGE).max(1)
}

fn to_sql(count: usize) -> Arg<'static> {
    Arg::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

impl TaskList {
    fn of(tasks: Vec<Task>) -> Self {
        let bytes: usize = tasks.iter().map(|task| task.name.len() + BYTES_AROUND_NAME).sum();
        let is_too_long = tasks.len() > LONGEST_LIST || bytes > LARGEST_LIST;
        if is_too_long { Self::TooLong } else { Self::Whole(tasks) }
    }
}

impl Page {
    /// Cuts a page out of the whole list. A number beyond the last page means the last page.
    ///
    /// This is as in Django's `Paginator.get_page`, except for 0, which means the first page.
    #[must_use]
    pub fn of(mut tasks: Vec<Task>, number: usize) -> Self {
        let total = tasks.len();
        let number = number.clamp(1, pages(total));
        tasks.drain(..(number - 1) * PER_PAGE);
        tasks.truncate(PER_PAGE);
        Self { tasks, number, total }
    }

    /// Makes a page of its own tasks.
    fn read(tasks: Vec<Task>, number: usize, total: usize) -> Self {
        Self { tasks, number: number.clamp(1, pages(total)), total }
    }

    /// Returns how many pages there are, at least one.
    #[must_use]
    pub fn pages(&self) -> usize {
        pages(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(count: i64) -> Vec<Task> {
        (1..=count).map(|id| Task { id, name: format!("task {id}") }).collect()
    }

    #[test]
    fn a_page_has_a_hundred_tasks_and_the_last_one_the_rest() {
        let page = Page::of(tasks(250), 3);
        assert_eq!((page.tasks.len(), page.tasks[0].id, page.pages()), (50, 201, 3));
        assert_eq!(Page::of(tasks(200), 2).tasks[99].id, 200);
    }

    #[test]
    fn a_page_that_is_not_there_is_the_nearest_that_is() {
        assert_eq!(Page::of(tasks(200), 9).number, 2);
        assert_eq!(Page::of(tasks(200), 0).number, 1);
        assert_eq!(Page::of(tasks(0), 5), Page { tasks: vec![], number: 1, total: 0 });
    }
}
