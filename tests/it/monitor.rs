//! The numbers of the cache: `/cache`, `/cache.json`, `/metrics`, and the log.

mod access;
mod clearing;
mod decisions;
mod log;
mod metrics;
mod numbers;
mod servers;

use serde_json::Value;

use crate::support::app::{App, Settings};
use testkit::page::Page;

const PAGES: [&str; 3] = ["/cache", "/cache.json", "/metrics"];

const PASSWORD: &str = "correct:horse";

/// A site without `DEBUG`.
fn closed() -> Settings {
    Settings::new().with("DEBUG", "False")
}

/// A site without `DEBUG` and with a password.
fn guarded() -> Settings {
    closed().with("ADMIN_PASSWORD", PASSWORD)
}

async fn ask_as(app: &App, password: &str, method: &str, path: &str) -> Page {
    Page::read(app.request(method, path).basic_auth("admin", Some(password))).await
}

/// Returns `/cache.json`.
async fn report(app: &App) -> Value {
    let page = app.get("/cache.json").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("application/json")));
    serde_json::from_str(&page.body).unwrap()
}

/// A number of a layer of a report; 0 if the layer has done nothing yet.
fn count(report: &Value, layer: &str, name: &str) -> u64 {
    let layers = report["layers"].as_array().unwrap();
    let layer = layers.iter().find(|found| found["layer"] == layer);
    layer.map_or(0, |layer| layer[name].as_u64().unwrap())
}
