//! The error of a session.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// The reason why a session could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session was deleted, or has expired, since it was loaded.
    #[error("the session was deleted before the request was done")]
    Gone,
    /// The store failed. A change may have happened.
    #[error("session store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store did not answer in time. A change may have happened.
    #[error("session store did not answer in time")]
    Timeout,
    /// The cache failed, and nothing else keeps the session.
    #[error("the cache that keeps the session fails")]
    Cache,
    /// Other requests kept changing the session.
    #[error("the session is changed by too many requests at once")]
    Contended,
    /// A value cannot be encoded, or the stored data is no session.
    #[error("the session has no encoding")]
    Encoding(#[source] serde_json::Error),
}

/// A status without a body. The cause is logged.
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

pub(super) fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_a_status_and_its_cause_in_the_log() {
        let store = Error::Store(std::io::Error::other("the disk is gone").into());
        assert_eq!(with_cause(&store), "session store failed: the disk is gone");
        for (failure, status) in [(Error::Gone, 400), (Error::Cache, 503), (store, 503)] {
            assert_eq!(failure.into_response().status(), status);
        }
    }
}
