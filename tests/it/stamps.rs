//! The stamp names the state of the list, whoever changes it; on a real SQLite file and a real Postgres.

mod change_tokens;
mod changes;
mod counts;
mod outages;
mod reads;
mod replicated;
mod restored;

use tasklist::db::Database;
use tasklist::tasks::{self, Stamp, Task, TaskList, TaskName};

use crate::support::session::Session;

async fn stamp(db: &Database) -> Stamp {
    tasks::stamp(db).await.unwrap()
}

/// How many changes a stamp has counted.
fn v(stamp: Stamp) -> i64 {
    stamp.to_string().split_once('-').unwrap().0.parse().unwrap()
}

async fn add(db: &Database, name: &str) -> Task {
    tasks::add(db, &TaskName::parse(name).unwrap()).await.unwrap()
}

/// The names of all tasks, and the stamp that was read with them.
async fn list(db: &Database) -> (Stamp, Vec<String>) {
    let read = tasks::all_stamped(db).await.unwrap();
    let TaskList::Whole(tasks) = read.value else { panic!("too long") };
    (read.stamp, tasks.into_iter().map(|task| task.name).collect())
}
