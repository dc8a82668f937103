//! What many miss at once is built once, in one process and over several.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use neverstale::backend::locmem::Locmem;
use neverstale::backend::memcached;
use neverstale::{Cache, CacheOptions, Key, Ttl};
use tasklist::memcache_crate;
use tokio::sync::{Notify, oneshot};
use tokio_memcached::Options;

use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;
use testkit::{PATIENCE, eventually, too_long_to_store, wait_until, within_reason};

const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));

/// A cache as a process of its own would have it. Its callers wait for longer than a test does, so that those who go on
/// have been woken.
fn cache(memcached: &Memcached) -> Cache {
    let options = Options::new([memcached.address().parse().unwrap()]).unwrap();
    Cache::new(memcached::Memcached::new(options), CacheOptions::default().max_wait(10 * PATIENCE))
}

fn key() -> Key {
    Key::new("answer").unwrap()
}

/// Builds a value without further ado.
async fn get_or_set(cache: &Cache, value: &str) -> String {
    let build = async || Ok::<_, Infallible>(value.to_owned());
    within_reason("there is a value", cache.get_or_set(&key(), MINUTE, build)).await.unwrap()
}

/// A build that has begun, and ends when it is told to.
struct HeldBuild {
    end: oneshot::Sender<&'static str>,
    task: tokio::task::JoinHandle<Result<String, &'static str>>,
}

impl HeldBuild {
    async fn begin(cache: &Cache) -> Self {
        let (end, told) = oneshot::channel();
        let (begun, cache) = (std::sync::Arc::new(Notify::new()), cache.clone());
        let begins = begun.clone();
        let task = tokio::spawn(async move {
            let build = async || {
                begins.notify_one();
                match told.await {
                    Ok("") => Err("told to fail"),
                    other => Ok(String::from(other.unwrap())),
                }
            };
            cache.get_or_set(&key(), MINUTE, build).await
        });
        within_reason("the build begins", begun.notified()).await;
        Self { end, task }
    }

    async fn end(self, value: &'static str) -> Result<String, &'static str> {
        self.end.send(value).unwrap();
        within_reason("the build has ended", self.task).await.unwrap()
    }
}

/// How often the list was read.
fn builds(apps: Vec<App>) -> usize {
    apps.iter().for_each(|app| app.signal("INT"));
    let outputs: Vec<_> = apps.into_iter().map(|app| app.ended().1).collect();
    let lines = outputs.iter().flat_map(|output| output.lines().filter(|line| line.contains(", query: ")));
    let counts = lines.flat_map(|line| line.split(", ").filter_map(|part| part.strip_suffix(" builds")));
    counts.map(|count| count.parse::<usize>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_misses_in_three_processes_run_the_query_once() {
    let (memcached, database) = (Memcached::start_with_sasl(), Postgres::shared().database().await);
    let settings = Settings::new().with("DATABASE_URL", &database.url).with_login(&memcached);
    let settings = settings.with("SLOW_QUERY", "1s");
    let apps: Vec<_> = (0..3).map(|_| settings.serve()).collect();
    let pages = join_all((0..100).map(|number| apps[number % 3].get("/"))).await;
    pages.iter().for_each(|page| page.assert_lists([]));
    assert_eq!(builds(apps), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_server_every_process_runs_the_query_once() {
    let (mut memcached, database) = (Memcached::start(), Postgres::shared().database().await);
    let settings = Settings::new().with("DATABASE_URL", &database.url).with_memcached(&memcached);
    let settings = settings.with("SLOW_QUERY", "1s");
    let apps: Vec<_> = (0..2).map(|_| settings.serve()).collect();
    memcached.kill();
    let pages = join_all((0..50).map(|number| apps[number % 2].get("/"))).await;
    pages.iter().for_each(|page| page.assert_lists([]));
    assert_eq!(builds(apps), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_while_it_builds_is_replaced() {
    let (memcached, database) = (Memcached::start(), Postgres::shared().database().await);
    let settings = Settings::new().with("DATABASE_URL", &database.url).with_memcached(&memcached);
    let [dying, next] = [settings.clone().with("SLOW_QUERY", "20s").serve(), settings.serve()];
    let request = dying.request("GET", "/").send();
    let is_locked = async {
        let is_lock = |key: &String| key.starts_with("tasks.all") && key.ends_with("~lock");
        while !memcached.keys_now().iter().any(is_lock) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        answer = request => panic!("{answer:?} before the query was over"),
        () = is_locked => {}
    }
    dying.signal("KILL");
    next.get("/").await.assert_lists([]);
}

#[tokio::test]
async fn the_error_of_a_build_is_that_of_all_who_wait_in_its_process_and_nothing_is_stored() {
    let memcached = Memcached::start();
    let [one, other] = [cache(&memcached), cache(&memcached)];
    let failing = HeldBuild::begin(&one).await;
    let build = async || Ok::<_, &'static str>(String::from("built"));
    let (key, there) = (key(), other.clone());
    let waiting_there = tokio::spawn(async move { get_or_set(&there, "there").await });
    let mut waiting_here = Box::pin(join_all((0..20).map(|_| one.get_or_set(&key, MINUTE, build))));
    // All of them have missed and joined before the build ends.
    let misses = || one.stats()[0].misses == 21;
    tokio::select! {
        values = &mut waiting_here => panic!("{values:?} before the build has ended"),
        () = eventually("all wait", async || misses()) => {}
    }
    assert_eq!(failing.end("").await, Err("told to fail"));
    assert_eq!(waiting_here.await, vec![Err("told to fail"); 20]);
    assert_eq!(waiting_there.await.unwrap(), "there", "another process builds");
    assert_eq!(get_or_set(&one, "here").await, "there");
}

#[tokio::test]
async fn a_caller_who_leaves_lets_the_next_one_build() {
    let memcached = Memcached::start();
    let [one, other] = [cache(&memcached), cache(&memcached)];
    let left = HeldBuild::begin(&one).await;
    let waiting = tokio::spawn(async move { get_or_set(&one, "next").await });
    left.task.abort();
    assert_eq!(waiting.await.unwrap(), "next");
    assert_eq!(get_or_set(&other, "another").await, "next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_does_not_leave_the_lock_to_expire() {
    let memcached = Memcached::start();
    let left = HeldBuild::begin(&cache(&memcached)).await;
    left.task.abort();
    wait_until("the lock is deleted", || memcached.stat("delete_hits") == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_before_the_lock_is_there_lets_go_of_it() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let options = Options::new([proxy.address.to_string().parse().unwrap()]).unwrap();
    let cache = Cache::new(memcached::Memcached::new(options), CacheOptions::default());
    proxy.hold("~lock");
    let asking = tokio::spawn(async move { get_or_set(&cache, "value").await });
    proxy.wait_for_held().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    proxy.release();
    // The lock is taken, looked at, and removed. It would expire as well, but not by a message.
    eventually("the lock is let go", async || proxy.messages_with("~lock") == 3).await;
    assert!(memcached.keys().is_empty());
}

#[tokio::test]
async fn what_is_written_during_a_build_is_not_overwritten_by_it() {
    let memcached = Memcached::start();
    let cache = cache(&memcached);
    let old = HeldBuild::begin(&cache).await;
    cache.set(&key(), "new", MINUTE).await;
    assert_eq!(
        old.end("old").await.as_deref(),
        Ok("old"),
        "who asked before the write may see what was before"
    );
    assert_eq!(cache.get::<String>(&key()).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn what_is_stored_while_the_key_is_invalidated_does_not_stay() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    // With several connections a delete can overtake a value.
    let options = Options::new([proxy.address.to_string().parse().unwrap()]).unwrap();
    let cache = Cache::new(memcache_crate::MemcacheCrate::new(&options).unwrap(), CacheOptions::default());
    let old = HeldBuild::begin(&cache).await;
    proxy.hold("overtaken");
    old.end.send("overtaken").unwrap();
    proxy.wait_for_held().await;
    cache.invalidate(&key()).await;
    proxy.release();
    assert_eq!(old.task.await.unwrap().as_deref(), Ok("overtaken"));
    assert_eq!(cache.get::<String>(&key()).await, None);
}

#[tokio::test]
async fn who_asks_after_an_invalidation_waits_for_no_build_that_began_before_it() {
    let memcached = Memcached::start();
    let [one, other] = [cache(&memcached), cache(&memcached)];
    for (writer, reader) in [(&one, &one), (&one, &other)] {
        let old = HeldBuild::begin(&one).await;
        writer.invalidate(&key()).await;
        assert_eq!(get_or_set(reader, "new").await, "new");
        assert_eq!(old.end("old").await.as_deref(), Ok("old"));
        assert_eq!(reader.get::<String>(&key()).await.as_deref(), Some("new"), "the old one is not stored");
        writer.invalidate(&key()).await;
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_shared_all_the_same() {
    let memcached = Memcached::start();
    let (cache, built) = (cache(&memcached), AtomicUsize::new(0));
    let value = too_long_to_store();
    let build = async || {
        built.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(value.clone())
    };
    let key = key();
    let values = join_all((0..20).map(|_| cache.get_or_set(&key, MINUTE, build))).await;
    assert!(values.into_iter().all(|shared| shared.unwrap() == value));
    assert_eq!(built.into_inner(), 1);
    assert_eq!(cache.get::<Vec<u64>>(&key).await, None);
    assert_eq!(cache.stats()[0].refused, 1);
}

#[tokio::test]
async fn a_build_that_takes_longer_than_a_lock_lives_keeps_it() {
    let memcached = Memcached::start();
    let [one, other] = [cache(&memcached), cache(&memcached)];
    let slow = HeldBuild::begin(&one).await;
    let waiting = tokio::spawn(async move { get_or_set(&other, "another").await });
    // Time is the subject: longer than the lock's lifetime by more than memcached's clock is coarse.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(slow.end("slow").await.as_deref(), Ok("slow"));
    assert_eq!(waiting.await.unwrap(), "slow");
    wait_until("the lock is gone", || memcached.client().get::<Vec<u8>>("answer~lock").unwrap().is_none());
}

// On a paused clock, which goes on while everybody waits.
#[tokio::test(start_paused = true)]
async fn a_build_that_is_known_to_take_long_is_waited_for_in_its_process_as_well() {
    let options = CacheOptions::default().max_wait(Duration::from_secs(15));
    let cache = Cache::new(Locmem::new(), options);
    let slow = HeldBuild::begin(&cache).await;
    let waiting = tokio::spawn(async move {
        let build = async || Err("built, while the other was known to build");
        cache.get_or_set::<String, _>(&key(), MINUTE, build).await
    });
    // As long as one waits where nobody says that builds are slow.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(slow.end("slow").await.as_deref(), Ok("slow"));
    assert_eq!(waiting.await.unwrap().as_deref(), Ok("slow"));
}

#[tokio::test]
async fn a_lock_that_nobody_holds_costs_time_and_no_page() {
    let memcached = Memcached::start();
    memcached.client().set("tasks.all~lock", "left behind", 0).unwrap();
    let app = Settings::new().with_memcached(&memcached).with("CACHE_STRATEGY", "delete").serve();
    app.get("/").await.assert_lists([]);
    assert!(memcached.client().get::<Vec<u8>>("tasks.all").unwrap().is_some(), "and the next page is a hit");
}
