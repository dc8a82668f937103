//! The list, adding and removing, as a browser without JavaScript sees them.

use crate::support::app::{App, Settings};
use testkit::postgres::Postgres;

/// Runs a test on both databases.
async fn on_both_databases(test: impl AsyncFn(App)) {
    test(App::start()).await;
    let database = Postgres::shared().database().await;
    test(Settings::new().with("DATABASE_URL", &database.url).serve()).await;
}

#[tokio::test]
async fn tasks_are_added_listed_in_order_and_removed() {
    on_both_databases(async |app| {
        let page = app.get("/").await;
        page.assert_lists([]);
        assert_eq!(page.texts(".empty"), ["Nothing to do. Add your first task above."]);
        app.add("Buy milk").await.assert_lists(["Buy milk"]);
        let page = app.add("Call home").await;
        page.assert_lists(["Buy milk", "Call home"]);
        app.remove(&page, "Buy milk").await.assert_lists(["Call home"]);
        app.add("Buy milk").await.assert_lists(["Call home", "Buy milk"]);
    })
    .await;
}

#[tokio::test]
async fn names_keep_any_unicode_and_are_escaped() {
    on_both_databases(async |app| {
        let names =
            ["<script>alert(1)</script>", "\"quoted\" & 'such'", "牛乳 🥛 مهمة", "a\u{301}\u{200d}\u{1F4A9}"];
        for name in names {
            app.add(name).await;
        }
        let page = app.get("/").await;
        page.assert_lists(names);
        assert!(!page.body.contains("<script>"), "{}", page.body);
        let removed = app.remove(&page, names[0]).await;
        removed.assert_lists([names[1], names[2], names[3]]);
    })
    .await;
}

#[tokio::test]
async fn a_name_is_trimmed_and_may_have_500_characters() {
    let app = App::start();
    app.add("  spaces around\t").await.assert_lists(["spaces around"]);
    let longest = "é".repeat(500);
    app.add(&longest).await.assert_lists(["spaces around", &longest]);
}

#[tokio::test]
async fn a_name_that_cannot_be_stored_comes_back_with_a_message() {
    on_both_databases(async |app| {
        app.add("Stays").await;
        let too_long = format!("<b>{}", "x".repeat(498));
        let cases = [
            ("", "Please write what is to be done."),
            (" \t ", "Please write what is to be done."),
            (&too_long, "Please use at most 500 characters; these are 501."),
            ("a\0b", "Please leave out the NUL character."),
        ];
        for (name, message) in cases {
            let page = app.post("/add", &[("name", name)]).await;
            assert_eq!((page.status, page.texts("[role=alert]")), (422, vec![message.to_owned()]));
            assert_eq!(page.tasks(), ["Stays"]);
            if !name.contains('\0') {
                assert_eq!(page.attributes("#name", "value"), [name]);
            }
        }
        app.get("/").await.assert_lists(["Stays"]);
    })
    .await;
}

#[tokio::test]
async fn a_form_without_its_field_is_no_task() {
    let app = App::start();
    assert_eq!(app.post("/add", &[]).await.status, 422);
    assert_eq!(app.post("/add", &[("other", "x")]).await.status, 422);
    app.post("/add", &[("name", "a"), ("name", "b")]).await.assert_error(422);
    let json = app.request("POST", "/add").header("content-type", "application/json").body("{}");
    testkit::page::Page::read(json).await.assert_error(415);
    app.get("/").await.assert_lists([]);
}

#[tokio::test]
async fn removing_what_is_not_there_is_no_error() {
    on_both_databases(async |app| {
        app.add("Stays").await;
        for id in ["999", "-1", "", "abc", "99999999999999999999", "1; drop table tasks"] {
            let answer = app.post("/remove", &[("id", id)]).await;
            assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{id}");
        }
        assert_eq!(app.post("/remove", &[]).await.status, 303);
        app.get("/").await.assert_lists(["Stays"]);
    })
    .await;
}

#[tokio::test]
async fn an_id_is_never_used_again() {
    on_both_databases(async |app| {
        let page = app.add("First").await;
        let first = page.id_of("First");
        app.remove(&page, "First").await;
        assert_ne!(app.add("Second").await.id_of("Second"), first);
    })
    .await;
}

#[tokio::test]
async fn a_page_has_a_hundred_tasks_and_a_change_leads_to_its_own() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    assert!(settings.run(&["migrate"]).status.success());
    database.execute("insert into tasks (name) select 'task ' || n from generate_series(1, 200) n").await;
    let app = settings.serve();

    let first = app.get("/").await;
    assert_eq!((first.tasks().len(), first.tasks()[0].as_str()), (100, "task 1"));
    assert_eq!(first.texts("nav"), ["Page 1 of 2\n      Next"]);

    let third = app.post("/add", &[("name", "task 201")]).await;
    assert_eq!(third.header("location"), Some("/?page=3"));
    let third = app.get("/?page=3").await;
    third.assert_lists(["task 201"]);
    assert_eq!(third.attributes("nav a", "href"), ["/?page=2"]);

    let removed = app.post("/remove", &[("id", &third.id_of("task 201"))]).await;
    assert_eq!(removed.header("location"), Some("/?page=2"), "its page is empty now, so the one before");
    let second = app.get("/?page=2").await;
    let removed = app.post("/remove", &[("id", &second.id_of("task 150"))]).await;
    assert_eq!(removed.header("location"), Some("/?page=2"));
    let removed = app.post("/remove", &[("id", &first.id_of("task 1"))]).await;
    assert_eq!(removed.header("location"), Some("/"));
}

#[tokio::test]
async fn a_page_number_that_makes_no_sense_shows_the_nearest_page() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    assert!(settings.run(&["migrate"]).status.success());
    database.execute("insert into tasks (name) select 'task ' || n from generate_series(1, 101) n").await;
    let app = settings.serve();
    for (path, number) in [
        ("/?page=2", 2),
        ("/?page=9", 2),
        ("/?page=18446744073709551616", 1),
        ("/?page=0", 1),
        ("/?page=-1", 1),
        ("/?page=two", 1),
        ("/?page=", 1),
        ("/?page=1&page=2", 1),
        ("/?other=%FF", 1),
    ] {
        let page = app.get(path).await;
        assert_eq!(
            (page.status, page.texts("nav span")),
            (200, vec![format!("Page {number} of 2")]),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_list_too_long_for_one_value_is_read_by_pages() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    assert!(settings.run(&["migrate"]).status.success());
    database.execute("insert into tasks (name) select 'task ' || n from generate_series(1, 501) n").await;
    let app = settings.serve();
    let last = app.get("/?page=6").await;
    last.assert_lists(["task 501"]);
    assert_eq!(last.texts(".count"), ["501"]);
    app.add("one more").await.assert_lists(["task 501", "one more"]);
    let first = app.get("/").await;
    assert_eq!(app.remove(&first, "task 1").await.tasks()[0], "task 2");
}

#[tokio::test]
async fn a_long_list_is_read_as_slowly_as_others_and_shown_all_the_same() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    // Twice this is longer than a visitor waits for one query, which finds the page as well.
    let app = settings.with("SLOW_QUERY", "5500ms").serve();
    database.execute("insert into tasks (name) select 'task ' || n from generate_series(1, 501) n").await;
    assert_eq!(app.get("/").await.texts(".count"), ["501"]);
    // That the list is too long is known by now, and this page is a query of its own.
    app.get("/?page=6").await.assert_lists(["task 501"]);
}

#[tokio::test]
async fn a_second_start_has_the_data_of_the_first() {
    let settings = Settings::new();
    let app = settings.serve();
    app.add("Kept").await;
    let (status, output) = app.interrupt();
    assert!(status.success(), "{output}");
    settings.serve().get("/").await.assert_lists(["Kept"]);
}

#[tokio::test]
async fn a_style_sheet_is_served_for_good_under_the_name_of_its_content() {
    let app = App::start();
    let page = app.get("/").await;
    let paths = page.attributes("link", "href");
    assert_eq!(paths.len(), 2, "{paths:?}");
    for path in &paths {
        let asset = app.get(path).await;
        assert_eq!(asset.status, 200, "{path}");
        assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
    }
    let stale = paths[0].replace("/static/icon.", "/static/icon.0");
    for path in [&stale, "/static/app.css", "/static/..%2fCargo.toml", "/static/"] {
        app.get(path).await.assert_error(404);
    }
}

#[tokio::test]
async fn nothing_on_a_page_comes_from_elsewhere_or_stands_inline() {
    let app = App::start();
    app.add("One").await;
    for page in [app.get("/").await, app.get("/nowhere").await, app.post("/add", &[("name", "")]).await] {
        for forbidden in ["http:", "https:", "//", "style=", "<style", "<script>", "onclick", "javascript:"] {
            assert!(!page.body.contains(forbidden), "{forbidden} in {}", page.body);
        }
    }
}

#[tokio::test]
async fn a_page_is_compressed_for_those_who_take_it() {
    let app = App::start();
    for number in 0..20 {
        app.add(&format!("task {number}")).await;
    }
    for encoding in ["gzip", "br"] {
        let page = app.request("GET", "/").header("accept-encoding", encoding).send().await.unwrap();
        assert_eq!(page.headers()["content-encoding"], encoding);
        assert_eq!(page.headers()["vary"], "accept-encoding, Cookie");
    }
}
