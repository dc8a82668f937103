//! The response of a slow external service, as in the tutorial on caching a view.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout_at;

use crate::error::Error;
use crate::no_store::NoStore;
use crate::templates::ApiCallsPage;
use crate::upstream::{self, Upstream};
use neverstale::{Cache, Key, Ttl};
use neverstale_axum::PageContext;

/// How long the page is cached for: the tutorial's five minutes.
pub(crate) const FRESH: Ttl = Ttl::After(Duration::from_secs(300));

/// How long the last response is kept, to be shown when the service fails.
const KEPT: Ttl = Ttl::After(Duration::from_secs(24 * 60 * 60));

/// How long a request waits: for one call, which may take ten seconds, and not for a second one.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(11);

/// Shows the response of the service. If the service fails, shows its last response, and says so.
///
/// # Errors
///
/// Those of the service, if there is no older response.
pub async fn show(
    State(upstream): State<Upstream>,
    State(cache): State<Cache>,
    Extension(PageContext { arrival, .. }): Extension<PageContext>,
) -> Result<Response, Error> {
    let last = Key::new("apicalls.last").expect("a constant without blanks");
    // After waiting for the failed call of another request, there is no time for a second one.
    let call = timeout_at(arrival + MAX_WAIT, upstream.ask(arrival)).await;
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
