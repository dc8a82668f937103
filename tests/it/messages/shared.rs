//! Who is told what: several browsers, several processes, and all that a name may contain.

use super::{ENGINES, settings, site};
use crate::support::app::App;
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::memcached::Memcached;
use testkit::postgres::Postgres;

#[tokio::test]
async fn a_message_is_shown_once() {
    for engine in ENGINES {
        let (app, visitor) = (settings().with("SESSION_ENGINE", engine).serve(), Visitor::new());
        visitor.add(&app, "One").await.assert_tells([words::added("One")]);
        for _ in 0..3 {
            let page = visitor.get(&app, "/").await;
            page.assert_tells([]);
            page.assert_lists(["One"]);
        }
    }
}

#[tokio::test]
async fn who_has_a_session_and_no_message_builds_the_page_for_everybody() {
    for engine in ENGINES {
        let (app, visitor) = (settings().with("SESSION_ENGINE", engine).serve(), Visitor::new());
        visitor.add(&app, "One").await.assert_tells([words::added("One")]);
        app.post("/add", &[("name", "Two")]).await;
        let page = visitor.get(&app, "/").await;
        page.assert_lists(["One", "Two"]);
        assert_eq!(page.header("cache-status"), Some("tasklist; fwd=uri-miss; stored"), "{engine}");
        let shared = app.get_from("localhost", "/").await;
        assert!(shared.header("cache-status").unwrap().starts_with("tasklist; hit"), "{engine}");
    }
}

#[tokio::test]
async fn of_many_requests_at_once_one_shows_the_message() {
    // In the cache alone nobody can say who was first.
    for engine in ["cached_db", "db"] {
        let (app, visitor) = (settings().with("SESSION_ENGINE", engine).serve(), Visitor::new());
        visitor.post(&app, "/add", &[("name", "One")]).await;
        let requests = (0..8).map(|_| visitor.request(&app, "GET", "/").send());
        let mut shown = 0;
        for answer in futures_util::future::join_all(requests).await {
            let answer = answer.unwrap();
            assert_eq!(answer.status(), 200);
            shown += answer.text().await.unwrap().matches(&words::added("One")).count();
        }
        assert_eq!(shown, 1, "{engine}");
    }
}

#[tokio::test]
async fn nobody_is_told_of_anothers_changes_or_undoes_them() {
    for engine in ENGINES {
        let app = settings().with("SESSION_ENGINE", engine).serve();
        let [one, two] = [Visitor::new(), Visitor::new()];
        one.post(&app, "/add", &[("name", "Of one")]).await;
        two.post(&app, "/add", &[("name", "Of two")]).await;
        Visitor::new().get(&app, "/").await.assert_tells([]);
        two.get(&app, "/").await.assert_tells([words::added("Of two")]);
        let page = one.get(&app, "/").await;
        page.assert_tells([words::added("Of one")]);

        one.remove(&app, &page, "Of one").await.assert_lists(["Of two"]);
        two.undo(&app).await.assert_lists(["Of two"]);
        two.remove(&app, &page, "Of two").await.assert_lists([]);
        one.undo(&app).await.assert_lists(["Of one"]);
        two.undo(&app).await.assert_lists(["Of one", "Of two"]);
    }
}

#[tokio::test]
async fn another_process_tells_and_undoes_what_was_done_at_one() {
    let memcached = Memcached::start();
    for engine in ENGINES {
        let database = Postgres::shared().database().await;
        let settings = site(&database, &memcached).with("SESSION_ENGINE", engine);
        let [one, other] = [settings.serve(), settings.serve()];
        let visitor = Visitor::new();
        for name in ["First", "Second"] {
            Visitor::new().add(&one, name).await;
        }
        let before = visitor.get(&other, "/").await;
        let answer = visitor.post(&one, "/remove", &[("id", &before.id_of("First"))]).await;
        let removed = visitor.follow(&other, &answer).await;
        removed.assert_tells([words::removed("First")]);
        removed.assert_lists(["Second"]);
        visitor.get(&one, "/").await.assert_tells([]);
        let answer = visitor.post(&other, "/undo", &[]).await;
        let undone = visitor.follow(&one, &answer).await;
        undone.assert_tells([words::put_back("First")]);
        assert_eq!(undone.listed(), before.listed());
        visitor.get(&other, "/").await.assert_tells([]);
    }
}

#[tokio::test]
async fn the_latest_five_messages_wait() {
    let (app, visitor) = (App::start(), Visitor::new());
    for number in 1..=7 {
        visitor.post(&app, "/add", &[("name", &format!("task {number}"))]).await;
    }
    visitor.get(&app, "/").await.assert_tells([
        words::added("task 3"),
        words::added("task 4"),
        words::added("task 5"),
        words::added("task 6"),
        words::added("task 7"),
    ]);
}

#[tokio::test]
async fn a_name_is_told_as_it_is_and_escaped() {
    let (app, visitor) = (App::start(), Visitor::new());
    let longest = "é".repeat(500);
    for name in ["<script>alert(1)</script>", "\"><b>'&amp;", "牛乳 🥛 مهمة", &longest] {
        let added = visitor.add(&app, name).await;
        added.assert_tells([words::added(name)]);
        let removed = visitor.remove(&app, &added, name).await;
        removed.assert_tells([words::removed(name)]);
        let labels = removed.attributes(".message button", "aria-label");
        assert_eq!(labels, [format!("Undo removing {name}")]);
        visitor.undo(&app).await.assert_tells([words::put_back(name)]);
        for page in [added, removed] {
            assert!(!page.body.contains("<script>") && !page.body.contains("<b>"), "{}", page.body);
        }
    }
}
