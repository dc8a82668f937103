//! Tasks that are added at the same time, on a real SQLite file and a real Postgres.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tasklist::db::{Database, Error};
use tasklist::tasks::{self, Adder, Task, TaskList, TaskName};

use crate::support::database::{on_both_databases, open_database};
use crate::support::session::Session;
use testkit::eventually;
use testkit::postgres::{Postgres, TestDatabase};
use testkit::proxy::Proxy;

/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3600);

async fn add(adder: &Adder, name: &str) -> Result<Task, Error> {
    adder.add(TaskName::parse(name).unwrap()).await
}

/// Begins to add tasks in this order, and leaves it at that.
async fn begin<'a>(
    adder: &'a Adder,
    names: &'a [&str],
) -> Pin<Box<impl Future<Output = Vec<Result<Task, Error>>> + 'a>> {
    let mut adds = Box::pin(join_all(names.iter().map(|name| add(adder, name))));
    assert!(is_pending(&mut adds).await, "nothing can be known yet");
    adds
}

async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())).await
}

/// The names of all tasks, ordered by id.
async fn names(db: &Database) -> Vec<String> {
    let TaskList::Whole(tasks) = tasks::all_stamped(db).await.unwrap().value else { panic!("too long") };
    tasks.into_iter().map(|task| task.name).collect()
}

/// How many statements have changed tasks, on Postgres.
async fn statements(db: &Database) -> u64 {
    tasks::stamp(db).await.unwrap().to_string().split_once('-').unwrap().0.parse().unwrap()
}

/// A Postgres whose statements a test holds, and one who adds by way of it and lets nobody go beside what is held.
struct Held {
    database: TestDatabase,
    db: Database,
    proxy: Proxy,
    adder: Adder,
}

impl Held {
    async fn start() -> Self {
        let database = Postgres::shared().database().await;
        let db = open_database(&database.url);
        db.migrate().await.unwrap();
        let proxy = Proxy::start(database.address()).await;
        let adder = Adder::new(&open_database(&database.url_through(proxy.address))).with_head_start(HOUR);
        Self { database, db, proxy, adder }
    }

    async fn names(&self) -> Vec<String> {
        self.database.tasks().await.into_iter().map(|(_, name)| name).collect()
    }
}

#[tokio::test]
async fn each_gets_the_task_of_their_own_name_and_ids_are_in_their_order() {
    on_both_databases(async |url| {
        let (db, adder) = (open_database(url), Adder::new(&open_database(url)));
        let wanted = [
            "same",
            "\"quotes\" \\ and \\u0041",
            "🥛 é\u{301}",
            "\u{1}\t\n\u{7f}x",
            "'); --",
            "same",
            "[1]",
            "9",
        ];
        let added: Vec<_> = begin(&adder, &wanted).await.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(added.iter().map(|task| task.name.as_str()).collect::<Vec<_>>(), wanted);
        assert!(added.is_sorted_by(|one, next| one.id < next.id), "{added:?}");
        assert_eq!(names(&db).await, wanted);
    })
    .await;
}

#[tokio::test]
async fn many_at_once_take_few_statements_of_a_bounded_length() {
    let url = Postgres::shared().database().await.url;
    let db = open_database(&url);
    db.migrate().await.unwrap();
    let before = statements(&db).await;
    let wanted: Vec<_> = (0..200).map(|number| format!("task {number}")).collect();
    let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
    let adder = Adder::new(&db).with_head_start(HOUR);
    assert!(begin(&adder, &wanted).await.await.iter().all(Result::is_ok));
    assert_eq!(names(&db).await, wanted);
    assert_eq!(statements(&db).await - before, 4, "64 each");
}

// The proxy runs while the database is waited for, here and below.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_while_a_statement_is_under_way_are_added_by_the_next() {
    let Held { db, proxy, adder, .. } = Held::start().await;
    let before = statements(&db).await;
    proxy.hold("first");
    let first = begin(&adder, &["first"]).await;
    proxy.wait_for_held().await;
    let mut others = begin(&adder, &["second", "third", "fourth"]).await;
    assert!(is_pending(&mut others).await);
    assert_eq!(names(&db).await, [""; 0]);
    proxy.release();
    assert!(first.await[0].is_ok());
    assert!(others.await.iter().all(Result::is_ok));
    assert_eq!(names(&db).await, ["first", "second", "third", "fourth"]);
    assert_eq!(statements(&db).await - before, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_before_the_commit_of_their_own_statement_is_answered() {
    let held = Held::start().await;
    held.proxy.hold("first");
    let first = begin(&held.adder, &["first"]).await;
    held.proxy.wait_for_held().await;
    let mut others = begin(&held.adder, &["second", "third"]).await;
    held.proxy.hold_answers("INSERT 0 2");
    // Which lets the first go.
    held.proxy.hold("nothing");
    assert!(first.await[0].is_ok());
    eventually("the others are committed", async || held.names().await.len() == 3).await;
    assert!(is_pending(&mut others).await, "nobody has said so");
    held.proxy.release();
    assert!(others.await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_joins_a_statement_that_may_have_been_sent() {
    let held = Held::start().await;
    held.proxy.hold("first");
    let first = begin(&held.adder, &["first"]).await;
    held.proxy.wait_for_held().await;
    let others = begin(&held.adder, &["second", "third"]).await;
    held.proxy.lose_answer_to("first");
    held.proxy.release();
    assert!(first.await[0].as_ref().is_err_and(Error::is_transient), "it is there, and nobody knows");
    assert!(others.await.iter().all(Result::is_ok), "they have nothing to do with it");
    assert_eq!(held.names().await, ["first", "second", "third"], "once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_happened_is_not_tried_again_and_all_of_the_group_are_told() {
    let held = Held::start().await;
    held.proxy.hold("first");
    let first = begin(&held.adder, &["first"]).await;
    held.proxy.wait_for_held().await;
    let others = begin(&held.adder, &["second", "third"]).await;
    held.proxy.lose_answer_to("third");
    held.proxy.release();
    assert!(first.await[0].is_ok());
    for other in others.await {
        assert!(other.as_ref().is_err_and(Error::is_transient), "{other:?}");
    }
    assert_eq!(held.names().await, ["first", "second", "third"], "once each");
    assert!(add(&held.adder, "after").await.is_ok());
}

#[tokio::test]
async fn one_name_that_is_refused_fails_nobody_else() {
    on_both_databases(async |url| {
        let (db, adder, mut session) =
            (open_database(url), Adder::new(&open_database(url)), Session::open(url).await);
        let refuse = if session.is_postgres() {
            "alter table tasks add constraint refused check (name <> 'bad')"
        } else {
            "create trigger refused before insert on tasks when new.name = 'bad' begin select raise(abort, 'no'); end"
        };
        session.execute(refuse).await;
        let added = begin(&adder, &["one", "bad", "two"]).await.await;
        assert!(added[0].is_ok() && added[2].is_ok(), "{added:?}");
        assert!(matches!(added[1], Err(Error::Refused(_))), "{added:?}");
        assert_eq!(names(&db).await, ["one", "two"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_tried_alone_waits_for_one_that_hangs_at_most() {
    let held = Held::start().await;
    let mut session = Session::open(&held.database.url).await;
    session.execute("alter table tasks add constraint refused check (name <> 'bad')").await;
    held.proxy.hold("first");
    let first = begin(&held.adder, &["first"]).await;
    held.proxy.wait_for_held().await;
    let others = begin(&held.adder, &["x\"1", "x\"2", "bad", "x\"3"]).await;
    // In the group's statement there is a backslash before the quote. And this lets the first go.
    held.proxy.hold("x\"");
    assert!(first.await[0].is_ok());
    let added = others.await;
    assert!(added.iter().all(|added| added.as_ref().is_err_and(Error::is_transient)), "{added:?}");
    let sent = ["x\"1", "x\"2", "x\"3"].map(|name| held.proxy.messages_with(name));
    assert_eq!(sent, [1, 0, 0], "nobody else waits for an answer of their own");
    held.proxy.release();
    assert!(add(&held.adder, "after").await.is_ok());
}

#[tokio::test]
async fn a_statement_that_takes_long_holds_back_nobody() {
    let database = Postgres::shared().database().await;
    let db = open_database(&database.url);
    db.migrate().await.unwrap();
    let adder = Adder::new(&db);
    let lock = database.lock_tasks().await;
    let first = begin(&adder, &["first"]).await;
    database.wait_for_waiting(1).await;
    let second = begin(&adder, &["second"]).await;
    database.wait_for_waiting(2).await;
    drop(lock);
    assert!(first.await[0].is_ok() && second.await[0].is_ok());
}

#[tokio::test]
async fn who_leaves_while_they_gather_adds_nothing() {
    on_both_databases(async |url| {
        let (db, adder) = (open_database(url), Adder::new(&open_database(url)));
        drop(begin(&adder, &["gone"]).await);
        let others = begin(&adder, &["left", "stays"]).await;
        assert!(others.await.iter().all(Result::is_ok));
        assert_eq!(names(&db).await, ["left", "stays"]);
    })
    .await;
}
