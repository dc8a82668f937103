//! The error of a handler: a status, words for the visitor, and causes for the log.

use std::fmt;
use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::{db, upstream};
use neverstale::version::Lost;

/// The reason why a handler has no page to show. `middleware::error_pages` makes a page and a log line of it.
#[derive(Clone, Debug)]
pub struct Error {
    status: StatusCode,
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// Makes an error of a status and its cause.
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

    /// Returns a title and advice for the visitor, where they say more than the status.
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

/// The causes, for the log.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

/// A response without a body: `middleware::error_pages` adds the page.
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

/// The query for the version has panicked.
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

/// Answers requests for unknown paths.
pub async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Answers requests with a method that the path does not have; axum adds `Allow`.
pub async fn method_not_allowed() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}
