//! The cached list: several processes, one memcached, and all that can happen to it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;
use testkit::{eventually, wait_until};

/// Where the list is kept, as in the tutorial.
const KEY: &str = "tasks.all";

#[tokio::test]
async fn a_change_through_one_process_is_on_the_next_page_of_the_other() {
    for strategy in ["versioned", "delete", "rotate", "update"] {
        let (memcached, database) = (Memcached::start_with_sasl(), Postgres::shared().database().await);
        let settings = Settings::new().with("DATABASE_URL", &database.url).with("CACHE_STRATEGY", strategy);
        let settings = settings.with_login(&memcached);
        let [one, other] = [settings.serve(), settings.serve()];
        for app in [&one, &other, &one, &other] {
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
    // How often a first load sets and misses, and what a reload asks for. Set and missed are the list and the page; set
    // as well the lock of whoever builds each, and missed each once more, when nobody else can be building it. But for
    // the list of a version whose page is missing: that is looked for only then.
    for (strategy, [first_sets, first_misses], gets, lives) in [
        ("versioned", [4, 3], 1, 3600),
        // The page, and the generation that it bears.
        ("delete", [5, 5], 2, 300),
    ] {
        let memcached = Memcached::start_with_sasl();
        let settings = Settings::new().with_login(&memcached).with("CACHE_STRATEGY", strategy);
        let settings = settings.with("SLOW_QUERY", "1s").with("CACHE_LOCAL", "off");
        let app = settings.serve();
        let counted = || ["cmd_set", "get_misses", "get_hits"].map(|name| memcached.stat(name));
        let [sets, misses, _] = counted();
        let page = app.get_from("localhost", "/").await;
        page.assert_lists([]);
        assert_eq!(page.header("cache-status"), Some("tasklist; fwd=uri-miss; stored"));
        // In the background what was built is stored, and a lock looked at before it is let go, which is a hit.
        wait_until("both locks are let go", || memcached.stat("delete_hits") == 2);
        let [sets, misses, hits] = [sets + first_sets, misses + first_misses, counted()[2]];
        assert_eq!(counted(), [sets, misses, hits], "{strategy}");
        for reload in 1..=5 {
            let again = app.get_from("localhost", "/").await;
            again.assert_lists([]);
            let status = again.header("cache-status").unwrap();
            let left: Option<u64> =
                status.strip_prefix("tasklist; hit; ttl=").and_then(|ttl| ttl.parse().ok());
            assert!(left.is_some_and(|left| left < lives), "reload {reload}: {status}");
            assert_eq!(counted(), [sets, misses, hits + gets * reload], "{strategy}");
        }
        let other = settings.serve();
        let found = other.get_from("localhost", "/").await;
        assert_eq!(counted()[..2], [sets, misses], "another process finds what the first has filled");
        assert_eq!(found.body, page.body);
    }
}

#[tokio::test]
async fn a_copy_of_the_page_asks_memcached_at_most_for_its_generation() {
    for (strategy, gets) in [("versioned", 0), ("expire", 1), ("delete", 1), ("rotate", 1), ("update", 1)] {
        let memcached = Memcached::start();
        let app = Settings::new().with_memcached(&memcached).with("CACHE_STRATEGY", strategy).serve();
        app.add("Here").await.assert_lists(["Here"]);
        // Which waits until nobody looks at a lock.
        memcached.keys();
        let before = memcached.stat("cmd_get");
        let page = app.get("/").await;
        page.assert_lists(["Here"]);
        let status = page.header("cache-status").unwrap();
        assert!(status.starts_with("tasklist; hit; ttl="), "{strategy}: {status}");
        assert!(status.ends_with("; detail=\"local\""), "{strategy}: {status}");
        assert_eq!(memcached.stat("cmd_get"), before + gets, "{strategy}");
    }
}

#[tokio::test]
async fn a_list_that_is_left_to_expire_shows_a_change_when_it_has() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).with("CACHE_STRATEGY", "expire").serve();
    app.get("/").await.assert_lists([]);
    app.add("New").await;
    while app.get("/").await.tasks().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_list_under_a_rotated_key_is_not_read_again() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).with("CACHE_STRATEGY", "rotate").serve();
    app.get("/").await.assert_lists([]);
    let lists = || memcached.keys().into_iter().filter(|key| key.starts_with("tasks.all~@"));
    let old = lists().next().expect("the list is cached");
    app.add("New").await.assert_lists(["New"]);
    assert_eq!(lists().count(), 2, "the old one is left to be evicted");
    // What a late reader stores harms nobody.
    let late: Vec<u8> = memcached.client().get(&old).unwrap().unwrap();
    memcached.client().set(&old, &late[..], 0).unwrap();
    memcached.evict("view.");
    app.get("/").await.assert_lists(["New"]);
    memcached.client().delete("tasks.all~token").unwrap();
    memcached.evict("view.");
    app.get("/").await.assert_lists(["New"]);
    assert_eq!(lists().count(), 3, "a token that was evicted is not used again");
}

#[tokio::test]
async fn update_stores_the_new_list_and_delete_leaves_none() {
    for (strategy, left) in [("update", true), ("delete", false)] {
        let memcached = Memcached::start();
        let app = Settings::new().with_memcached(&memcached).with("CACHE_STRATEGY", strategy).serve();
        app.get("/").await;
        assert_eq!(app.post("/add", &[("name", "New")]).await.status, 303);
        assert_eq!(is_cached(&memcached), left, "{strategy}");
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
    for prefix in ["shop", "blog"] {
        assert!(memcached.keys().iter().any(|key| key.starts_with(&format!("{prefix}:tasks.all"))));
    }
}

#[tokio::test]
async fn what_is_not_ours_or_damaged_is_a_miss() {
    let memcached = Memcached::start();
    let settings = Settings::new().with_memcached(&memcached).with("CACHE_LOCAL", "off");
    let app = settings.with("CACHE_STRATEGY", "delete").serve();
    app.add("Right").await;
    let mut damaged: Vec<u8> = memcached.client().get(KEY).unwrap().unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    for foreign in [b"set by hand".as_slice(), b"", b"[]", &damaged] {
        memcached.client().set(KEY, foreign, 0).unwrap();
        assert_eq!(memcached.evict("view.page"), 1);
        app.get("/").await.assert_lists(["Right"]);
    }
}

#[tokio::test]
async fn every_page_is_served_while_memcached_is_stopped_killed_and_restarted() {
    // A page and its generation, or a page of a version.
    for (strategy, gets) in [("delete", 2), ("versioned", 1)] {
        serves_every_page_while_memcached_is_stopped_killed_and_restarted(strategy, gets).await;
    }
}

async fn serves_every_page_while_memcached_is_stopped_killed_and_restarted(strategy: &str, gets: u64) {
    let (mut memcached, database) = (Memcached::start_with_sasl(), Postgres::shared().database().await);
    let settings = Settings::new().with("DATABASE_URL", &database.url).with_login(&memcached);
    let settings = settings.with("CACHE_STRATEGY", strategy).with("CACHE_LOCAL", "off");
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
    // Whoever built a page looks at their lock before they let go of it, in the background, and that is a hit as well.
    eventually("it is used again", async || {
        let hits = memcached.stat("get_hits");
        one.get("/").await.assert_lists(["Before", "While stopped", "While gone"]);
        memcached.stat("get_hits") == hits + gets
    })
    .await;
}

fn is_cached(memcached: &Memcached) -> bool {
    memcached.client().get::<Vec<u8>>(KEY).unwrap().is_some()
}

/// Whether a server's log ends with memcached left out.
fn left_out(app: &App) -> bool {
    let log = app.output();
    log.rfind("memcached is left out") > log.rfind("memcached answers again")
}

#[tokio::test]
async fn an_outage_is_noticed_once_and_not_by_every_request() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).with("CACHE_LOCAL", "off").serve();
    app.add("Here").await;
    memcached.stop();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..50 {
        requests.spawn(app.request("GET", "/").send());
    }
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status(), 200);
    }
    wait_until("it is in the log", || app.output().contains("memcached is left out"));
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
    let settings = Settings::new().with("DATABASE_URL", &url).with_memcached(&memcached);
    let app = settings.with("CACHE_STRATEGY", "delete").serve();
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
    wait_until("the old list is deleted", || !is_cached(&memcached));
    app.get("/").await.assert_lists(["Written by one who left"]);
}

// The proxy runs while the app is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_not_hidden_by_the_old_list() {
    for strategy in ["versioned", "delete", "rotate", "update"] {
        let (memcached, database) = (Memcached::start(), Postgres::shared().database().await);
        let proxy = Proxy::start(database.address()).await;
        let url = database.url_through(proxy.address);
        let settings = Settings::new().with("DATABASE_URL", &url).with_memcached(&memcached);
        let app = settings.with("CACHE_STRATEGY", strategy).serve();
        app.add("Before").await.assert_lists(["Before"]);

        proxy.lose_answer_to("Of unknown fate");
        app.post("/add", &[("name", "Of unknown fate")]).await.assert_error(503);
        app.get("/").await.assert_lists(["Before", "Of unknown fate"]);
    }
}
