//! The counts by blocks of ids that pages are found with: right after whatever is done to tasks.

use tasklist::db::Database;
use tasklist::tasks::{self, Page, Task, TaskList};

use super::Session;
use super::restored::copy;
use crate::support::database::{on_both_databases, open_database};
use testkit::postgres::Postgres;
use testkit::process::find;

/// On an empty table, one after the other.
const CHANGES: &[&str] = &[
    "insert into tasks (name) values ('one')",
    "insert into tasks (name) values ('two'), ('three'), ('four')",
    "insert into tasks (id, name) values (-9223372036854775808, 'least'), (-513, 'a'), (-512, 'b'), (-1, 'c'), (0, 'd')",
    "insert into tasks (id, name) values (511, 'e'), (512, 'f'), (1023, 'g'), (1024, 'h')",
    "insert into tasks (id, name) values (1, 'there') on conflict (id) do nothing",
    "insert into tasks (id, name) values (1, 'there'), (600, 'new') on conflict (id) do nothing",
    "insert into tasks (id, name) values (1, 'there'), (700, 'new') on conflict (id) do update set id = 5000",
    "update tasks set name = name || '.'",
    "update tasks set id = 600000 where id = 512",
    "update tasks set id = id + 1000000 where id between 500 and 1023",
    "update tasks set id = id + 1, name = 'moved' where id = 511 or id = 600000",
    "begin; insert into tasks (name) values ('not'); delete from tasks; rollback",
    "begin; insert into tasks (name) values ('kept'); savepoint s; delete from tasks; rollback to s; commit",
    "delete from tasks where id = 4711",
    "delete from tasks where id in (0, 1024)",
    "delete from tasks where id < 0",
    "insert into tasks (id, name) values (9223372036854775807, 'most')",
    "update tasks set id = -9223372036854775808 where id = 9223372036854775807",
    "delete from tasks",
];

const CHANGES_ON_SQLITE: &[&str] = &[
    "with recursive n(n) as (select 1 union all select n + 1 from n where n < 2000) \
     insert into tasks (id, name) select n, 'many' from n",
    "insert or replace into tasks (id, name) values (1, 'replaced'), (3000, 'new')",
    "replace into tasks (id, name) select id, 'all' from tasks",
    "update or replace tasks set id = 5 where id = 1800",
    "update or ignore tasks set id = 6 where id > 1900",
    "update tasks set rowid = 7000 where id = 7",
    "insert or ignore into tasks (id, name) values (1, 'there'), (4000, 'new')",
    "pragma recursive_triggers = on; replace into tasks (id, name) values (1, 'again'), (5000, 'new'); \
     update or replace tasks set id = 8 where id = 1500; pragma recursive_triggers = off",
];

const CHANGES_ON_POSTGRES: &[&str] = &[
    "insert into tasks (id, name) select n, 'many' from generate_series(1, 2000) n",
    "copy tasks (id, name) from program 'echo 3000,copied' with (delimiter ',')",
    "merge into tasks using (values (1), (4000)) as source (id) on tasks.id = source.id \
     when matched then delete when not matched then insert (id, name) values (source.id, 'merged')",
    "with gone as (delete from tasks where id between 100 and 1200 returning id) \
     insert into tasks (id, name) select id + 10000, 'moved' from gone",
    "set search_path = ''; delete from public.tasks where id = 4000; \
     insert into public.tasks (id, name) values (5000, 'as a restored dump'); reset search_path",
    "create temp table task_counts (block bigint primary key, total int); \
     insert into public.tasks (id, name) values (6000, 'hidden'); drop table pg_temp.task_counts",
    "set session_replication_role = replica; insert into tasks (id, name) values (7000, 'replayed'); \
     delete from tasks where id = 5000; reset session_replication_role",
    "begin isolation level serializable; delete from tasks where id = 6000; commit",
    "truncate tasks",
    "insert into tasks (name) values ('after')",
    "begin; truncate tasks restart identity cascade; insert into tasks (name) values ('back'); rollback",
];

const WRONG: &str = "select coalesce(counted.block, real.block) from task_counts as counted full join \
                     (select id >> 9 as block, count(*) as total from tasks group by 1) as real \
                     on counted.block = real.block where counted.total is distinct from real.total";

/// Returns the blocks whose counts are wrong, missing, or of nothing.
async fn wrong(session: &mut Session) -> Vec<i64> {
    match session {
        Session::Sqlite(connection) => sqlx::query_scalar(WRONG).fetch_all(connection).await.unwrap(),
        Session::Postgres(connection) => sqlx::query_scalar(WRONG).fetch_all(connection).await.unwrap(),
    }
}

/// Reads all tasks in one go, however many.
async fn all(session: &mut Session) -> Vec<Task> {
    let sql = "select id, name from tasks order by id";
    match session {
        Session::Sqlite(connection) => sqlx::query_as(sql).fetch_all(connection).await.unwrap(),
        Session::Postgres(connection) => sqlx::query_as(sql).fetch_all(connection).await.unwrap(),
    }
}

/// Asserts that each page, and each task's, is what the whole list says.
async fn assert_pages(db: &Database, session: &mut Session, sql: &str) {
    let all = all(session).await;
    for number in 1..=Page::of(all.clone(), 1).pages() + 1 {
        let page = tasks::page_stamped(db, number).await.unwrap().value;
        assert_eq!(page, Page::of(all.clone(), number), "{sql}");
        for task in page.tasks.iter().step_by(40) {
            assert_eq!(tasks::page_of(db, task.id).await.unwrap(), page.number, "{sql}");
        }
    }
}

#[tokio::test]
async fn counts_are_right_after_every_change_made_by_hand() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        let more = if session.is_postgres() { CHANGES_ON_POSTGRES } else { CHANGES_ON_SQLITE };
        for sql in CHANGES.iter().chain(more) {
            session.execute(sql).await;
            assert_eq!(wrong(&mut session).await, [0; 0], "{sql}");
            assert_pages(&db, &mut session, sql).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_is_read_whole_or_by_the_page_that_was_asked_for() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        let fill = if session.is_postgres() {
            "insert into tasks (name) select 'task' from generate_series(1, 500)"
        } else {
            "with recursive n(n) as (select 1 union all select n + 1 from n where n < 500) \
             insert into tasks (name) select 'task' from n"
        };
        session.execute(fill).await;
        session.execute("update tasks set id = -5000 where id = 1").await;
        let whole = all(&mut session).await;
        let (list, page) = tasks::all_or_page(&db, 3).await.unwrap();
        assert_eq!((list.value, page), (TaskList::Whole(whole), None));
        session.execute("insert into tasks (name) values ('one too many')").await;
        let all = all(&mut session).await;
        for number in [0, 1, 3, 6, 7, usize::MAX] {
            let (list, page) = tasks::all_or_page(&db, number).await.unwrap();
            let page = page.unwrap();
            assert_eq!((list.value, page.stamp), (TaskList::TooLong, list.stamp));
            assert_eq!(page.value, Page::of(all.clone(), number));
        }
        // Whatever is wrong with the counts, a list is not cut short without a word.
        session.execute("update task_counts set total = 1").await;
        assert_eq!(tasks::all_stamped(&db).await.unwrap().value, TaskList::TooLong);
    })
    .await;
}

#[tokio::test]
async fn a_database_that_has_tasks_already_is_counted() {
    on_both_databases(async |url| {
        let (db, mut session) = (open_database(url), Session::open(url).await);
        let undo = if session.is_postgres() {
            "drop function tasks_have_changed cascade; drop table task_counts"
        } else {
            "drop trigger tasks_have_come; drop trigger tasks_have_gone; drop trigger tasks_have_moved; \
             drop table task_counts"
        };
        session.execute(undo).await;
        session
            .execute("insert into tasks (id, name) values (-700, 'a'), (1, 'b'), (2, 'c'), (700, 'd')")
            .await;
        session.execute("delete from _sqlx_migrations where version = 5").await;
        assert_eq!(db.migrate().await.unwrap(), ["0005 task counts"]);
        assert_eq!(wrong(&mut session).await, [0; 0]);
        assert_pages(&db, &mut session, "migrated").await;
    })
    .await;
}

#[tokio::test]
async fn a_restored_copy_has_the_counts_and_goes_on_counting() {
    on_both_databases(async |url| {
        let mut session = Session::open(url).await;
        session
            .execute("insert into tasks (id, name) values (-700, 'a'), (1, 'b'), (2, 'c'), (700, 'd')")
            .await;
        let mut copy = Session::open(&copy(url).await).await;
        assert_eq!(wrong(&mut copy).await, [0; 0]);
        copy.execute("delete from tasks where id = 700").await;
        copy.execute("insert into tasks (id, name) values (3, 'e'), (5000, 'f')").await;
        assert_eq!(wrong(&mut copy).await, [0; 0]);
    })
    .await;
}

#[tokio::test]
async fn counts_that_were_made_wrong_are_mended_where_tasks_change() {
    on_both_databases(async |url| {
        let mut session = Session::open(url).await;
        session.execute("insert into tasks (id, name) values (1, 'a'), (2, 'b'), (700, 'c')").await;
        // As when a dump's counts are loaded before its tasks, to where triggers are at work.
        session.execute("update task_counts set total = 7").await;
        assert_eq!(wrong(&mut session).await.len(), 2);
        session.execute("delete from tasks where id in (2, 700)").await;
        assert_eq!(wrong(&mut session).await, [0; 0]);
    })
    .await;
}

#[tokio::test]
async fn tasks_loaded_beside_their_counts_are_counted_once() {
    let source = Postgres::shared().database().await.url;
    let target = Postgres::shared().database().await.url;
    for url in [&source, &target] {
        open_database(url).migrate().await.unwrap();
    }
    let sql = "insert into tasks (name) select 'task' from generate_series(1, 1500)";
    Session::open(&source).await.execute(sql).await;
    for tables in [["tasks", "task_counts"], ["task_counts", "tasks"]] {
        let mut session = Session::open(&target).await;
        session.execute("truncate tasks").await;
        for table in tables {
            let table = format!("--table={table}");
            let arguments = ["--data-only", &table, &source];
            let dump = std::process::Command::new(find("pg_dump")).args(arguments).output().unwrap();
            assert!(dump.status.success());
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), dump.stdout).unwrap();
            let mut restore = std::process::Command::new(find("psql"));
            // Where the counts are there already, theirs are an error.
            assert!(restore.args(["-q", &target, "-f"]).arg(file.path()).output().unwrap().status.success());
        }
        assert_eq!(wrong(&mut session).await, [0; 0], "{tables:?}");
    }
}
