//! `/metrics`: OpenMetrics to the letter, and names that say what they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{PASSWORD, ask_as, guarded};
use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;
use testkit::openmetrics::{Family, parse};

async fn scrape(app: &App) -> BTreeMap<String, Family> {
    let page = app.get("/metrics").await;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((page.status, page.header("content-type")), (200, Some(content_type)));
    parse(&page.body)
}

/// A sample's value; its series as it is written.
#[track_caller]
fn value(families: &BTreeMap<String, Family>, series: &str) -> f64 {
    let found = families.values().find_map(|family| family.samples.get(series));
    *found.unwrap_or_else(|| panic!("no {series} in {families:#?}"))
}

fn series(families: &BTreeMap<String, Family>) -> BTreeSet<String> {
    families.values().flat_map(|family| family.samples.keys().cloned()).collect()
}

/// Asks for everything there is.
async fn visit(app: &App) {
    for path in ["/", "/?page=2&x=1", "/", "/nowhere", "/static/nothing", "/healthz", "/cache"] {
        app.get(path).await;
    }
    let page = app.add("Milk").await;
    app.remove(&page, "Milk").await;
    app.post("/add", &[("name", "")]).await;
}

#[tokio::test]
async fn every_line_is_open_metrics() {
    let memcached = Memcached::start();
    for settings in [Settings::new(), Settings::new().with_memcached(&memcached)] {
        let app = settings.serve();
        scrape(&app).await;
        visit(&app).await;
        let families = scrape(&app).await;
        assert!(families.values().filter(|family| family.kind == "histogram").count() >= 3, "{families:#?}");
    }
}

#[tokio::test]
async fn names_have_base_units_and_labels_few_values() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    visit(&app).await;
    let before = scrape(&app).await;
    for (name, family) in &before {
        assert!(name.starts_with("tasklist_") || name.starts_with("process_"), "{name}");
        for odd in ["total", "milli", "micro", "_ms", "_kb", "_ratio", "percent"] {
            assert!(!name.contains(odd), "{name}");
        }
        let is_time_or_size = name.contains("duration") || name.contains("time") || name.contains("size");
        assert!(family.unit.is_some() || !is_time_or_size, "{name} has no unit");
        assert!(family.unit.as_deref().is_none_or(|unit| ["seconds", "bytes"].contains(&unit)), "{name}");
        let labels: BTreeSet<_> = family.labels.iter().map(String::as_str).collect();
        let known = BTreeSet::from(["layer", "server", "status", "outcome", "cause", "le", "version"]);
        assert!(labels.is_subset(&known), "{name}: {labels:?}");
    }
    for number in 0..30 {
        app.get(&format!("/?page={number}&id={number}")).await;
        app.get(&format!("/nowhere/{number}")).await;
        app.request(&format!("M{number}"), "/").send().await.unwrap();
    }
    let after = scrape(&app).await;
    assert_eq!(series(&before), series(&after), "what visitors send makes no series");
}

#[tokio::test]
async fn every_series_is_there_from_the_start() {
    let memcached = Memcached::start();
    for client in ["native", "memcache"] {
        let settings = Settings::new().with_memcached(&memcached).with("MEMCACHE_CLIENT", client);
        let app = settings.with("POST_LIMIT", "100").serve();
        let before = scrape(&app).await;
        for name in ["hits", "misses", "builds", "fills", "deletes", "refused", "errors"] {
            for layer in ["local", "views", "fragments", "query", "sessions", "posts", "cache"] {
                let series = format!("tasklist_cache_{name}_total{{layer=\"{layer}\"}}");
                assert_eq!(value(&before, &series), 0.0, "{series}");
            }
        }
        assert_eq!(value(&before, "tasklist_log_lines_lost_total"), 0.0);
        visit(&app).await;
        assert_eq!(series(&before), series(&scrape(&app).await), "{client}");
    }
}

#[tokio::test]
async fn counters_never_fall() {
    let memcached = Memcached::start();
    let app = Settings::new().with_memcached(&memcached).serve();
    visit(&app).await;
    let before = scrape(&app).await;
    visit(&app).await;
    let after = scrape(&app).await;
    for (name, family) in before.iter().filter(|(_, family)| family.kind != "gauge") {
        for (series, count) in &family.samples {
            assert!(after[name].samples[series] >= *count, "{series}");
        }
    }
    let start = "process_start_time_seconds";
    assert_eq!(value(&before, start), value(&after, start));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((0.0..600.0).contains(&(now - value(&after, start))));
}

#[tokio::test]
async fn requests_are_counted_by_status_and_by_outcome() {
    let app = App::start();
    for path in ["/", "/", "/", "/nowhere", "/healthz"] {
        app.get(path).await;
    }
    app.post("/remove", &[("id", "7")]).await;
    let told = scrape(&app).await;
    for (series, expected) in [
        ("tasklist_http_requests_total{status=\"2xx\"}", 4.0),
        ("tasklist_http_requests_total{status=\"3xx\"}", 1.0),
        ("tasklist_http_requests_total{status=\"4xx\"}", 1.0),
        ("tasklist_http_requests_total{status=\"5xx\"}", 0.0),
        ("tasklist_http_request_duration_seconds_count", 6.0),
        ("tasklist_page_outcomes_total{outcome=\"stored\"}", 1.0),
        ("tasklist_page_outcomes_total{outcome=\"local\"}", 2.0),
        ("tasklist_page_outcomes_total{outcome=\"hit\"}", 0.0),
        ("tasklist_cache_hits_total{layer=\"local\"}", 2.0),
        ("tasklist_cache_builds_total{layer=\"query\"}", 1.0),
        ("tasklist_gate_versions_total", 1.0),
        ("tasklist_build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(value(&told, series), expected, "{series}");
    }
}

#[tokio::test]
async fn a_killed_server_is_down_and_marked_down() {
    for client in ["native", "memcache"] {
        let mut memcached = Memcached::start();
        let app = Settings::new().with_memcached(&memcached).with("MEMCACHE_CLIENT", client).serve();
        let of = |name: &str| format!("tasklist_cache_server_{name}{{server=\"{}\"}}", memcached.address());
        let [up, left_out, limit] = ["up", "left_out", "limit_bytes"].map(of);
        let told = scrape(&app).await;
        let asked = [&up, &left_out, &limit].map(|name| value(&told, name));
        assert_eq!(asked, [1.0, 0.0, 67_108_864.0], "{client}");
        memcached.kill();
        scrape(&app).await;
        let told = scrape(&app).await;
        assert_eq!([&up, &left_out].map(|name| value(&told, name)), [0.0, 1.0], "{client}");
        assert!(!told["tasklist_cache_server_limit_bytes"].samples.contains_key(&limit), "nobody knows");
    }
}

#[tokio::test]
async fn an_operator_scrapes_with_the_password() {
    let app = guarded().serve();
    parse(&ask_as(&app, PASSWORD, "GET", "/metrics").await.body);
}
