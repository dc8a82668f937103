//! The latest decisions.

use serde_json::Value;

use super::report;
use crate::support::app::App;
use crate::support::visitor::Visitor;

/// Method, path, status and outcome of each, the latest first.
async fn decisions(app: &App) -> Vec<(String, String, u64, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let decision = |of: &Value| {
        (text(&of["method"]), text(&of["path"]), of["status"].as_u64().unwrap(), text(&of["outcome"]))
    };
    report(app).await["decisions"].as_array().unwrap().iter().map(decision).collect()
}

#[tokio::test]
async fn decisions_say_where_each_page_came_from_and_why() {
    let (app, visitor) = (App::start(), Visitor::new());
    visitor.get(&app, "/").await;
    visitor.get(&app, "/").await;
    visitor.add(&app, "Milk").await;
    app.request("HEAD", "/?page=2").send().await.unwrap();
    let decided = decisions(&app).await;
    let decided: Vec<_> = decided
        .iter()
        .map(|(method, path, status, outcome)| (&**method, &**path, *status, &**outcome))
        .collect();
    let [head, told, copy, first] = decided[..] else { panic!("{decided:?}") };
    assert_eq!(head, ("HEAD", "/?page=2", 200, "fwd=uri-miss; stored"));
    assert_eq!(told, ("GET", "/", 200, "fwd=bypass; detail=\"personal\""));
    assert_eq!(
        (copy.0, copy.3.starts_with("hit; "), copy.3.ends_with("; detail=\"local\"")),
        ("GET", true, true)
    );
    assert_eq!(first, ("GET", "/", 200, "fwd=uri-miss; stored"));
}

#[tokio::test]
async fn requests_for_no_cached_page_are_not_among_the_decisions() {
    let app = App::start();
    for path in ["/cache", "/cache.json", "/metrics", "/healthz", "/nowhere"] {
        app.get(path).await;
    }
    assert_eq!(decisions(&app).await, []);
    assert!(app.get("/cache").await.texts("#live .empty").contains(&"None yet.".to_owned()));
}

#[tokio::test]
async fn the_latest_fifty_are_kept() {
    let app = App::start();
    for number in 1..=60 {
        app.get(&format!("/?page={number}")).await;
    }
    let paths: Vec<_> = decisions(&app).await.into_iter().map(|(_, path, ..)| path).collect();
    let expected: Vec<_> = (11..=60).rev().map(|number| format!("/?page={number}")).collect();
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn a_path_is_cut_and_cannot_change_the_page() {
    let app = App::start();
    let long = format!("/?<b>&amp;'\"{}", "x".repeat(500));
    app.get(&long).await;
    let (_, path, ..) = decisions(&app).await.remove(0);
    assert_eq!(path.chars().count(), 101);
    assert!(path.starts_with("/?%3Cb%3E&amp;") && path.ends_with("xx…"), "{path}");
    let page = app.get("/cache").await;
    assert_eq!(page.texts("#live td.path"), [format!("GET {path}")]);
}
