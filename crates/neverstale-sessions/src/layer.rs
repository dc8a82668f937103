//! The layer that brings a request its session, and its visitor the cookie.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use tower_sessions::session::Id;
use tower_sessions::{Expiry, Session};

use super::cookie::{self, Ticket};
use super::{Acceptable, Error, LIFETIME, Sessions, Visit};
use neverstale_axum::headers::patch_vary;
use neverstale_axum::target::is_https;
use neverstale_axum::{Privacy, make_personal};

/// A session that is only read is saved when this much of its life is over; or when it would live longer than one does
/// that is saved now, by more than this, since a clock was wrong.
const RENEWED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long an answer waits for that.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(1);

/// Puts a [`Session`] and its [`Visit`] among a request's extensions; saves the session afterwards if it was changed,
/// and tells the browser what there is now. To be used with `axum::middleware::from_fn_with_state`.
///
/// The layer of `tower-sessions` does the same with a cookie that holds the id alone, is `Secure` always or never,
/// varies on nothing, and makes an empty 500 of a save that fails.
pub async fn carry(State(sessions): State<Sessions>, mut request: Request, next: Next) -> Response {
    let ticket = sessions.signer.read(request.headers());
    let is_https = is_https(request.uri(), request.headers());
    let acceptable = match ticket {
        Some(Ticket { seen, .. }) if request.method().is_safe() => Acceptable::Only(seen),
        _ => Acceptable::Nothing,
    };
    let visit = sessions.visit(acceptable).marking(Privacy::of(request.extensions_mut()));
    let (visit, id) = match ticket {
        Some(ticket) => (visit, ticket.id),
        None => (visit.without_session(), Id::default()),
    };
    let visit = Arc::new(visit);
    let lifetime = LIFETIME.try_into().expect("two weeks are not too long");
    // Always with an id, or the session would not ask the visit, and a look at it would leave no trace.
    let session = Session::new(Some(id), Arc::clone(&visit), Some(Expiry::OnInactivity(lifetime)));
    request.extensions_mut().insert(session.clone());
    request.extensions_mut().insert(Arc::clone(&visit));
    let mut response = next.run(request).await;
    match save(&session, &visit, response.status()).await {
        Ok(()) => {}
        // As if there were no session: whoever has the only copy does not answer.
        Err(Error::Cache) => {}
        Err(error) => response = (sessions.refuse)(error),
    }
    let cookie = match (ticket, session.id(), visit.seen()) {
        (Some(Ticket { id, seen }), Some(same), Some(current)) if (id, seen) == (same, current) => None,
        (_, Some(id), Some(seen)) => Some(sessions.signer.give(Ticket { id, seen }, is_https)),
        (Some(_), _, None) if visit.is_missing() => Some(cookie::take(is_https)),
        _ => None,
    };
    if visit.is_read() {
        patch_vary(response.headers_mut(), &["Cookie"]);
    }
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
        make_personal(&mut response);
    }
    response
}

async fn save(session: &Session, visit: &Visit, status: StatusCode) -> Result<(), Error> {
    let is_old = visit.stored().is_some_and(|stored| stored.remaining().abs_diff(LIFETIME) > RENEWED_AFTER);
    let is_due = session.is_modified() || is_old;
    if status.is_server_error() || visit.is_given_up() || !is_due || session.is_empty().await {
        return Ok(());
    }
    let save = async { session.save().await.map_err(|error| visit.explain(error)) };
    if session.is_modified() {
        return save.await;
    }
    // Nothing is lost that the answer says: the next request tries again.
    match timeout(RENEWAL_PATIENCE, save).await.unwrap_or(Err(Error::Timeout)) {
        Ok(()) => {}
        Err(error) => tracing::warn!("a session is not renewed: {}", with_cause(&error)),
    }
    Ok(())
}

/// A bare status. The log is told why.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Gone => StatusCode::BAD_REQUEST,
            Self::Cache | Self::Contended | Self::Store(_) | Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::Encoding(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        tracing::error!(status = status.as_u16(), "{}", with_cause(&self));
        status.into_response()
    }
}

fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_by_its_status_whether_it_may_pass() {
        let cause = std::io::Error::other("the disk is gone");
        let failures = [(Error::Gone, 400), (Error::Cache, 503), (Error::Store(cause.into()), 503)];
        for (failure, status) in failures {
            let told = with_cause(&failure);
            assert_eq!(failure.into_response().status(), status, "{told}");
        }
    }

    #[test]
    fn the_log_is_told_what_was_behind_a_failure() {
        let cause = std::io::Error::other("the disk is gone");
        assert_eq!(with_cause(&Error::Store(cause.into())), "session store failed: the disk is gone");
    }
}
