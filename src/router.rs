//! Every route.

use std::convert::Infallible;

use axum::body::{Bytes, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{BoxError, Router};
use tower::Service;

use crate::app::AppState;
use crate::handlers::{api_calls, cache_stats, health, tasks};
use crate::middleware;
use crate::templates::digest;
use crate::{assets, error};

/// Returns the whole site as a service, for requests with any body.
pub fn router<B>(
    state: AppState,
) -> impl Service<Request<B>, Response = Response, Error = Infallible, Future: Send> + Clone + Send
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let api_calls = state.pages.cache_page(api_calls::FRESH).without_query();
    let api_calls = api_calls.digest(digest::API_CALLS_PAGE).max_wait(api_calls::MAX_WAIT);
    let site = Router::new()
        .route("/", get(tasks::index).layer(state.listing.layer()))
        .route("/add", post(tasks::add))
        .route("/remove", post(tasks::remove))
        .route("/undo", post(tasks::undo))
        .route("/apicalls", get(api_calls::show).layer(api_calls))
        .route("/cache", get(cache_stats::show))
        .route("/cache.json", get(cache_stats::json))
        .route("/cache/clear", post(cache_stats::clear))
        .route("/metrics", get(cache_stats::metrics))
        .route("/static/{name}", get(assets::serve))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed);
    let probes = Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz));
    middleware::around(site, probes, state)
}
