//! What a layer keeps, for how long, and under which names: plain data.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use neverstale::Ttl;
use neverstale::version::Versions;

use super::personal::Personal;
use super::verdict::Browser;

/// What one layer does with the responses of its handlers.
#[derive(Clone)]
pub(super) struct Policy {
    pub(super) ttl: Ttl,
    pub(super) browser: Browser,
    pub(super) parameters: QueryNames,
    pub(super) digest: Cow<'static, str>,
    /// How long another process's run of the handler is waited for.
    pub(super) max_wait: Duration,
    /// Where the version is asked for of what the pages show; without it they have generations.
    pub(super) versions: Option<Versions<Response>>,
    pub(super) personal: Option<Personal>,
    /// Of all keys.
    pub(super) prefix: Arc<str>,
    /// The cache's name in `Cache-Status`.
    pub(super) name: &'static str,
}

/// Which part of a query a page depends on: all of it, or some parameters.
pub(super) type QueryNames = Option<Vec<String>>;

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("ttl", &self.ttl)
            .field("browser", &self.browser)
            .finish_non_exhaustive()
    }
}
