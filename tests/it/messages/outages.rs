//! Messages and undo while the cache or the database is away.

use super::{settings, site};
use crate::support::app::App;
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::memcached::Memcached;
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;
use testkit::{eventually, within_reason};

/// A cache that can be taken away.
struct Line {
    memcached: Memcached,
    proxy: Proxy,
}

impl Line {
    /// Nobody is told of it, and new connections do not get through either.
    fn cut(&self) {
        self.proxy.lose();
        self.proxy.hold("");
    }
}

type Turn = fn(&mut Line);

const OUTAGES: [(&str, Turn, Turn); 3] = [
    ("hung", |line| line.memcached.stop(), |line| line.memcached.go_on()),
    ("killed", |line| line.memcached.kill(), |line| line.memcached.restart()),
    ("cut", |line| line.cut(), |line| line.proxy.release()),
];

/// Does all that a visitor can do, and asserts that all of it works and is told.
async fn use_all(app: &App, visitor: &Visitor) {
    let page = visitor.add(app, "New").await;
    page.assert_tells([words::added("New")]);
    let removed = visitor.remove(app, &page, "Kept").await;
    removed.assert_tells([words::removed("Kept")]);
    removed.assert_lists(["New"]);
    visitor.get(app, "/").await.assert_tells([]);
    let undone = visitor.undo(app).await;
    undone.assert_tells([words::put_back("Kept")]);
    undone.assert_lists(["Kept", "New"]);
    visitor.remove(app, &undone, "New").await.assert_lists(["Kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_cache_a_site_forgets_nothing() {
    for (outage, begin, end) in OUTAGES {
        let memcached = Memcached::start();
        let proxy = Proxy::start(memcached.address()).await;
        let mut line = Line { memcached, proxy };
        let app = settings().with("MEMCACHIER_SERVERS", &line.proxy.address.to_string()).serve();
        let [before, meanwhile] = [Visitor::new(), Visitor::new()];
        before.post(&app, "/add", &[("name", "Kept")]).await;
        begin(&mut line);
        before.get(&app, "/").await.assert_tells([words::added("Kept")]);
        use_all(&app, &before).await;
        meanwhile.post(&app, "/add", &[("name", "Last")]).await;
        end(&mut line);
        eventually("the cache is used again", async || {
            let status = Visitor::new().get(&app, "/").await;
            let status = status.header("cache-status").unwrap();
            status.contains("hit") || status.contains("stored")
        })
        .await;
        before.get(&app, "/").await.assert_tells([]);
        meanwhile.get(&app, "/").await.assert_tells([words::added("Last")]);
        let undone = before.undo(&app).await;
        undone.assert_tells([words::put_back("New")]);
        assert_eq!(undone.tasks(), ["Kept", "New", "Last"], "{outage}");
    }
}

#[tokio::test]
async fn sessions_in_a_cache_that_hangs_are_there_when_it_goes_on() {
    let memcached = Memcached::start();
    let app = settings().with_memcached(&memcached).with("SESSION_ENGINE", "cache").serve();
    let visitor = Visitor::new();
    let page = visitor.add(&app, "One").await;
    visitor.remove(&app, &page, "One").await.assert_tells([words::removed("One")]);
    let cookie = visitor.cookie();
    memcached.stop();
    let page = visitor.add(&app, "Two").await;
    page.assert_tells([]);
    visitor.remove(&app, &page, "Two").await.assert_lists([]);
    visitor.undo(&app).await.assert_lists([]);
    Visitor::new().add(&app, "Three").await.assert_lists(["Three"]);
    assert_eq!(visitor.cookie(), cookie, "it is not taken");
    memcached.go_on();
    eventually("what was removed before is put back", async || {
        visitor.undo(&app).await.messages() == [words::put_back("One")]
    })
    .await;
    visitor.get(&app, "/").await.assert_lists(["One", "Three"]);
}

/// Lets the database hang while a visitor asks for the page, a stranger does, and a removal is taken back.
async fn a_visitor_is_told_of_a_database_that_hangs(engine: &str, strategy: &str) {
    let (memcached, postgres) = (Memcached::start(), Postgres::start());
    let database = postgres.database().await;
    let settings = site(&database, &memcached).with("CACHE_STRATEGY", strategy);
    let app = settings.with("SESSION_ENGINE", engine).serve();
    let visitor = Visitor::new();
    visitor.add(&app, "One").await;
    visitor.post(&app, "/add", &[("name", "Two")]).await;
    postgres.hang();
    let ask = async |visitor: &Visitor| {
        // The database still hangs when the answer is there.
        let page = within_reason("the visitor is told", visitor.get(&app, "/")).await;
        page.assert_error(503);
        assert_eq!(page.header("set-cookie"), None);
    };
    let stranger = Visitor::new();
    tokio::join!(ask(&visitor), ask(&stranger));
    visitor.post(&app, "/undo", &[]).await.assert_error(503);
    postgres.go_on();
    eventually("the database is used again", async || Visitor::new().get(&app, "/").await.status == 200)
        .await;
    visitor.get(&app, "/").await.assert_tells([words::added("Two")]);
}

#[tokio::test]
async fn a_visitor_whose_session_is_cached_is_told_of_a_database_that_hangs() {
    a_visitor_is_told_of_a_database_that_hangs("cached_db", "versioned").await;
}

#[tokio::test]
async fn a_visitor_whose_session_is_not_cached_is_told_of_a_database_that_hangs() {
    a_visitor_is_told_of_a_database_that_hangs("db", "versioned").await;
}

#[tokio::test]
async fn a_visitor_is_told_of_a_database_that_hangs_while_the_list_is_cached() {
    a_visitor_is_told_of_a_database_that_hangs("db", "delete").await;
}
