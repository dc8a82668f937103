//! The answer of an external service, as in the tutorial on caching a view: slow, and so asked for rarely.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout_at;

use crate::error::Error;
use crate::no_store::NoStore;
use crate::templates::ApiCallsPage;
use crate::upstream::{self, Upstream};
use neverstale::{Cache, Key, Ttl};
use neverstale_axum::Arrival;

/// How long the page is cached for: the tutorial's five minutes.
pub(crate) const FRESH: Ttl = Ttl::After(Duration::from_secs(300));

/// How long an answer is kept for when there is no other.
const KEPT: Ttl = Ttl::After(Duration::from_secs(24 * 60 * 60));

/// How long a visitor waits: for a call that takes its ten seconds, whoever makes it, and not for another after it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(11);

/// Shows what the service answers, or else the last answer there was, and says so.
///
/// # Errors
///
/// The service's, if there is no older answer.
pub async fn show(
    State(upstream): State<Upstream>,
    State(cache): State<Cache>,
    Extension(Arrival(arrival)): Extension<Arrival>,
) -> Result<Response, Error> {
    let last = Key::new("apicalls.last").expect("a constant without blanks");
    // Whoever waited for the call that another made, which failed, makes none after it.
    let call = timeout_at(arrival + PATIENCE, upstream.ask(arrival)).await;
    let error = match call.unwrap_or(Err(upstream::Error::Timeout)) {
        Ok(answer) => {
            cache.set(&last, &answer, KEPT).await;
            return Ok(ApiCallsPage { answer, is_old: false }.into_response());
        }
        Err(error) => Error::from(error),
    };
    let Some(answer) = cache.get(&last).await else { return Err(error) };
    tracing::warn!("the last answer is shown, since {}", error.cause());
    Ok(NoStore(ApiCallsPage { answer, is_old: true }).into_response())
}
