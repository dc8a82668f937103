//! What is read together with a stamp, and what the gate tells, while others write.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use neverstale::version::{Lost, VersionSource};
use tasklist::db::{self, Database};
use tasklist::tasks::{self, Page, Stamp, Stamped, TaskList};
use tokio::task::JoinSet;

use super::{Session, add, list, stamp, v};
use crate::support::database::{on_both_databases, open_database};

/// Statements that change the list in the middle and at both ends.
const WRITES: [&str; 3] = [
    "insert into tasks (name) values ('new')",
    "update tasks set name = name || '.' where id in (select max(id) from tasks)",
    "delete from tasks where id in (select min(id) from tasks)",
];

/// Writes by hand on a connection of its own, until told to stop.
fn write(url: &str, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let (url, stop) = (url.to_owned(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut session = Session::open(&url).await;
        let mut written = 0;
        while !stop.load(Ordering::SeqCst) {
            session.execute(WRITES[written % WRITES.len()]).await;
            written += 1;
        }
        written
    })
}

/// Reads again and again while others write; no stamp may ever name two states.
async fn check_while_others_write<T: PartialEq + Debug>(
    url: &str,
    read: impl AsyncFn(&Database) -> Stamped<T>,
) -> HashMap<Stamp, T> {
    let (db, stop) = (open_database(url), Arc::new(AtomicBool::new(false)));
    let writers = [write(url, &stop), write(url, &stop)];
    let mut seen: HashMap<Stamp, T> = HashMap::new();
    while seen.len() < 300 {
        let Stamped { stamp, value } = read(&db).await;
        match seen.get(&stamp) {
            Some(known) => assert_eq!(*known, value, "{stamp} names two states"),
            None => drop(seen.insert(stamp, value)),
        }
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stamp_ever_names_two_lists() {
    on_both_databases(async |url| {
        add(&open_database(url), "x").await;
        check_while_others_write(url, async |db| tasks::all_stamped(db).await.unwrap()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stamp_ever_names_two_pages_and_a_page_fits_its_count() {
    on_both_databases(async |url| {
        let db = open_database(url);
        for number in 0..150 {
            add(&db, &number.to_string()).await;
        }
        let pages = check_while_others_write(url, async |db| tasks::page_stamped(db, 2).await.unwrap()).await;
        for Page { tasks, total, .. } in pages.into_values() {
            assert_eq!(tasks.len(), (total - 100).min(100));
        }
    })
    .await;
}

#[tokio::test]
async fn an_empty_list_has_a_stamp_too() {
    on_both_databases(async |url| {
        let db = open_database(url);
        let read = tasks::all_stamped(&db).await.unwrap();
        assert_eq!(read, Stamped { stamp: stamp(&db).await, value: TaskList::Whole(vec![]) });
        let page = tasks::page_stamped(&db, 9).await.unwrap();
        assert_eq!(page, Stamped { stamp: read.stamp, value: Page { tasks: vec![], number: 1, total: 0 } });
    })
    .await;
}

#[tokio::test]
async fn a_page_read_from_the_database_is_the_page_cut_out_of_the_list() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        session.execute("insert into tasks (id, name) values (-3, 'first')").await;
        for total in [1, 99, 100, 101, 200, 250] {
            while list(&db).await.1.len() < total {
                add(&db, "x").await;
            }
            let TaskList::Whole(tasks) = tasks::all_stamped(&db).await.unwrap().value else {
                panic!("too long")
            };
            for number in [0, 1, 2, 3, 4, 1000, usize::MAX] {
                let page = tasks::page_stamped(&db, number).await.unwrap().value;
                assert_eq!(page, Page::of(tasks.clone(), number), "{number} of {total}");
            }
        }
    })
    .await;
}

/// An error that all who wait for a query may have.
#[derive(Clone, Debug)]
struct Failed(#[expect(dead_code, reason = "shown when a test fails")] String);

impl From<Lost> for Failed {
    fn from(lost: Lost) -> Self {
        Self(lost.to_string())
    }
}

impl From<db::Error> for Failed {
    fn from(error: db::Error) -> Self {
        Self(format!("{error:?}"))
    }
}

/// A gate as the app has it.
async fn gate(url: &str) -> VersionSource<Stamp, Failed> {
    let db = open_database(url);
    db.open_change_tokens().await;
    let seen = db.clone();
    let ask = move || {
        let db = db.clone();
        async move { Ok(tasks::stamp(&db).await?) }
    };
    VersionSource::with_change_tokens(ask, move || seen.change_token())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_never_tells_an_older_stamp_than_a_write_that_was_acknowledged_elsewhere() {
    on_both_databases(async |url| {
        let gate = gate(url).await;
        let mut visitors = JoinSet::new();
        for _ in 0..4 {
            let (gate, elsewhere) = (gate.clone(), open_database(url));
            visitors.spawn(async move {
                for _ in 0..100 {
                    add(&elsewhere, "x").await;
                    let written = stamp(&elsewhere).await;
                    let told = gate.current().await.unwrap();
                    assert!(v(told) >= v(written), "{told} is older than {written}");
                }
            });
        }
        for _ in 0..16 {
            let gate = gate.clone();
            visitors.spawn(async move {
                let mut last = gate.current().await.unwrap();
                for _ in 0..300 {
                    let told = gate.current().await.unwrap();
                    assert!(v(told) >= v(last), "{told} after {last}");
                    last = told;
                }
            });
        }
        visitors.join_all().await;
        let stats = gate.stats();
        assert!(stats.queries < stats.calls && stats.failures == 0, "{stats:?}");
    })
    .await;
}
