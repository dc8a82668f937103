//! The handle that everything cached goes through: typed values, and no error whatever the backend does.

use std::sync::Arc;
use std::time::Duration;

use neverstale::backend::file::Files;
use neverstale::backend::locmem::Locmem;
use neverstale::backend::memcached;
use neverstale::fragment::Fragments;
use neverstale::query::CachedQuery;
use neverstale::version::{Lost, VersionSource, Versions};
use neverstale::{Cache, CacheOptions, Key, LayerStats, Strategy, Ttl};
use tokio_memcached::Options;

use testkit::memcached::Memcached;
use testkit::too_long_to_store;

const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));

fn cache() -> Cache {
    Cache::new(Locmem::new(), CacheOptions::default())
}

fn cache_at(address: &str) -> Cache {
    let backend = memcached::Memcached::new(Options::new([address.parse().unwrap()]).unwrap());
    Cache::new(backend, CacheOptions::default())
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn stats(cache: &Cache) -> LayerStats {
    cache.stats().remove(0)
}

#[tokio::test]
async fn null_and_empty_are_values() {
    let (cache, key) = (cache(), key("k"));
    assert!(!cache.has_key(&key).await);
    cache.set(&key, &None::<u8>, MINUTE).await;
    assert_eq!(cache.get::<Option<u8>>(&key).await, Some(None));
    assert!(cache.has_key(&key).await);
    cache.set::<[u8]>(&key, &[], MINUTE).await;
    assert_eq!(cache.get::<Vec<u8>>(&key).await, Some(vec![]));
    let build = async || Err("a stored null is no miss");
    cache.set(&key, &(), MINUTE).await;
    assert_eq!(cache.get_or_set::<(), _>(&key, MINUTE, build).await, Ok(()));
}

#[tokio::test]
async fn a_value_of_another_type_or_not_ours_is_a_miss_and_counted() {
    let (cache, key) = (cache(), key("k"));
    cache.set(&key, "text", MINUTE).await;
    assert_eq!(cache.get::<u64>(&key).await, None);
    cache.backend().set(&cache.name(&key), "bare".into(), MINUTE).await.unwrap();
    assert_eq!(cache.get::<String>(&key).await, None);
    let LayerStats { hits, misses, unreadable, .. } = stats(&cache);
    assert_eq!((hits, misses, unreadable), (0, 2, 2));
}

#[tokio::test]
async fn many_are_read_and_stored_in_their_order() {
    let cache = cache();
    let keys = ["a", "b", "c"].map(key);
    cache.set_many(&[(key("a"), 1), (key("c"), 2), (key("a"), 3)], MINUTE).await;
    assert_eq!(cache.get_many::<u8>(&keys).await, [Some(3), None, Some(2)], "of a key twice the last counts");
    cache.delete_many(&keys[..2]).await;
    assert_eq!(cache.get_many::<u8>(&keys).await, [None, None, Some(2)]);
    assert_eq!(cache.get_many::<u8>(&[]).await, []);
}

#[tokio::test]
async fn add_and_replace_say_whether_they_stored() {
    let (cache, key) = (cache(), key("k"));
    assert!(!cache.replace(&key, "new", MINUTE).await);
    assert!(cache.add(&key, "first", MINUTE).await);
    assert!(!cache.add(&key, "second", MINUTE).await);
    assert!(cache.replace(&key, "new", MINUTE).await);
    assert_eq!(cache.get::<String>(&key).await.as_deref(), Some("new"));
    assert!(cache.touch(&key, Ttl::After(Duration::ZERO)).await);
    assert!(!cache.touch(&key, MINUTE).await);
    cache.clear().await;
    assert_eq!(stats(&cache).fills, 2);
}

#[tokio::test]
async fn a_counter_is_bare_and_counts() {
    let (cache, key) = (cache(), key("n"));
    assert_eq!(cache.incr(&key, 1).await, None);
    assert!(cache.backend().add(&cache.name(&key), "41".into(), Ttl::Never).await.unwrap());
    assert_eq!(cache.incr(&key, 1).await, Some(42));
    assert_eq!(cache.decr(&key, 50).await, Some(0));
    cache.set(&key, "text", MINUTE).await;
    assert_eq!(cache.incr(&key, 1).await, None);
    assert_eq!(stats(&cache).refused, 1);
}

#[tokio::test]
async fn versions_do_not_see_each_other() {
    let (cache, key) = (cache(), key("k"));
    let (first, second) = (cache.namespace(1), cache.namespace(2));
    cache.set(&key, "one", MINUTE).await;
    assert_eq!(first.get::<String>(&key).await.as_deref(), Some("one"));
    assert_eq!(second.get::<String>(&key).await, None);
    second.set(&key, "two", MINUTE).await;
    assert_eq!(cache.get::<String>(&key).await.as_deref(), Some("one"));
    assert_eq!(first.namespace(2).get::<String>(&key).await.as_deref(), Some("two"));
}

#[tokio::test]
async fn layers_are_counted_apart() {
    let cache = cache();
    let rows = cache.counted_as("rows");
    rows.set(&key("k"), "value", MINUTE).await;
    cache.counted_as("rows").get::<String>(&key("k")).await;
    let [LayerStats { layer: "rows", hits: 1, fills: 1, bytes_read, bytes_written, latency, .. }] =
        &cache.stats()[..]
    else {
        panic!("{:?}", cache.stats())
    };
    assert!(bytes_read == bytes_written && *bytes_read > 5);
    assert_eq!(latency.count(), 2);
}

#[tokio::test]
async fn a_value_over_the_limit_is_compressed_or_left_out_with_the_older_one() {
    let memcached = Memcached::start();
    let (cache, key) = (cache_at(&memcached.address()), key("k"));
    let text = "tasks ".repeat(1_000_000);
    cache.set(&key, &text, MINUTE).await;
    assert_eq!(cache.get::<String>(&key).await, Some(text));
    cache.set(&key, &too_long_to_store(), MINUTE).await;
    assert!(!cache.has_key(&key).await, "the older value is gone");
    assert_eq!(stats(&cache).refused, 1);
}

#[tokio::test]
async fn no_verb_fails_without_a_server() {
    let mut memcached = Memcached::start();
    let (cache, key) = (cache_at(&memcached.address()), key("k"));
    memcached.kill();
    assert_eq!(cache.get::<String>(&key).await, None);
    assert_eq!(cache.get_many::<String>(std::slice::from_ref(&key)).await, [None]);
    cache.set(&key, "v", MINUTE).await;
    cache.set_many(&[(key.clone(), "v")], MINUTE).await;
    assert!(!cache.add(&key, "v", MINUTE).await);
    assert!(!cache.replace(&key, "v", MINUTE).await);
    assert!(!cache.touch(&key, MINUTE).await);
    assert!(!cache.has_key(&key).await);
    assert_eq!(cache.incr(&key, 1).await, None);
    assert_eq!(cache.decr(&key, 1).await, None);
    cache.delete(&key).await;
    cache.delete_many(std::slice::from_ref(&key)).await;
    cache.invalidate(&key).await;
    cache.clear().await;
    assert_eq!(cache.get_or_set(&key, MINUTE, async || Ok::<_, ()>(7)).await, Ok(7));
    assert!(stats(&cache).errors >= 15);
    cache.backend().get(&cache.name(&key)).await.unwrap_err();
}

/// Lifetimes and waits that a caller may choose.
const DURATIONS: [Duration; 4] =
    [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX), Duration::MAX];

/// Names and versions that a caller may choose, or find in a cache.
const TEXTS: [&str; 7] = ["", "two words", "\r\nset a 0 0 1", "\0\u{2028}\u{7f}", "~", "~lock", "a~@1"];

#[tokio::test]
async fn a_duration_may_have_any_length() {
    let build = async || Ok::<_, ()>(7);
    for duration in DURATIONS {
        let options = CacheOptions::default().max_wait(duration).default_ttl(Ttl::After(duration));
        let options = options.lock_lifetime(duration).poll_interval(duration);
        let cache = Cache::new(Locmem::new(), options);
        assert_eq!(cache.get_or_set(&key("k"), Ttl::After(duration), build).await, Ok(7));
        let patient = cache.with_max_wait(duration);
        assert_eq!(patient.get_or_set(&key("k2"), cache.default_ttl(), build).await, Ok(7));
        for strategy in [Strategy::Expire, Strategy::Delete, Strategy::Rotate, Strategy::Update] {
            let query = CachedQuery::new(&patient, key("k3"), strategy);
            assert_eq!(query.get_or_set(build).await, Ok(7));
        }
        let rows = Fragments::new(&cache, "row", "1", Ttl::After(duration)).with_local_copies(1 << 20);
        assert_eq!(&*rows.get_or_render(&[1], |_| [String::new()], |_| "row".into()).await[0], "row");
        assert_eq!(&*rows.get_or_render(&[1], |_| [String::new()], |_| "row".into()).await[0], "row");
    }
}

#[tokio::test]
async fn a_lock_of_another_is_waited_for_however_long_a_caller_may_wait() {
    for max_wait in [Duration::from_secs(u64::MAX), Duration::MAX] {
        let cache = Cache::new(Locmem::new(), CacheOptions::default().max_wait(max_wait));
        let lock = Key::as_stored("k~lock").unwrap();
        cache.backend().set(&cache.name(&lock), "another's".into(), Ttl::Never).await.unwrap();
        let build = async || Ok::<_, ()>(7);
        let key = key("k");
        let value = cache.get_or_set(&key, Ttl::Never, build);
        let (value, ()) = tokio::join!(value, async {
            tokio::task::yield_now().await;
            cache.backend().delete(&cache.name(&lock)).await.unwrap();
        });
        assert_eq!(value, Ok(7));
    }
}

#[tokio::test]
async fn a_name_and_a_version_may_be_any_text() {
    let cache = cache();
    let long = "x y".repeat(1_000);
    for text in TEXTS.into_iter().chain([&*long]) {
        let version: Arc<str> = text.into();
        let source = VersionSource::new(move || std::future::ready(Ok::<_, Gone>(version.clone())));
        let versions = Versions::of(&source, |gone| Gone::clone(&gone));
        let query = CachedQuery::versioned(&cache, key("list"), versions, |label: &String| label.clone());
        let build = async || Ok(String::from(text));
        let again = async || panic!("{text:?} is cached");
        assert_eq!(query.get_or_set(build).await.as_deref(), Ok(text));
        assert_eq!(query.get_or_set(again).await.as_deref(), Ok(text), "of no other version");
        let name: &'static str = String::from(text).leak();
        let rows = Fragments::new(&cache, name, name, Ttl::Never);
        assert_eq!(&*rows.get_or_render(&[()], |()| [String::new()], |()| text.into()).await[0], text);
        let rotated = CachedQuery::new(&cache, key("rotated"), Strategy::Rotate);
        cache.set(&Key::as_stored("rotated~token").unwrap(), text, Ttl::Never).await;
        assert_eq!(rotated.get_or_set(async || Ok::<_, ()>(String::from(text))).await.as_deref(), Ok(text));
    }
}

#[tokio::test(start_paused = true)]
async fn no_key_of_a_visitor_makes_others_wait() {
    let (cache, started) = (cache(), tokio::time::Instant::now());
    for name in ["bob~lock", "bob.lock", "bob~~lock", "~lock", "bob~token", "bob@1", "v2:bob", "~v2:bob"] {
        cache.set(&key(&format!("user.{name}")), "theirs", Ttl::Never).await;
        cache.set(&key(name), "theirs", Ttl::Never).await;
    }
    for cache in [cache.clone(), cache.namespace(2)] {
        for name in ["user.bob", "bob"] {
            let build = async || Ok::<_, ()>(String::from("built"));
            assert_eq!(cache.get_or_set(&key(name), Ttl::Never, build).await.as_deref(), Ok("built"));
        }
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[derive(Clone, Debug, PartialEq)]
struct Gone;

impl From<Lost> for Gone {
    fn from(_: Lost) -> Self {
        Self
    }
}

#[tokio::test]
async fn one_call_reads_no_more_than_it_may_however_well_it_is_compressed() {
    let cache = |largest_read| {
        Cache::new(Locmem::new(), CacheOptions::default().largest_read(largest_read).compress_from(0))
    };
    let values = ["a", "b", "c"].map(|name| (key(name), "0".repeat(1_000_000)));
    let keys = values.each_ref().map(|(key, _)| key.clone());
    for (largest_read, expected) in [(2_500_000, [true, true, false]), (999_999, [false; 3]), (0, [false; 3])]
    {
        let cache = cache(largest_read);
        cache.set_many(&values, MINUTE).await;
        let found = cache.get_many::<String>(&keys).await;
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), expected);
        assert_eq!(cache.get::<String>(&keys[2]).await.is_some(), expected[0], "a call of its own");
    }
    let cache = cache(64 * 1024 * 1024);
    cache.set_many(&values, MINUTE).await;
    assert!(cache.get_many::<String>(&keys).await.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_value_that_is_too_long_is_left_out_and_leaves_no_older_one() {
    let cache =
        Cache::new(Locmem::new(), CacheOptions::default().largest_value(100).compress_from(usize::MAX));
    assert_eq!(cache.largest_value(), 100);
    let [fits, long] = [50, 100].map(|length| "x".repeat(length));
    cache.set(&key("k"), &fits, MINUTE).await;
    assert!(!cache.add(&key("new"), &long, MINUTE).await);
    assert!(!cache.replace(&key("k"), &long, MINUTE).await);
    assert_eq!(cache.get::<String>(&key("k")).await.as_ref(), Some(&fits), "and these overwrite nothing");
    cache.set(&key("k"), &long, MINUTE).await;
    assert_eq!(cache.get::<String>(&key("k")).await, None);
    cache.set(&key("a"), &fits, MINUTE).await;
    let envelopes =
        [("a", &long), ("b", &fits)].map(|(name, text)| cache.envelope(&key(name), text.as_bytes()));
    assert!(!cache.set_envelopes(&envelopes, MINUTE).await);
    assert_eq!((cache.has_key(&key("a")).await, cache.has_key(&key("b")).await), (false, true));
    assert_eq!(stats(&cache).refused, 4);
    let built = cache.get_or_set(&key("built"), MINUTE, async || Ok::<_, ()>(long.clone())).await;
    assert_eq!((built, cache.has_key(&key("built")).await), (Ok(long), false));
}

#[tokio::test]
async fn the_bytes_in_this_process_are_bounded() {
    let cache = Cache::new(Locmem::new().max_bytes(100_000), CacheOptions::default());
    let keys: Vec<_> = (0..50).map(|number| key(&number.to_string())).collect();
    for key in &keys {
        cache.set(key, &"x".repeat(10_000), Ttl::Never).await;
    }
    let kept = async || cache.get_many::<String>(&keys).await.into_iter().flatten().count();
    testkit::eventually("the others are evicted", async || (1..10).contains(&kept().await)).await;
}

#[tokio::test]
async fn closing_waits_for_what_goes_on_in_the_background() {
    let mut memcached = Memcached::start();
    let (cache, key) = (cache_at(&memcached.address()), key("k"));
    // The lock of the build is released after the value has been returned.
    assert_eq!(cache.get_or_set(&key, MINUTE, async || Ok::<_, ()>(1)).await, Ok(1));
    cache.clone().close(Duration::from_secs(10)).await;
    assert_eq!(memcached.keys(), ["k"]);
    let cache = cache_at(&memcached.address());
    memcached.kill();
    cache.set(&key, &2, MINUTE).await;
    let started = tokio::time::Instant::now();
    cache.close(Duration::from_millis(10)).await;
    assert!(started.elapsed() >= Duration::from_millis(10), "the delete of the key is pending");
    cache.close(Duration::ZERO).await;
}

/// Runs a future to its end without a runtime.
fn without_runtime<T>(future: impl Future<Output = T>) -> T {
    futures_util::future::FutureExt::now_or_never(future).expect("there is nothing to wait for")
}

#[test]
fn nothing_panics_outside_a_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let in_files = Cache::new(Files::new(directory.path().join("made")), CacheOptions::default());
    let key = key("k");
    for cache in [cache(), in_files] {
        assert_eq!(without_runtime(cache.get::<u8>(&key)), None);
        assert_eq!(without_runtime(cache.get_or_set(&key, MINUTE, async || Ok::<_, ()>(1))), Ok(1));
        without_runtime(cache.set_many(&[(key.clone(), 1)], MINUTE));
        without_runtime(cache.invalidate(&key));
        without_runtime(cache.close(Duration::from_secs(1)));
    }
}
