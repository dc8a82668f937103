//! The front of the site: gives answers again that have left it before, and lets in who needs another.
//!
//! A page that is cached still passes every layer on its way out, and each does for everybody what it did for the one
//! before. So what has come out at the end is kept, head and body, and given again at the door.
//!
//! **The invariant: an answer is given again only where the site would give the same.** The site's layers and handlers
//! look at nothing of a request but this:
//!
//! | what | so |
//! |---|---|
//! | method, target, `Host`, `X-Forwarded-Proto`, `Accept-Encoding` | an answer is kept by them; only those to GET |
//! | a session's cookie, `Authorization`, `Sec-Purpose`, a body | such a request goes in |
//! | any other private state | it marks the request's privacy, and then the response is not kept |
//! | `If-None-Match` and the other conditions | they are evaluated here, as they are further in |
//! | `X-Request-Id` | it is the log's, which is kept for all |
//! | the state of the list | the request passes the gate, as it would further in, and is told that there |
//! | room for readers, and whether we stop | there is none, or we do: it goes in |
//!
//! A layer that comes to look at something else belongs into this table, and into [`finished`](neverstale_axum::finished).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderName, Request, StatusCode, header};
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::SECURITY_HEADERS;
use super::access_log::{AccessLog, Line, REQUEST_ID};
use super::load_shedding::LoadShedding;
use crate::app::AppState;
use neverstale_axum::Privacy;
use neverstale_axum::finished::{self, Finished};
use neverstale_axum::target::without_needless_escapes;

/// The whole site. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Shared>);

struct Shared {
    site: Router,
    log: AccessLog,
    finished: Finished,
    limits: Arc<LoadShedding>,
    stopping: CancellationToken,
}

impl Front {
    pub(super) fn new(site: Router<AppState>, limits: Arc<LoadShedding>, state: AppState) -> Self {
        Self(Arc::new(Shared {
            log: AccessLog::new(&state.monitor),
            finished: Finished::new(added_outside()),
            limits,
            stopping: state.stopping.clone(),
            site: site.with_state(state),
        }))
    }
}

/// Returns the names of headers that answers get outside of where conditions are evaluated.
fn added_outside() -> Vec<HeaderName> {
    let [hsts, id] = [header::STRICT_TRANSPORT_SECURITY, REQUEST_ID];
    SECURITY_HEADERS.iter().map(|(name, _)| name.clone()).chain([hsts, id]).collect()
}

impl<B> Service<Request<B>> for Front
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        async move { Ok(shared.answer(request).await) }.boxed()
    }
}

impl Shared {
    async fn answer<B>(&self, mut request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let line = self.log.begin(&request);
        let Some(key) = finished::key(&request, neverstale_sessions::may_be_in) else {
            return self.let_in(request, line).boxed().await;
        };
        if let Some(answer) = self.finished.get(&key).filter(|_| !self.stopping.is_cancelled())
            && let Some(status) = answer.status(request.headers())
            && let Some(_permit) = self.limits.read()
        {
            match answer.again().ask(line.started()).await {
                Ok(current) => {
                    let mut response = answer.give(status, &current);
                    line.end_again(&mut response, current.outcome(), current.took());
                    return response;
                }
                // So that it need not ask once more.
                Err(told) => _ = request.extensions_mut().insert(told),
            }
        }
        // In a box, as above: what most answers need not they should not have to make room for.
        let privacy = Privacy::of(request.extensions_mut());
        async { self.finished.keep(key, &privacy, self.let_in(request, line).await).await }.boxed().await
    }

    async fn let_in<B>(&self, request: Request<B>, line: Line<'_>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let mut request = request;
        if let Some(uri) = without_needless_escapes(request.uri()) {
            *request.uri_mut() = uri;
        }
        let mut site = self.site.clone();
        let Ok(mut response) = line.within(site.call(request)).await;
        if response.status() == StatusCode::NOT_MODIFIED {
            // The router says 0, where only the length of the page would be right (RFC 9110, section 8.6).
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        line.end(&mut response);
        response
    }
}
