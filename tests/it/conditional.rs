//! A browser that has the page already is told so, and is never told so of an older one.

use crate::support::app::App;
use testkit::page::Page;
use testkit::wait_until;

async fn get_if(app: &App, name: &str, value: &str) -> Page {
    Page::read(app.request("GET", "/").header(name, value)).await
}

#[tokio::test]
async fn a_page_that_has_not_changed_is_not_sent_again() {
    let app = App::start();
    app.add("First").await;
    let page = app.get("/").await;
    let tag = page.header("etag").unwrap();
    assert!(tag.starts_with('"') && tag.len() > 30, "{tag} is strong");
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let same = get_if(&app, "if-none-match", tag).await;
    assert_eq!((same.status, &*same.body, same.header("etag")), (304, "", Some(tag)));
    assert_eq!(same.header("vary"), page.header("vary"));
    assert_eq!((same.header("content-type"), same.header("content-length")), (None, None));

    app.add("Second").await;
    let changed = get_if(&app, "if-none-match", tag).await;
    changed.assert_lists(["First", "Second"]);
    assert_ne!(changed.header("etag"), Some(tag));
    assert_eq!(get_if(&app, "if-match", tag).await.status, 412);
    wait_until("it is logged", || app.output().contains("status=412"));
    assert!(!app.output().contains("WARN"), "{}", app.output());
}

#[tokio::test]
async fn a_compressed_page_has_a_tag_of_its_own() {
    let app = App::start();
    app.add(&"Long ".repeat(50)).await;
    let mut tags = vec![app.get("/").await.header("etag").unwrap().to_owned()];
    for encoding in ["gzip", "br"] {
        let request = || app.request("GET", "/").header("accept-encoding", encoding);
        let response = request().send().await.unwrap();
        assert_eq!(response.headers()["content-encoding"], encoding);
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        let same = request().header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(same.status(), 304);
        assert!(same.headers()["vary"].to_str().unwrap().contains("accept-encoding"));
        tags.push(tag);
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3);
}

#[tokio::test]
async fn neither_errors_nor_forms_are_answered_by_halves() {
    let app = App::start();
    let missing = Page::read(app.request("GET", "/missing").header("if-none-match", "*")).await;
    missing.assert_error(404);
    assert_eq!(missing.header("etag"), None);
    let form =
        Page::read(app.request("POST", "/add").header("if-match", "\"other\"").form(&[("name", "Added")]))
            .await;
    assert_eq!(form.status, 303);
    app.get("/").await.assert_lists(["Added"]);
}
