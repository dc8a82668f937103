//! The state of the cache, for those who run the site.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Redirect};

use crate::admin::Admin;
use crate::listing::Listing;
use crate::monitor::{Monitor, Report};
use crate::no_store::NoStore;
use crate::templates::CacheStatsPage;
use neverstale::Cache;

/// Shows the state of the cache as a page.
pub async fn show(_: Admin, State(monitor): State<Monitor>) -> NoStore<CacheStatsPage> {
    NoStore(CacheStatsPage { report: monitor.report().await })
}

/// Returns the state of the cache as JSON.
pub async fn json(_: Admin, State(monitor): State<Monitor>) -> NoStore<Json<Report>> {
    NoStore(Json(monitor.report().await))
}

/// Returns all metrics, for Prometheus.
pub async fn metrics(_: Admin, State(monitor): State<Monitor>) -> NoStore<impl IntoResponse> {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    NoStore(([(header::CONTENT_TYPE, content_type)], monitor.metrics().await))
}

/// Empties the cache and the copies of this process, and leads back to the page. Other processes keep their copies.
pub async fn clear(
    _: Admin,
    State(cache): State<Cache>,
    State(listing): State<Listing>,
) -> NoStore<Redirect> {
    let is_clear = cache.clear().await;
    listing.drop_copies();
    if is_clear {
        tracing::info!("cache cleared");
    } else {
        tracing::warn!("not all of the cache is cleared");
    }
    NoStore(Redirect::to("/cache"))
}
