//! The numbers of the layers: as many as things were done.

use serde_json::Value;

use super::{count, report};
use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;
use testkit::postgres::Postgres;

#[track_caller]
fn assert_counted<const N: usize>(report: &Value, layer: &str, expected: [(&str, u64); N]) {
    let counted = expected.map(|(name, _)| (name, count(report, layer, name)));
    assert_eq!(counted, expected, "{layer} in {report:#}");
}

#[tokio::test]
async fn each_layer_counts_its_operations() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    for _ in 0..4 {
        app.get("/").await;
    }
    let told = report(&app).await;
    assert_counted(&told, "local", [("hits", 3), ("misses", 1), ("fills", 1), ("errors", 0)]);
    assert_counted(&told, "views", [("hits", 0), ("misses", 1), ("builds", 1), ("fills", 1), ("errors", 0)]);
    assert_counted(&told, "query", [("hits", 0), ("misses", 1), ("builds", 1), ("fills", 1), ("errors", 0)]);
    let gate = &told["gate"];
    assert!(
        gate["queries"].as_u64() <= gate["calls"].as_u64() && gate["calls"].as_u64() >= Some(4),
        "{gate}"
    );
    assert_eq!((&gate["versions"], &gate["builds_per_version"]), (&1.into(), &1.0.into()));

    app.add("Milk").await;
    app.get("/").await;
    let told = report(&app).await;
    assert_counted(&told, "query", [("builds", 2), ("fills", 2)]);
    assert_counted(&told, "fragments", [("misses", 1), ("fills", 1)]);
    assert_eq!(told["gate"]["builds_per_version"], 1.0);
    let layers: Vec<_> = told["layers"].as_array().unwrap().iter().map(|layer| &layer["layer"]).collect();
    assert_eq!(layers, ["local", "views", "fragments", "query"], "from the outside in");
}

#[tokio::test]
async fn each_process_has_its_own_numbers() {
    let memcached = Memcached::start();
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url).with_memcached(&memcached);
    let (one, other) = (settings.serve(), settings.serve());
    one.get_from("localhost", "/").await;
    assert_eq!(report(&other).await["layers"], Value::Array(vec![]));
    assert!(other.get("/cache").await.body.contains("Nothing was asked for yet."));
    other.get_from("localhost", "/").await;
    assert_counted(&report(&one).await, "views", [("hits", 0), ("builds", 1), ("fills", 1)]);
    assert_counted(&report(&other).await, "views", [("hits", 1), ("builds", 0), ("fills", 0)]);
}

#[tokio::test]
async fn the_history_adds_up_to_the_totals() {
    let app = App::start();
    for _ in 0..3 {
        app.get("/").await;
    }
    let told = report(&app).await;
    for layer in told["layers"].as_array().unwrap() {
        let points = layer["history"].as_array().unwrap();
        assert!(!points.is_empty(), "{layer:#}");
        for name in ["hits", "misses"] {
            let sum: u64 = points.iter().map(|point| point[name].as_u64().unwrap()).sum();
            assert_eq!(Some(sum), layer[name].as_u64(), "{layer:#}");
        }
    }
    let lines = app.get("/cache").await.attributes("svg.spark polyline", "points");
    assert!(lines.iter().any(|line| line.contains("181,")), "{lines:?}");
}

#[tokio::test]
async fn a_strategy_without_versions_has_no_gate() {
    let app = Settings::new().with("CACHE_STRATEGY", "delete").serve();
    app.get("/").await;
    let told = report(&app).await;
    assert_eq!((&told["gate"], &told["strategy"]), (&Value::Null, &"delete".into()));
    let page = app.get("/cache").await;
    assert!(page.status == 200 && !page.body.contains("Versions met"), "{}", page.body);
}

#[tokio::test]
async fn the_page_shows_the_same_numbers_as_the_json() {
    let app = App::start();
    for _ in 0..4 {
        app.get("/").await;
    }
    let page = app.get("/cache").await;
    let rows = page.texts("section[aria-labelledby=layers] tbody tr");
    let words = |row: &String| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let local = rows.iter().map(words).find(|words| words[..3] == ["Pages,", "this", "process"]).unwrap();
    assert_eq!(local[3..8], ["75.0", "%", "3", "1", "1"], "{rows:?}");
    assert!(
        page.body.contains("<noscript><meta http-equiv=\"refresh\""),
        "it is new without a script as well"
    );
}
