//! The cache in the database, on a real SQLite file and a real Postgres.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tasklist::cache::Ttl;
use tasklist::cache::backend::database::DatabaseCache;
use tasklist::cache::backend::{Backend, ErrorKind};
use tasklist::config::{Config, Variables};
use tasklist::db::{Arg, Database};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::app::Settings;
use crate::support::eventually;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;

const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));

/// A pool of its own, as another process has.
fn open(url: &str) -> Database {
    Database::new(&Config::from_variables(&Variables::from([("DATABASE_URL", url)])).unwrap().database)
}

fn sqlite_url(directory: &TempDir) -> String {
    format!("sqlite://{}/db.sqlite3", directory.path().display())
}

async fn migrated(url: &str) -> DatabaseCache {
    let db = open(url);
    db.migrate().await.unwrap();
    DatabaseCache::new(db)
}

/// Runs a test with two handles over the same table, as two processes have them, and its URL.
async fn on_both_databases(test: impl AsyncFn([DatabaseCache; 2], &str)) {
    let directory = tempfile::tempdir().unwrap();
    for url in [sqlite_url(&directory), Postgres::shared().database().await.url] {
        test([migrated(&url).await, DatabaseCache::new(open(&url))], &url).await;
    }
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
async fn what_one_handle_writes_the_other_reads() {
    on_both_databases(async |[one, other], _| {
        one.set("k", bytes("set"), MINUTE).await.unwrap();
        assert_eq!(value(&other, "k").await.unwrap(), "set");
        assert!(other.replace("k", bytes("replaced"), MINUTE).await.unwrap());
        assert_eq!(value(&one, "k").await.unwrap(), "replaced");
        assert!(!one.add("k", bytes("added"), MINUTE).await.unwrap());
        assert!(one.touch("k", Ttl::Never).await.unwrap());
        assert!(other.delete("k").await.unwrap());
        assert!(!one.delete("k").await.unwrap());
        assert!(one.add("k", bytes("added"), MINUTE).await.unwrap());
        other.clear().await.unwrap();
        assert_eq!(value(&one, "k").await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_count_at_once_all_count_and_of_those_who_add_one_does() {
    on_both_databases(async |handles, _| {
        let handles = handles.map(std::sync::Arc::new);
        handles[0].set("number", bytes("7"), MINUTE).await.unwrap();
        let mut counted = JoinSet::new();
        let mut added = JoinSet::new();
        for index in 0..50 {
            let handle = handles[index % 2].clone();
            counted.spawn(async move { handle.incr("number", 2).await.unwrap().unwrap() });
            let handle = handles[index % 2].clone();
            added.spawn(async move { handle.add("lock", bytes("mine"), MINUTE).await.unwrap() });
        }
        let mut sums = counted.join_all().await;
        sums.sort_unstable();
        assert_eq!(sums, (0..50).map(|index| 9 + 2 * index).collect::<Vec<_>>());
        assert_eq!(added.join_all().await.into_iter().filter(|is_added| *is_added).count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_number_wraps_at_the_top_stops_at_zero_and_keeps_its_lifetime() {
    on_both_databases(async |[cache, _], _| {
        assert_eq!(cache.incr("none", 1).await.unwrap(), None);
        cache.set("n", bytes("18446744073709551615"), MINUTE).await.unwrap();
        assert_eq!(cache.incr("n", 3).await.unwrap(), Some(2));
        assert_eq!(cache.decr("n", 5).await.unwrap(), Some(0));
        cache.set("n", bytes("12  "), MINUTE).await.unwrap();
        assert_eq!(cache.decr("n", 5).await.unwrap(), Some(7));
        cache.set("short", bytes("1"), Ttl::After(Duration::from_millis(300))).await.unwrap();
        cache.incr("short", 1).await.unwrap();
        sleep(Duration::from_millis(310)).await;
        assert_eq!(cache.incr("short", 1).await.unwrap(), None);
        for text in ["", "-1", "x", "18446744073709551616", " 1"] {
            cache.set("n", bytes(text), MINUTE).await.unwrap();
            assert_eq!(cache.incr("n", 1).await.unwrap_err().kind, ErrorKind::NotANumber, "{text:?}");
            assert_eq!(value(&cache, "n").await.unwrap(), text);
        }
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_is_not_there_for_anything() {
    on_both_databases(async |[cache, _], _| {
        for lifetime in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(1)] {
            for key in ["get", "add", "replace", "delete", "touch", "incr"] {
                cache.set(key, bytes("1"), Ttl::Never).await.unwrap();
                assert!(cache.touch(key, Ttl::After(lifetime)).await.unwrap());
            }
            sleep(Duration::from_millis(2)).await;
            assert_eq!(value(&cache, "get").await, None);
            assert!(!cache.replace("replace", bytes("2"), MINUTE).await.unwrap());
            assert!(!cache.delete("delete").await.unwrap());
            assert!(!cache.touch("touch", MINUTE).await.unwrap());
            assert_eq!(cache.incr("incr", 1).await.unwrap(), None);
            assert_eq!(cache.stats().await[0].stats.as_ref().unwrap()["curr_items"], "0");
            assert!(cache.add("add", bytes("2"), Ttl::After(Duration::ZERO)).await.unwrap());
            assert!(cache.add("add", bytes("2"), MINUTE).await.unwrap());
            assert_eq!(cache.get_many(&["get".into(), "add".into()]).await.len(), 2);
            cache.set("add", bytes("3"), Ttl::After(Duration::ZERO)).await.unwrap();
            assert_eq!(value(&cache, "add").await, None, "and no older value either");
        }
        cache.set("for ever", bytes("1"), Ttl::After(Duration::MAX)).await.unwrap();
        assert_eq!(value(&cache, "for ever").await.unwrap(), "1");
    })
    .await;
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

#[tokio::test]
async fn a_value_that_is_too_large_leaves_no_older_one_and_no_other_unstored() {
    on_both_databases(async |[cache, _], _| {
        cache.set_many(&[("a".into(), bytes("old")), ("b".into(), bytes("old"))], MINUTE).await;
        let largest = Bytes::from(vec![b'x'; 1_000_000]);
        let values = [("a".into(), Bytes::from(vec![b'x'; 1_000_001])), ("b".into(), largest.clone())];
        let stored = cache.set_many(&values, MINUTE).await;
        assert_eq!(stored[0].as_ref().unwrap_err().kind, ErrorKind::TooLarge(1_000_001));
        assert!(stored[1].is_ok());
        assert_eq!(cache.get_many(&["a".into(), "b".into()]).await.pop().unwrap().unwrap(), Some(largest));
        assert_eq!(value(&cache, "a").await, None);
        cache.set("b", values[0].1.clone(), MINUTE).await.unwrap_err();
        assert_eq!(value(&cache, "b").await, None);
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
                    return handle.delete_many(&keys).await.into_iter().all(|deleted| deleted.is_ok());
                }
                handle.set_many(&values, MINUTE).await.iter().all(Result::is_ok)
            });
        }
        assert!(writes.join_all().await.into_iter().all(|is_done| is_done));
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
async fn when_there_are_too_many_rows_the_expired_ones_go_and_a_third_by_lowest_key() {
    on_both_databases(async |[cache, _], url| {
        let db = open(url);
        let fill = "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 101500) \
                    insert into cache select cast(100000000 + n as text), cast('v' as blob), \
                    case when n > 100500 then 1 end from numbers";
        let fill = db.choose(fill, FILL_POSTGRES);
        db.fetch_all::<()>(fill, &[]).await.unwrap();
        let values: Vec<_> = (0..1000).map(|number| (format!("new{number}"), bytes("v"))).collect();
        assert!(cache.set_many(&values, MINUTE).await.iter().all(Result::is_ok));
        let rows = async || {
            let counted: (i64,) = db.fetch_one("select count(*) from cache", &[]).await.unwrap();
            counted.0
        };
        // 101,500 without the expired ones, of which a third goes.
        eventually("the rows are culled", async || rows().await == 101_500 - 33_833).await;
        let expired = "select count(*) from cache where expires_at < $1";
        assert_eq!(db.fetch_one::<(i64,)>(expired, &[Arg::Int(2)]).await.unwrap(), (0,));
        assert_eq!(value(&cache, "100033833").await, None);
        assert_eq!(value(&cache, "100033834").await.unwrap(), "v");
        assert_eq!(value(&cache, "new0").await.unwrap(), "v");
    })
    .await;
}

const FILL_POSTGRES: &str = "insert into cache select cast(100000000 + n as text), 'v'::bytea, \
                             case when n > 100500 then 1 end from generate_series(1, 101500) as n";

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
    assert!(errors.iter().all(|error| error.kind == ErrorKind::LeftOut), "{errors:?}");
    // Longer than a statement may take: what was sent is given up.
    sleep(Duration::from_secs(5)).await;
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
    proxy.hold("too late");
    let error = cache.set("k", bytes("too late"), MINUTE).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Timeout(_)), "{error}");
    sleep(Duration::from_millis(2300)).await;
    let other = DatabaseCache::new(open(&database.url));
    other.set("k", bytes("newer"), MINUTE).await.unwrap();
    proxy.release();
    wait_for_answer(&cache).await;
    // Time for what was held to arrive, should nobody have waited for it.
    sleep(Duration::from_millis(300)).await;
    for handle in [&cache, &other] {
        assert_eq!(value(handle, "k").await, None, "it was owed a delete");
    }
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
        assert_eq!(cache.get("k").await.unwrap_err().kind, ErrorKind::LeftOut);
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
        let settings = settings.with("CACHE_URL", "db://");
        let [one, other] = [settings.serve(), settings.serve()];
        one.get("/").await.assert_lists([]);
        other.add("From the other").await.assert_lists(["From the other"]);
        one.get("/").await.assert_lists(["From the other"]);
        let check = settings.run(&["check"]);
        let said = String::from_utf8(check.stdout).unwrap();
        assert!(check.status.success() && said.contains(", 1 entries ("), "{said}");
    }
}

#[tokio::test]
async fn without_its_table_pages_are_served_and_the_outage_is_told_once() {
    let database = Postgres::shared().database().await;
    let app = Settings::new().with("DATABASE_URL", &database.url).with("CACHE_URL", "db://").serve();
    app.add("Here").await;
    database.execute("alter table cache rename to away").await;
    for _ in 0..20 {
        app.get("/").await.assert_lists(["Here"]);
    }
    app.add("Later").await.assert_lists(["Here", "Later"]);
    // Longer than it takes to try again.
    sleep(Duration::from_millis(2500)).await;
    let outages = || app.output().matches("the cache in the database is left out").count();
    assert_eq!(outages(), 1, "{}", app.output());
    database.execute("alter table away rename to cache").await;
    eventually("it is asked again", async || app.output().contains("the database answers again")).await;
    app.get("/").await.assert_lists(["Here", "Later"]);
    assert_eq!(outages(), 1, "{}", app.output());
}
