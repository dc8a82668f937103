//! What only the cache in the database has: statements on many keys, culling, outages; on a real SQLite file and a real
//! Postgres.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use neverstale::Ttl;
use neverstale::backend::{Backend, Error, ErrorKind};
use tasklist::db::Arg;
use tasklist::db::cache::DatabaseCache;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::app::Settings;
use crate::support::backends::migrated;
use crate::support::database::{self, open_database as open};
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;
use testkit::{PATIENCE, eventually, wait_until};

const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));

fn sqlite_url(directory: &TempDir) -> String {
    format!("sqlite://{}/db.sqlite3", directory.path().display())
}

/// Runs a test with two handles over the same table, as two processes have them, and its URL.
async fn on_both_databases(test: impl AsyncFn([DatabaseCache; 2], &str)) {
    database::on_both_databases(async |url| {
        migrated(url).await;
        test([open(url), open(url)].map(|db| DatabaseCache::with_timeout(db, PATIENCE)), url).await;
    })
    .await;
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn value(cache: &DatabaseCache, key: &str) -> Option<String> {
    cache.get(key).await.unwrap().map(|value| String::from_utf8(value.into()).unwrap())
}

/// Asks until the cache is no longer left out.
async fn wait_for_answer(cache: &DatabaseCache) {
    eventually("the cache answers", async || cache.get("any").await.is_ok()).await;
}

#[tokio::test]
async fn a_thousand_keys_of_any_spelling_and_values_of_any_bytes_keep_their_places() {
    on_both_databases(async |[cache, other], _| {
        let odd =
            ["\"", "\\", "'", "a\\u0041", "{}", "[1]", "null", "1", "01", "é", "e\u{301}", "🥛", "%", "_"];
        let keys: Vec<String> =
            odd.map(String::from).into_iter().chain((14..1000).map(|n| format!("k{n}"))).collect();
        let bytes_of =
            |index: usize| Bytes::from((0..=u8::MAX).cycle().skip(index).take(index).collect::<Vec<_>>());
        let values: Vec<_> =
            keys.iter().cloned().enumerate().map(|(n, key)| (key, bytes_of(n))).rev().collect();
        assert!(cache.set_many(&values, MINUTE).await.iter().all(Result::is_ok));
        let asked: Vec<_> = keys.iter().cloned().flat_map(|key| [format!("not {key}"), key]).collect();
        for (index, found) in other.get_many(&asked).await.into_iter().enumerate() {
            let expected = (index % 2 == 1).then(|| bytes_of(index / 2));
            assert_eq!(found.unwrap(), expected, "{}", asked[index]);
        }
        assert_eq!(cache.get("\\").await.unwrap(), Some(bytes_of(1)));
        let removed: Vec<_> = other.delete_many(&asked).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(removed, [false, true].repeat(1000));
        assert!(cache.get_many(&keys).await.into_iter().all(|found| found.unwrap().is_none()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_write_the_same_keys_in_another_order_do_not_lock_each_other_out() {
    on_both_databases(async |handles, _| {
        let handles = handles.map(std::sync::Arc::new);
        let values: Vec<_> = (0..300).map(|number| (format!("k{number}"), bytes("v"))).collect();
        let mut writes = JoinSet::new();
        for round in 0..30 {
            let (handle, mut values) = (handles[round % 2].clone(), values.clone());
            values.rotate_left(round * 10);
            if round % 4 < 2 {
                values.reverse();
            }
            writes.spawn(async move {
                if round % 3 == 0 {
                    let keys: Vec<_> = values.into_iter().map(|(key, _)| key).collect();
                    return handle.delete_many(&keys).await.into_iter().find_map(Result::err);
                }
                handle.set_many(&values, MINUTE).await.into_iter().find_map(Result::err)
            });
        }
        let errors = writes.join_all().await.into_iter().flatten();
        assert_eq!(errors.map(|error| error.to_string()).collect::<Vec<_>>(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn no_keys_are_no_question() {
    let nowhere = DatabaseCache::new(open("postgres://u@127.0.0.1:1/x"));
    assert!(nowhere.get_many(&[]).await.is_empty());
    assert!(nowhere.set_many(&[], MINUTE).await.is_empty());
    assert!(nowhere.delete_many(&[]).await.is_empty());
}

#[tokio::test]
async fn when_there_are_too_many_rows_the_expired_ones_go_and_then_those_that_live_shortest() {
    on_both_databases(async |[cache, _], url| {
        let db = open(url);
        // Named so that neither the lowest nor the highest keys are those that go.
        let fill = "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 101500) \
                    insert into cache select case when n <= 20000 then 'm.' when n <= 100500 then 'view.' else 'a.' end \
                    || n, cast('v' as blob), case when n <= 20000 then null when n <= 100500 \
                    then 4000000000000 + n else 1 end from numbers";
        let fill = db.choose(fill, FILL_POSTGRES);
        db.fetch_all::<()>(fill, &[]).await.unwrap();
        let fortnight = Ttl::After(Duration::from_secs(100 * 365 * 24 * 60 * 60));
        cache.set("session.a", bytes("s"), fortnight).await.unwrap();
        let values: Vec<_> = (0..999).map(|number| (format!("session.b{number}"), bytes("s"))).collect();
        assert!(cache.set_many(&values, fortnight).await.iter().all(Result::is_ok));
        let count = async |sql: &'static str| db.fetch_one::<(i64,)>(sql, &[]).await.unwrap().0;
        // 101,500 without the expired ones, of which thousands go until two thirds of 100,000 are left.
        let rest = 101_500 - 35_000;
        eventually("the rows are culled", async || count("select count(*) from cache").await == rest).await;
        assert_eq!(count("select count(*) from cache where expires_at is null or expires_at = 1").await, 0);
        assert_eq!(count("select count(*) from cache where key like 'session.%'").await, 1_000);
        // 20,000 had no lifetime, so the first 15,000 of the others went.
        assert_eq!(count("select min(expires_at) from cache").await, 4_000_000_035_001);
    })
    .await;
}

const FILL_POSTGRES: &str = "insert into cache select case when n <= 20000 then 'm.' when n <= 100500 then 'view.' \
                             else 'a.' end || n, 'v'::bytea, case when n <= 20000 then null \
                             when n <= 100500 then 4000000000000 + n else 1 end from generate_series(1, 101500) as n";

#[tokio::test]
async fn when_there_are_too_many_bytes_some_rows_go() {
    on_both_databases(async |[cache, _], url| {
        let db = open(url);
        let fill = db.choose(
            "with recursive numbers(n) as (select $1 union all select n + 1 from numbers where n < $1 + 9) \
             insert into cache select 'view.' || n, zeroblob(1000000), 4000000000000 + n from numbers",
            "insert into cache select 'view.' || n, decode(repeat('00', 1000000), 'hex'), 4000000000000 + n \
             from generate_series($1::bigint, $1 + 9) as n",
        );
        for first in (1..=300).step_by(10) {
            db.fetch_all::<()>(fill, &[Arg::Int(first)]).await.unwrap();
        }
        for number in 0..34 {
            cache.set(&format!("k{number}"), Bytes::from(vec![b'x'; 999_000]), MINUTE).await.unwrap();
        }
        let left = async || {
            let sql = "select cast(sum(octet_length(value)) as bigint) from cache";
            db.fetch_one::<(i64,)>(sql, &[]).await.unwrap().0
        };
        eventually("the rows are culled", async || left().await < 181_000_000).await;
        assert!(left().await > 170_000_000, "no more than is needed");
    })
    .await;
}

#[tokio::test]
async fn a_database_that_hangs_costs_one_timeout_and_gives_no_overwritten_value_after() {
    let postgres = Postgres::start();
    let cache = migrated(&postgres.database().await.url).await;
    let keys: Vec<String> = ["set", "deleted", "replaced", "many", "untouched"].map(String::from).into();
    let values: Vec<_> = keys.iter().map(|key| (key.clone(), bytes("old"))).collect();
    assert!(cache.set_many(&values, MINUTE).await.iter().all(Result::is_ok));
    postgres.hang();
    let mut errors = vec![
        cache.set("set", bytes("new"), MINUTE).await.unwrap_err(),
        cache.delete("deleted").await.unwrap_err(),
        cache.replace("replaced", bytes("new"), MINUTE).await.unwrap_err(),
    ];
    errors.extend(cache.set_many(&[("many".into(), bytes("new"))], MINUTE).await.remove(0).err());
    for _ in 0..20 {
        errors.push(cache.get("untouched").await.unwrap_err());
    }
    assert!(matches!(errors.remove(0).kind, ErrorKind::Timeout(_)));
    let is_why = |cause: &ErrorKind| matches!(cause, ErrorKind::Timeout(_));
    let is_down = |error: &Error| matches!(&error.kind, ErrorKind::Down(Some(cause)) if is_why(cause));
    assert!(errors.iter().all(is_down), "{errors:?}");
    // What was sent is still under way, so a delete must come after it.
    postgres.go_on();
    wait_for_answer(&cache).await;
    let found: Vec<_> = cache.get_many(&keys).await.into_iter().map(|found| found.unwrap()).collect();
    assert_eq!(found, [None, None, None, None, Some(bytes("old"))]);
}

// The proxy runs while the cache is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_arrives_late_is_not_read_instead_of_a_newer_one() {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(database.address()).await;
    let cache = migrated(&database.url_through(proxy.address)).await;
    cache.set("k", bytes("old"), MINUTE).await.unwrap();
    let other = DatabaseCache::new(open(&database.url));
    let mut is_seen = false;
    while !is_seen {
        proxy.hold("too late");
        let began = Instant::now();
        let error = cache.set("k", bytes("too late"), MINUTE).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Timeout(_)), "{error}");
        // Time is the subject: after two seconds the cache would delete the key, if it did not wait for the write.
        sleep(Duration::from_millis(2100)).await;
        other.set("k", bytes("newer"), MINUTE).await.unwrap();
        proxy.release();
        // On a machine that is too busy the statement was given up by then, and there is nothing to see.
        is_seen = began.elapsed() < Duration::from_millis(3800);
        wait_for_answer(&cache).await;
    }
    // Time for what was held to arrive, should nobody have waited for it.
    sleep(Duration::from_millis(100)).await;
    for handle in [&cache, &other] {
        assert_eq!(value(handle, "k").await, None, "it was owed a delete");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_gets_no_connection_from_the_pool_is_not_marked_down() {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(database.address()).await;
    let db = open(&database.url_through(proxy.address));
    db.migrate().await.unwrap();
    let cache = DatabaseCache::new(db.clone());
    cache.set("k", bytes("v"), MINUTE).await.unwrap();
    proxy.hold("held back");
    let mut queries = JoinSet::new();
    for _ in 0..8 {
        let db = db.clone();
        queries.spawn(async move { db.fetch_one::<(String,)>("select 'held back'", &[]).await });
    }
    eventually("all connections are in use", async || db.is_congested()).await;
    assert_eq!(cache.get("k").await.unwrap_err().kind, ErrorKind::Busy);
    proxy.release();
    queries.join_all().await;
    assert_eq!(value(&cache, "k").await.unwrap(), "v", "no other read is refused because of it");
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_stop_a_write() {
    on_both_databases(async |[cache, _], _| {
        cache.set("k", bytes("old"), MINUTE).await.unwrap();
        for _ in 0..20 {
            // Begun, and dropped.
            assert!(cache.set("k", bytes("new"), MINUTE).now_or_never().is_none());
        }
        eventually("it is stored", async || value(&cache, "k").await.as_deref() == Some("new")).await;
        cache.set("k", bytes("newer"), MINUTE).await.unwrap();
        assert_eq!(value(&cache, "k").await.unwrap(), "newer");
    })
    .await;
}

#[tokio::test]
async fn a_table_that_is_missing_is_an_outage_and_used_once_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    for url in [sqlite_url(&directory), Postgres::shared().database().await.url] {
        let cache = DatabaseCache::new(open(&url));
        let error = cache.set("k", bytes("v"), MINUTE).await.unwrap_err();
        assert!(matches!(&error.kind, ErrorKind::Unreachable(cause) if cause.contains("cache")), "{error}");
        let next = cache.get("k").await.unwrap_err();
        assert_eq!(next.kind, ErrorKind::Down(Some(error.kind.into())), "it names the cause");
        open(&url).migrate().await.unwrap();
        wait_for_answer(&cache).await;
        cache.set("k", bytes("v"), MINUTE).await.unwrap();
    }
}

#[tokio::test]
async fn it_says_what_it_is_and_how_much_it_holds() {
    on_both_databases(async |[cache, _], _| {
        cache.set_many(&[("é".into(), bytes("12345")), ("gone".into(), bytes(""))], MINUTE).await;
        cache.delete("gone").await.unwrap();
        cache.set("expired", bytes("1"), Ttl::After(Duration::from_nanos(1))).await.unwrap();
        let stats = cache.stats().await.remove(0);
        let stats = stats.stats.unwrap();
        assert_eq!((stats["curr_items"].as_str(), stats["bytes"].as_str()), ("1", "7"));
        let check = cache.check().await.remove(0);
        let outcome = check.outcome.unwrap();
        assert!(outcome.ends_with(", 1 entries"), "{outcome}");
        assert_eq!((check.server, cache.server_of("k")), ("the database".into(), "the database".into()));
        assert_eq!(cache.describe(), "in the database, table cache");
    })
    .await;
}

#[tokio::test]
async fn processes_share_the_cached_list_and_check_looks_at_it() {
    let database = Postgres::shared().database().await;
    for settings in [Settings::new(), Settings::new().with("DATABASE_URL", &database.url)] {
        let settings = settings.with("CACHE_URL", "db://").with("CACHE_STRATEGY", "delete");
        let [one, other] = [settings.serve(), settings.serve()];
        one.get("/").await.assert_lists([]);
        other.add("From the other").await.assert_lists(["From the other"]);
        one.get("/").await.assert_lists(["From the other"]);
        let check = settings.run(&["check"]);
        let said = String::from_utf8(check.stdout).unwrap();
        assert!(
            check.status.success() && said.contains(", 5 entries ("),
            "the list and its row, a page of each and their generation: {said}"
        );
    }
}

// The proxy runs while the app is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_table_pages_are_served_and_the_outage_is_told_once() {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(database.address()).await;
    let settings = Settings::new().with("DATABASE_URL", &database.url_through(proxy.address));
    let app = settings.with("CACHE_URL", "db://").serve();
    app.add("Here").await;
    database.execute("alter table cache rename to away").await;
    for _ in 0..20 {
        app.get("/").await.assert_lists(["Here"]);
    }
    app.add("Later").await.assert_lists(["Here", "Later"]);
    let tried = proxy.messages_with("cache");
    eventually("it is tried again", async || proxy.messages_with("cache") > tried).await;
    let outages = || app.output().matches("the cache in the database is left out").count();
    wait_until("it is in the log", || outages() > 0);
    assert_eq!(outages(), 1, "{}", app.output());
    database.execute("alter table away rename to cache").await;
    eventually("it is asked again", async || app.output().contains("the database answers again")).await;
    app.get("/").await.assert_lists(["Here", "Later"]);
    assert_eq!(outages(), 1, "{}", app.output());
}
