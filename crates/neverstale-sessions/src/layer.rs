//! The layer that gives a request its session, and its visitor the cookie.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{FromFnLayer, Next, from_fn_with_state};
use axum::response::Response;
use tokio::time::timeout;
use tower_sessions::session::Id;
use tower_sessions::{Expiry, Session};

use super::cookie::Ticket;
use super::error::{Error, with_cause};
use super::request::RequestSession;
use super::sessions::Sessions;
use super::store::Stored;
use neverstale_axum::headers::patch_vary;
use neverstale_axum::target::is_https;
use neverstale_axum::{Privacy, make_personal};

/// A session that is only read is renewed once this part of its lifetime is over.
const RENEWALS: u32 = 14;

/// How long a response waits for the renewal of a session that did not change.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The layer of [`Sessions::layer`].
pub type SessionLayer = FromFnLayer<
    fn(State<Sessions>, Request, Next) -> Pin<Box<dyn Future<Output = Response> + Send>>,
    Sessions,
    (State<Sessions>, Request),
>;

impl Sessions {
    /// Returns a layer that gives handlers the [`Session`] of the request, as an extension.
    ///
    /// After the handler, the layer saves the session if it was changed, and sends the browser its cookie. It does not
    /// save if the status is a server error, nor where the handler tried to save and failed.
    ///
    /// # Cancel safety
    ///
    /// A request that is dropped before its handler has ended saves nothing. A save that has begun may happen.
    pub fn layer(&self) -> SessionLayer {
        from_fn_with_state(self.clone(), |state, request, next| Box::pin(serve(state, request, next)))
    }
}

async fn serve(State(sessions): State<Sessions>, mut request: Request, next: Next) -> Response {
    let ticket = sessions.cookies.read(request.headers());
    let is_https = is_https(request.uri(), request.headers());
    // A request that may change something asks the store: a session that was deleted elsewhere is gone for it.
    let seen = ticket.map(|ticket| ticket.seen).filter(|_| request.method().is_safe());
    let privacy = Privacy::of(request.extensions_mut());
    let inner = Arc::new(sessions.request(seen).of_request(privacy, ticket.is_some()));
    // Always with an id: a `Session` without one does not ask `inner`, and reading it would leave no trace.
    let id = ticket.map_or_else(Id::default, |ticket| ticket.id);
    let session = Session::new(Some(id), Arc::clone(&inner), Some(Expiry::OnInactivity(sessions.max_age())));
    request.extensions_mut().insert(session.clone());
    request.extensions_mut().insert(Arc::clone(&inner));
    let mut response = next.run(request).await;
    match save(&sessions, &session, &inner, response.status()).await {
        // Without its only copy the session counts as absent.
        Ok(()) | Err(Error::Cache) => {}
        Err(error) => response = (sessions.error_response)(error),
    }
    let cookie = match (ticket, session.id(), inner.seen()) {
        (ticket, Some(id), Some(seen)) => {
            let new = Ticket { id, seen };
            (ticket != Some(new)).then(|| sessions.cookies.give(new, sessions.max_age(), is_https))
        }
        (Some(_), ..) if inner.is_missing() => Some(sessions.cookies.take(is_https)),
        _ => None,
    };
    if inner.is_used() {
        patch_vary(response.headers_mut(), &["Cookie"]);
    }
    if let Some(cookie) = cookie {
        // The first of all: curl 7 keeps a cookie that a response clears before it sets another.
        let headers = response.headers_mut();
        let others: Vec<_> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        headers.insert(header::SET_COOKIE, cookie);
        headers.extend(others.into_iter().map(|other| (header::SET_COOKIE, other)));
        make_personal(&mut response);
    }
    response
}

async fn save(
    sessions: &Sessions,
    session: &Session,
    inner: &RequestSession,
    status: StatusCode,
) -> Result<(), Error> {
    // Also if the session would live longer than a new one, since a clock was wrong.
    let age = |stored: Stored| stored.remaining().abs_diff(sessions.lifetime);
    let is_old = inner.stored().map(age).is_some_and(|age| age > sessions.lifetime / RENEWALS);
    let is_due = session.is_modified() || is_old;
    if status.is_server_error() || inner.has_failed() || !is_due || session.is_empty().await {
        return Ok(());
    }
    let save = async { session.save().await.map_err(|error| inner.explain(error)) };
    if session.is_modified() {
        return save.await;
    }
    // The response does not depend on it, and the next request tries again.
    if let Err(error) = timeout(RENEWAL_TIMEOUT, save).await.unwrap_or(Err(Error::Timeout)) {
        tracing::warn!("a session is not renewed: {}", with_cause(&error));
    }
    Ok(())
}
