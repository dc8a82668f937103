//! The tutorial shows each way to break what writers tell the cache with one strategy. They break the others too.

use crate::support::app::{App, Settings};
use testkit::free_port;
use testkit::memcached::Memcached;

/// Two processes that share a database: the second cannot reach the memcached of the first.
fn serve(strategy: &str, memcached: &Memcached) -> (Settings, App, App) {
    let settings = Settings::new().with("CACHE_STRATEGY", strategy);
    let near = settings.clone().with_memcached(memcached).serve();
    let far = settings.clone().with("MEMCACHIER_SERVERS", &format!("127.0.0.1:{}", free_port())).serve();
    (settings, near, far)
}

async fn write_by_hand(settings: &Settings, name: &str) {
    let file = settings.directory().join("db.sqlite3");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query("insert into tasks (name) values ($1)").bind(name).execute(&pool).await.unwrap();
    pool.close().await;
}

/// Returns whether the first process shows what was written by hand, and then what the second has acknowledged.
async fn is_shown(strategy: &str) -> (bool, bool) {
    let memcached = Memcached::start();
    let (settings, near, far) = serve(strategy, &memcached);
    let shows = async |name: &str| near.get("/").await.body.contains(name);
    near.add("Told").await.assert_lists(["Told"]);
    write_by_hand(&settings, "By hand").await;
    let by_hand = shows("By hand").await;
    near.add("Told again").await.assert_lists(["Told", "By hand", "Told again"]);
    far.add("From far").await.assert_lists(["Told", "By hand", "Told again", "From far"]);
    (by_hand, shows("From far").await)
}

#[tokio::test]
async fn where_writers_tell_the_cache_a_writer_who_cannot_leaves_an_old_list() {
    for strategy in ["delete", "rotate", "update"] {
        assert_eq!(is_shown(strategy).await, (false, false), "{strategy}");
    }
    assert_eq!(is_shown("versioned").await, (true, true));
}
