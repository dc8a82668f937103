//! The cached list: several processes, one memcached, and all that can happen to it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tasklist::cache::Ttl;
use tasklist::cache::backend::locmem::Locmem;
use tasklist::cache::backend::memcache_crate::MemcacheCrate;
use tasklist::cache::backend::{Backend, ErrorKind, memcached};
use tasklist::config::{Config, Variables, cache::BackendConfig};
use tasklist::memcached::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::app::{App, Settings};
use crate::support::memcached::Memcached;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::wait_until;

/// Where the list is kept, as in the tutorial.
const KEY: &str = "tasks.all";

#[tokio::test]
async fn a_change_through_one_process_is_on_the_next_page_of_the_other() {
    for strategy in ["delete", "update"] {
        let (memcached, database) = (Memcached::start_with_sasl(), Postgres::shared().database().await);
        let settings = Settings::new().with("DATABASE_URL", &database.url).with("CACHE_STRATEGY", strategy);
        let settings = settings.with_login(&memcached);
        let [one, other] = [settings.serve(), settings.serve()];
        for app in [&one, &other] {
            app.get("/").await.assert_lists([]);
        }
        one.add("From one").await.assert_lists(["From one"]);
        other.get("/").await.assert_lists(["From one"]);
        other.add("From the other").await;
        let page = one.get("/").await;
        page.assert_lists(["From one", "From the other"]);
        one.remove(&page, "From one").await;
        other.get("/").await.assert_lists(["From the other"]);
    }
}

#[tokio::test]
async fn the_slow_query_is_felt_once_and_every_reload_is_a_hit() {
    let memcached = Memcached::start_with_sasl();
    let settings = Settings::new().with_login(&memcached).with("SLOW_QUERY", "1s");
    let app = settings.serve();
    let (sets, misses) = (memcached.stat("cmd_set"), memcached.stat("get_misses"));
    app.get("/").await.assert_lists([]);
    assert_eq!((memcached.stat("cmd_set"), memcached.stat("get_misses")), (sets + 1, misses + 1));
    for reload in 1..=5 {
        let hits = memcached.stat("get_hits");
        app.get("/").await.assert_lists([]);
        assert_eq!(memcached.stat("get_hits"), hits + 1, "reload {reload}: an empty list is a hit");
    }
    let other = settings.serve();
    other.get("/").await.assert_lists([]);
    assert_eq!(memcached.stat("cmd_set"), sets + 1, "another process finds what the first has filled");
}

#[tokio::test]
async fn update_stores_the_new_list_and_delete_leaves_none() {
    for (strategy, left) in [("update", true), ("delete", false)] {
        let memcached = Memcached::start();
        let app = Settings::new().with_memcached(&memcached).with("CACHE_STRATEGY", strategy).serve();
        app.get("/").await;
        assert_eq!(app.post("/add", &[("name", "New")]).await.status, 303);
        let value: Option<Vec<u8>> = memcached.client().get(KEY).unwrap();
        assert_eq!(value.is_some(), left, "{strategy}");
        app.get("/").await.assert_lists(["New"]);
    }
}

#[tokio::test]
async fn a_prefix_keeps_two_apps_on_one_server_apart() {
    let memcached = Memcached::start();
    let shop = Settings::new().with_memcached(&memcached).with("CACHE_KEY_PREFIX", "shop").serve();
    let blog = Settings::new().with_memcached(&memcached).with("CACHE_KEY_PREFIX", "blog").serve();
    shop.add("Shop's").await.assert_lists(["Shop's"]);
    blog.get("/").await.assert_lists([]);
    assert!(memcached.client().get::<Vec<u8>>("shop:tasks.all").unwrap().is_some());
}

#[tokio::test]
async fn what_is_not_ours_or_damaged_is_a_miss() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    app.add("Right").await;
    let mut damaged: Vec<u8> = memcached.client().get(KEY).unwrap().unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    for foreign in [b"set by hand".as_slice(), b"", b"[]", &damaged] {
        memcached.client().set(KEY, foreign, 0).unwrap();
        app.get("/").await.assert_lists(["Right"]);
    }
}

#[tokio::test]
async fn every_page_is_served_while_memcached_is_stopped_killed_and_restarted() {
    let (mut memcached, database) = (Memcached::start_with_sasl(), Postgres::shared().database().await);
    let settings = Settings::new().with("DATABASE_URL", &database.url).with_login(&memcached);
    let [one, other] = [settings.serve(), settings.serve()];
    one.add("Before").await.assert_lists(["Before"]);
    other.get("/").await.assert_lists(["Before"]);

    memcached.stop();
    one.get("/").await.assert_lists(["Before"]);
    // The server is left out by now, so the delete is not even sent. It is owed: once the server is back, no page of
    // one may show the old list.
    one.add("While stopped").await.assert_lists(["Before", "While stopped"]);
    memcached.go_on();
    wait_until("one asks memcached again", || one.output().contains("memcached answers again"));
    for app in [&one, &other] {
        app.get("/").await.assert_lists(["Before", "While stopped"]);
    }

    memcached.kill();
    one.add("While gone").await.assert_lists(["Before", "While stopped", "While gone"]);
    other.get("/").await.assert_lists(["Before", "While stopped", "While gone"]);

    memcached.restart();
    for app in [&one, &other] {
        app.get("/").await.assert_lists(["Before", "While stopped", "While gone"]);
    }
    // Both, since each first deletes what it could not write.
    for app in [&one, &other] {
        wait_until("memcached is asked again", || !left_out(app));
    }
    one.get("/").await;
    let hits = memcached.stat("get_hits");
    one.get("/").await.assert_lists(["Before", "While stopped", "While gone"]);
    assert_eq!(memcached.stat("get_hits"), hits + 1, "it is used again");
}

/// Whether a server's log ends with memcached left out.
fn left_out(app: &App) -> bool {
    let log = app.output();
    log.rfind("memcached is left out") > log.rfind("memcached answers again")
}

#[tokio::test]
async fn an_outage_is_noticed_once_and_not_by_every_request() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    app.add("Here").await;
    memcached.stop();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..50 {
        requests.spawn(app.request("GET", "/").send());
    }
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status(), 200);
    }
    assert_eq!(app.output().matches("memcached is left out").count(), 1, "{}", app.output());
    let ready = app.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("cache: failed") && ready.body.contains("left out after"), "{}", ready.body);
    memcached.go_on();
    wait_until("memcached is asked again", || app.output().contains("memcached answers again"));
}

#[tokio::test]
async fn a_login_that_is_refused_costs_the_cache_and_nothing_else() {
    let memcached = Memcached::start_with_sasl();
    let settings = Settings::new().with_memcached(&memcached);
    for settings in [
        settings.clone(),
        settings.with("MEMCACHIER_USERNAME", "tester").with("MEMCACHIER_PASSWORD", "wrong-horse"),
    ] {
        let app = settings.serve();
        assert!(app.output().contains("user name or password refused"), "{}", app.output());
        app.add("Served").await.assert_lists(["Served"]);
        let page = app.get("/").await;
        app.remove(&page, "Served").await.assert_lists([]);
        assert!(!app.output().contains("wrong-horse"));
    }
}

// The proxy runs while the app is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_the_cache_though_its_visitor_has_left() {
    let (memcached, database) = (Memcached::start(), Postgres::shared().database().await);
    let proxy = Proxy::start(database.address()).await;
    let url = database.url_through(proxy.address);
    let app = Settings::new().with("DATABASE_URL", &url).with_memcached(&memcached).serve();
    app.get("/").await.assert_lists([]);

    proxy.hold("Written by one who left");
    let mut visitor = TcpStream::connect(app.address()).await.unwrap();
    let form = "name=Written+by+one+who+left";
    let head = "POST /add HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{form}", form.len());
    visitor.write_all(request.as_bytes()).await.unwrap();
    proxy.wait_for_held().await;
    visitor.shutdown().await.unwrap();
    assert_eq!(
        visitor.read(&mut [0; 1]).await.unwrap(),
        0,
        "the server has seen that nobody waits, and hung up"
    );
    proxy.release();
    wait_until("the change is done", || app.output().contains("task added"));
    wait_until("the old list is deleted", || memcached.stat("delete_hits") == 1);
    app.get("/").await.assert_lists(["Written by one who left"]);
}

// The proxy runs while the app is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_not_hidden_by_the_old_list() {
    let (memcached, database) = (Memcached::start(), Postgres::shared().database().await);
    let proxy = Proxy::start(database.address()).await;
    let url = database.url_through(proxy.address);
    let app = Settings::new().with("DATABASE_URL", &url).with_memcached(&memcached).serve();
    app.add("Before").await.assert_lists(["Before"]);

    proxy.lose_answer_to("Of unknown fate");
    app.post("/add", &[("name", "Of unknown fate")]).await.assert_error(503, "Back in a moment");
    app.get("/").await.assert_lists(["Before", "Of unknown fate"]);
}

/// Runs a test of the contract in [`Backend`] on every backend, with a real server where there is one.
async fn on_every_backend(test: impl AsyncFn(&dyn Backend)) {
    test(&Locmem::new()).await;
    let memcached = Memcached::start_with_sasl();
    test(&memcache_crate(&memcached.address(), true)).await;
    let memcached = Memcached::start_with_sasl();
    test(&native(&memcached.address(), true)).await;
}

/// Options as the program makes them of `CACHE_URL`.
fn options(address: &str, login: bool) -> Options {
    let login = if login { "tester:sesame@" } else { "" };
    let url = format!("memcached://{login}{address}");
    let config = Config::from_variables(&Variables::from([("CACHE_URL", url.as_str())])).unwrap();
    let BackendConfig::Memcached(options) = config.cache.backend else { panic!("{url}") };
    options
}

fn memcache_crate(address: &str, login: bool) -> MemcacheCrate {
    MemcacheCrate::new(&options(address, login)).unwrap()
}

fn native(address: &str, login: bool) -> memcached::Memcached {
    memcached::Memcached::new(options(address, login))
}

/// Runs a test on both memcached backends without a login.
async fn on_both_clients(memcached: &mut Memcached, test: impl AsyncFn(&dyn Backend, &mut Memcached)) {
    test(&memcache_crate(&memcached.address(), false), memcached).await;
    test(&native(&memcached.address(), false), memcached).await;
}

const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));

#[tokio::test]
async fn a_backend_returns_what_was_stored_last_and_nothing_after_a_delete() {
    on_every_backend(async |backend| {
        assert_eq!(backend.get("k").await.unwrap(), None);
        for value in [&b"one"[..], b"", b"\0\r\n\xff"] {
            backend.set("k", Bytes::copy_from_slice(value), Ttl::Never).await.unwrap();
            assert_eq!(backend.get("k").await.unwrap().as_deref(), Some(value));
        }
        assert!(backend.delete("k").await.unwrap());
        assert!(!backend.delete("k").await.unwrap());
        assert_eq!(backend.get("k").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_value_is_gone_when_its_lifetime_is_over() {
    on_every_backend(async |backend| {
        let value = || Bytes::from_static(b"v");
        backend.set("gone", value(), Ttl::Never).await.unwrap();
        backend.set("gone", value(), Ttl::After(Duration::ZERO)).await.unwrap();
        assert_eq!(backend.get("gone").await.unwrap(), None);
        backend.set("short", value(), Ttl::After(Duration::from_millis(100))).await.unwrap();
        backend.set("long", value(), Ttl::After(Duration::from_secs(31 * 86_400))).await.unwrap();
        backend.set("renewed", value(), Ttl::After(Duration::from_millis(100))).await.unwrap();
        backend.set("renewed", value(), MINUTE).await.unwrap();
        while backend.get("short").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for key in ["long", "renewed"] {
            assert!(backend.get(key).await.unwrap().is_some(), "{key}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_that_is_too_large_leaves_no_older_one_behind() {
    on_both_clients(&mut Memcached::start(), async |backend, _| {
        backend.set("k", Bytes::from_static(b"old"), MINUTE).await.unwrap();
        let largest = Bytes::from(vec![b'x'; 1_000_000]);
        backend.set("k", largest.clone(), MINUTE).await.unwrap();
        assert_eq!(backend.get("k").await.unwrap(), Some(largest));
        let error = backend.set("k", vec![b'x'; 1_000_001].into(), MINUTE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge(1_000_001));
        assert_eq!(backend.get("k").await.unwrap(), None, "and the server is asked as before");
    })
    .await;
}

#[tokio::test]
async fn a_value_that_the_server_refuses_leaves_no_older_one_behind() {
    on_both_clients(&mut Memcached::start_with(&["-I", "512k"]), async |backend, _| {
        backend.set("k", Bytes::from_static(b"old"), MINUTE).await.unwrap();
        let error = backend.set("k", vec![b'x'; 700_000].into(), MINUTE).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Refused(_)), "{error}");
        assert_eq!(backend.get("k").await.unwrap(), None, "and the server is asked as before");
    })
    .await;
}

#[tokio::test]
async fn a_late_answer_is_never_given_to_another_key() {
    on_both_clients(&mut Memcached::start(), async |backend, memcached| {
        for key in ["mine", "yours"] {
            backend.set(key, Bytes::from(key), MINUTE).await.unwrap();
        }
        for _ in 0..2 {
            memcached.stop();
            let error = backend.get("mine").await.unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Timeout(_)), "{error}");
            // The crate's own wait must be over as well, else the answer is not late.
            tokio::time::sleep(Duration::from_millis(250)).await;
            memcached.go_on();
            let answer = wait_for_answer(backend, "yours").await;
            assert_eq!(answer.as_deref(), Some(&b"yours"[..]));
        }
    })
    .await;
}

#[tokio::test]
async fn what_could_not_be_written_is_not_read_after_the_outage() {
    on_both_clients(&mut Memcached::start(), async |backend, memcached| {
        for key in ["set", "deleted", "untouched"] {
            backend.set(key, Bytes::from_static(b"old"), MINUTE).await.unwrap();
        }
        memcached.stop();
        backend.get("untouched").await.unwrap_err();
        backend.set("set", Bytes::from_static(b"new"), MINUTE).await.unwrap_err();
        backend.delete("deleted").await.unwrap_err();
        memcached.go_on();
        assert_eq!(wait_for_answer(backend, "untouched").await.as_deref(), Some(&b"old"[..]));
        for key in ["set", "deleted"] {
            assert_eq!(backend.get(key).await.unwrap(), None, "{key}");
        }
    })
    .await;
}

/// Asks until the backend answers again.
async fn wait_for_answer(backend: &dyn Backend, key: &str) -> Option<Bytes> {
    let started = Instant::now();
    loop {
        match backend.get(key).await {
            Ok(answer) => return answer,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_no_outage() {
    on_both_clients(&mut Memcached::start(), async |backend, memcached| {
        backend.set("k", Bytes::from_static(b"v"), MINUTE).await.unwrap();
        memcached.restart();
        // The runtime stood still meanwhile, and must see that the connection has ended.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(backend.get("k").await.unwrap(), None, "a new connection is made at once");
    })
    .await;
}

#[tokio::test]
async fn a_server_without_sasl_is_used_without_it() {
    let memcached = Memcached::start();
    let backends: [Box<dyn Backend>; 2] =
        [Box::new(memcache_crate(&memcached.address(), true)), Box::new(native(&memcached.address(), true))];
    for backend in backends {
        backend.set("k", Bytes::from_static(b"v"), MINUTE).await.unwrap();
        assert!(backend.get("k").await.unwrap().is_some());
        assert!(backend.check().await.remove(0).outcome.unwrap().ends_with("no login"));
    }
}

#[tokio::test]
async fn what_one_client_writes_the_other_reads_on_every_server() {
    let servers: Vec<_> = (0..3).map(|_| Memcached::start_with_sasl()).collect();
    let address = servers.iter().map(Memcached::address).collect::<Vec<_>>().join(",");
    let clients: [Box<dyn Backend>; 2] =
        [Box::new(memcache_crate(&address, true)), Box::new(native(&address, true))];
    for (one, other) in [(0, 1), (1, 0)] {
        for number in 0..50 {
            let (key, value) = (format!("{one}:{number}"), Bytes::from(format!("value {number}")));
            clients[one].set(&key, value.clone(), MINUTE).await.unwrap();
            assert_eq!(clients[other].get(&key).await.unwrap(), Some(value));
        }
    }
    for server in &servers {
        assert!(server.stat("curr_items") > 0, "each has its share");
    }
}
