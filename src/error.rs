//! The error at the edge: what a visitor is told, and what the log.

use std::fmt;
use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::{db, upstream};
use neverstale::version::Lost;

/// Why a handler has no page to show. `middleware::error_pages` makes a page and a log line of it.
#[derive(Clone, Debug)]
pub struct Error {
    status: StatusCode,
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// Says that a request cannot be served, and why.
    pub fn new(status: StatusCode, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { status, cause: Arc::new(cause) }
    }

    /// Returns the chain of causes, for the log and for developers.
    #[must_use]
    pub fn cause(&self) -> String {
        let mut text = self.cause.to_string();
        let mut source = self.cause.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    /// Returns what a visitor is told, and what to do, where that is more than the status says.
    #[must_use]
    pub fn words(&self) -> Option<(&'static str, &'static str)> {
        if let Some(neverstale_sessions::Error::Gone) = self.cause.downcast_ref() {
            return Some((
                "Your session has ended",
                "It ended while this was being done. The change itself is made: look at the list.",
            ));
        }
        match self.cause.downcast_ref()? {
            db::Error::NoRoom(_) => Some((
                "No room left",
                "Your change was not made, since the disk is full. The list can still be read. Please try again later, \
                 or tell those who run this site.",
            )),
            db::Error::ReadOnly(_) => Some((
                "Nothing can be changed",
                "Your change was not made, since the list can only be read now. Please try again later, or tell those \
                 who run this site.",
            )),
            _ => None,
        }
    }
}

/// What the log is told.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

/// An answer without a body: the page is made where the look of the site is known.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        let status = match error {
            db::Error::Unavailable(_) | db::Error::Timeout | db::Error::Moved(_) | db::Error::ReadOnly(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            db::Error::NoRoom(_) => StatusCode::INSUFFICIENT_STORAGE,
            db::Error::Refused(_) | db::Error::Migrate(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

/// Who waits for the version when the query for it panics.
impl From<Lost> for Error {
    fn from(error: Lost) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

impl From<neverstale_sessions::Error> for Error {
    fn from(error: neverstale_sessions::Error) -> Self {
        let status = match error {
            neverstale_sessions::Error::Gone => StatusCode::BAD_REQUEST,
            neverstale_sessions::Error::Encoding(_) => StatusCode::INTERNAL_SERVER_ERROR,
            neverstale_sessions::Error::Store(store) if store.is::<db::Error>() => {
                return (*store.downcast::<db::Error>().expect("asked just now")).into();
            }
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error)
    }
}

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Self {
        let is_late = matches!(error, upstream::Error::Timeout);
        let status = if is_late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
        Self::new(status, error)
    }
}

impl From<FormRejection> for Error {
    fn from(rejection: FormRejection) -> Self {
        Self::new(rejection.status(), rejection)
    }
}

/// Answers a path that no route has.
pub async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Answers a method that a path does not have; axum adds `Allow`.
pub async fn method_not_allowed() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}
