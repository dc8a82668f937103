//! The answer of an external service, as in the tutorial on caching a view: slow, and so asked for rarely.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout};

use crate::cache::{Cache, Key, Ttl};
use crate::error::Error;
use crate::no_store::NoStore;
use crate::templates::ApiCallsPage;
use crate::upstream::{self, Answer, Upstream};

/// The tutorial's five minutes.
const FRESH: Ttl = Ttl::After(Duration::from_secs(300));

/// How long an answer is kept for when there is no other.
const KEPT: Ttl = Ttl::After(Duration::from_secs(24 * 60 * 60));

/// How long a visitor waits: for a call that takes its ten seconds, whoever makes it, and not for another after it.
const PATIENCE: Duration = Duration::from_secs(11);

/// Shows the service's answer: one of the last five minutes, or else the last one there was, and says so.
///
/// # Errors
///
/// The service's, if there is no older answer.
pub async fn show(State(upstream): State<Upstream>, State(cache): State<Cache>) -> Result<Response, Error> {
    let error = match timeout(PATIENCE, current(&upstream, &cache)).await {
        Ok(Ok(answer)) => return Ok(ApiCallsPage { answer, is_old: false }.into_response()),
        Ok(Err(error)) => Error::from(error),
        Err(_) => Error::from(upstream::Error::Timeout),
    };
    let Some(answer) = cache.get(&key("apicalls.last")).await else { return Err(error) };
    tracing::warn!("the last answer is shown, since {}", error.cause());
    Ok(NoStore(ApiCallsPage { answer, is_old: true }).into_response())
}

/// Returns the cached answer, or else asks for one: once, however many wait for it.
async fn current(upstream: &Upstream, cache: &Cache) -> Result<Answer, upstream::Error> {
    let since = Instant::now();
    let ask = async || {
        let answer = upstream.ask(since).await?;
        cache.set(&key("apicalls.last"), &answer, KEPT).await;
        Ok(answer)
    };
    cache.get_or_set(&key("apicalls"), FRESH, ask).await
}

fn key(name: &'static str) -> Key {
    Key::new(name).expect("a constant without blanks")
}
