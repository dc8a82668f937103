//! Every route.

use axum::Router;
use axum::routing::{get, post};

use crate::app::AppState;
use crate::middleware;
use crate::views::{api_calls, health, tasks};
use crate::{assets, error};

/// Returns the whole site as a service.
pub fn router(state: AppState) -> Router {
    let site = Router::new()
        .route("/", get(tasks::index))
        .route("/add", post(tasks::add))
        .route("/remove", post(tasks::remove))
        .route("/apicalls", get(api_calls::show))
        .route("/static/{name}", get(assets::serve))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed);
    let probes = Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz));
    middleware::outer(middleware::site(site, &state).merge(probes)).with_state(state)
}
