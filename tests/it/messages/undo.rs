//! A change is told once, to whoever made it, and a removal is taken back.

use futures_util::future::join_all;

use super::{ENGINES, STRATEGIES, settings, site};
use crate::support::app::{App, Settings};
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::postgres::Postgres;

/// Adds tasks as somebody else.
async fn fill<const N: usize>(app: &App, names: [&str; N]) {
    for name in names {
        Visitor::new().add(app, name).await;
    }
}

async fn a_removal_is_undone(settings: &Settings, strategy: &str) {
    let app = settings.clone().with("CACHE_STRATEGY", strategy).serve();
    let visitor = Visitor::new();
    // What is stale for a while, as it may be with `expire`, is asked for again.
    let shows = async |page: &[(String, String)]| {
        eventually("the list is right", async || Visitor::new().get(&app, "/").await.listed() == page).await;
        eventually("it is for the visitor", async || visitor.get(&app, "/").await.listed() == page).await;
    };
    for name in ["First", "Second", "Third"] {
        visitor.add(&app, name).await.assert_tells([words::added(name)]);
    }
    eventually("all are listed", async || visitor.get(&app, "/").await.tasks().len() == 3).await;
    let before = visitor.get(&app, "/").await;
    let removed = visitor.remove(&app, &before, "Second").await;
    removed.assert_tells([words::removed("Second")]);
    assert_eq!(removed.can_be_undone(), [words::removed("Second")]);
    let without: Vec<_> = before.listed().into_iter().filter(|(_, name)| name != "Second").collect();
    shows(&without).await;
    let undone = visitor.undo(&app).await;
    undone.assert_tells([words::put_back("Second")]);
    assert!(undone.can_be_undone().is_empty());
    shows(&before.listed()).await;
}

#[tokio::test]
async fn a_removed_task_is_put_back_in_its_place_on_sqlite() {
    for strategy in STRATEGIES {
        a_removal_is_undone(&settings(), strategy).await;
    }
}

#[tokio::test]
async fn a_removed_task_is_put_back_in_its_place_on_postgres() {
    let memcached = Memcached::start();
    for strategy in STRATEGIES {
        let database = Postgres::shared().database().await;
        memcached.client().flush().unwrap();
        a_removal_is_undone(&site(&database, &memcached), strategy).await;
    }
}

#[tokio::test]
async fn a_removal_is_undone_once() {
    let (app, visitor) = (App::start(), Visitor::new());
    fill(&app, ["One", "Two"]).await;
    let before = visitor.get(&app, "/").await;
    visitor.remove(&app, &before, "One").await;
    assert_eq!(visitor.undo(&app).await.listed(), before.listed());
    let again = visitor.undo(&app).await;
    again.assert_tells([]);
    assert_eq!(again.listed(), before.listed());
    visitor.remove(&app, &before, "One").await.assert_lists(["Two"]);
    assert_eq!(visitor.undo(&app).await.listed(), before.listed());
}

#[tokio::test]
async fn a_removal_that_is_undone_many_times_at_once_is_undone_once() {
    let (app, visitor) = (App::start(), Visitor::new());
    fill(&app, ["One", "Two"]).await;
    let before = visitor.get(&app, "/").await;
    visitor.remove(&app, &before, "One").await;
    let requests = (0..8).map(|_| visitor.request(&app, "POST", "/undo").send());
    for answer in join_all(requests).await {
        assert_eq!(answer.unwrap().status(), 303);
    }
    assert_eq!(Visitor::new().get(&app, "/").await.listed(), before.listed());
}

#[tokio::test]
async fn where_nothing_was_removed_nothing_is_undone() {
    let app = App::start();
    fill(&app, ["One"]).await;
    let before = Visitor::new().get(&app, "/").await;
    let adder = Visitor::new();
    adder.add(&app, "Two").await;
    let with_cookie_of_nobody = Visitor::with_cookie("x.y.z");
    for visitor in [Visitor::new(), adder, with_cookie_of_nobody] {
        let answer = visitor.post(&app, "/undo", &[]).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
        assert_eq!(answer.header("set-cookie"), None);
        let page = visitor.follow(&app, &answer).await;
        page.assert_tells([]);
        page.assert_lists(["One", "Two"]);
        assert_eq!(page.listed()[0], before.listed()[0]);
    }
}

#[tokio::test]
async fn removing_what_is_gone_already_is_not_told_and_not_undone() {
    let (app, visitor) = (App::start(), Visitor::new());
    fill(&app, ["One", "Two"]).await;
    let page = visitor.get(&app, "/").await;
    visitor.remove(&app, &page, "One").await;
    Visitor::new().remove(&app, &page, "Two").await;
    visitor.remove(&app, &page, "Two").await.assert_tells([]);
    visitor.undo(&app).await.assert_lists(["One"]);
}

#[tokio::test]
async fn what_others_did_meanwhile_stays() {
    let (app, visitor, other) = (App::start(), Visitor::new(), Visitor::new());
    fill(&app, ["First", "Second", "Third"]).await;
    let before = visitor.get(&app, "/").await;
    visitor.remove(&app, &before, "Second").await;
    other.remove(&app, &before, "First").await;
    other.add(&app, "Fourth").await;
    let undone = visitor.undo(&app).await;
    undone.assert_lists(["Second", "Third", "Fourth"]);
    assert_eq!(undone.listed()[0], before.listed()[1]);
}

#[tokio::test]
async fn only_the_last_removal_is_undone() {
    let (app, visitor) = (App::start(), Visitor::new());
    fill(&app, ["One", "Two", "Three"]).await;
    let page = visitor.get(&app, "/").await;
    for name in ["One", "Two"] {
        visitor.post(&app, "/remove", &[("id", &page.id_of(name))]).await;
    }
    let removed = visitor.get(&app, "/").await;
    removed.assert_tells([words::removed("One"), words::removed("Two")]);
    assert_eq!(removed.can_be_undone(), [words::removed("Two")]);
    visitor.undo(&app).await.assert_lists(["Two", "Three"]);
    visitor.undo(&app).await.assert_lists(["Two", "Three"]);
}

#[tokio::test]
async fn a_task_that_was_put_back_before_its_removal_is_told_offers_nothing() {
    let (app, visitor) = (App::start(), Visitor::new());
    fill(&app, ["One"]).await;
    let page = visitor.get(&app, "/").await;
    visitor.post(&app, "/remove", &[("id", &page.id_of("One"))]).await;
    let undone = visitor.undo(&app).await;
    undone.assert_tells([words::removed("One"), words::put_back("One")]);
    assert!(undone.can_be_undone().is_empty(), "{}", undone.body);
}

#[tokio::test]
async fn a_change_leads_to_the_page_where_it_is_undone_and_told() {
    let database = Postgres::shared().database().await;
    let settings = settings().with("DATABASE_URL", &database.url);
    assert!(settings.run(&["migrate"]).status.success());
    database.execute("insert into tasks (name) select 'task ' || n from generate_series(1, 150) n").await;
    let (app, visitor) = (settings.serve(), Visitor::new());
    let second = visitor.get(&app, "/?page=2").await;
    visitor.remove(&app, &second, "task 120").await.assert_tells([words::removed("task 120")]);
    let answer = visitor.post(&app, "/undo", &[]).await;
    assert_eq!(answer.header("location"), Some("/?page=2"));
    let undone = visitor.follow(&app, &answer).await;
    undone.assert_tells([words::put_back("task 120")]);
    assert_eq!(undone.listed(), second.listed());
}

#[tokio::test]
async fn after_a_restart_a_removal_is_told_and_undone() {
    for engine in ["cached_db", "db"] {
        let (settings, visitor) = (settings().with("SESSION_ENGINE", engine), Visitor::new());
        let app = settings.serve();
        fill(&app, ["One", "Two"]).await;
        let before = visitor.get(&app, "/").await;
        visitor.post(&app, "/remove", &[("id", &before.id_of("One"))]).await;
        app.interrupt();
        let app = settings.serve();
        visitor.get(&app, "/").await.assert_tells([words::removed("One")]);
        assert_eq!(visitor.undo(&app).await.listed(), before.listed(), "{engine}");
    }
}

#[tokio::test]
async fn an_emptied_cache_loses_no_session_that_is_in_the_database() {
    let memcached = Memcached::start();
    for engine in ENGINES {
        let app = settings().with_memcached(&memcached).with("SESSION_ENGINE", engine).serve();
        let visitor = Visitor::new();
        fill(&app, ["One", "Two"]).await;
        let before = visitor.get(&app, "/").await;
        visitor.remove(&app, &before, "One").await.assert_tells([words::removed("One")]);
        visitor.get(&app, "/").await.assert_tells([]);
        let id = visitor.id().unwrap();
        memcached.client().flush().unwrap();
        let after = visitor.undo(&app).await;
        if engine != "cache" {
            after.assert_tells([words::put_back("One")]);
            assert_eq!(after.listed(), before.listed());
            continue;
        }
        after.assert_tells([]);
        after.assert_lists(["Two"]);
        assert_eq!(visitor.cookie(), None, "it is taken");
        visitor.add(&app, "Three").await.assert_tells([words::added("Three")]);
        assert_ne!(visitor.id(), Some(id));
    }
}

#[tokio::test]
async fn a_task_that_is_put_back_is_in_nobodys_way_where_ids_are_counted_anew() {
    let database = Postgres::shared().database().await;
    let app = settings().with("DATABASE_URL", &database.url).serve();
    let visitor = Visitor::new();
    fill(&app, ["one", "two"]).await;
    let page = visitor.add(&app, "three").await;
    visitor.remove(&app, &page, "three").await;
    database.execute("truncate tasks restart identity").await;
    visitor.undo(&app).await.assert_tells([words::put_back("three")]);
    fill(&app, ["four", "five", "six"]).await;
    app.get("/").await.assert_lists(["three", "four", "five", "six"]);
}
