//! The settings of one layer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use neverstale::Ttl;
use neverstale::version::Versions;

use super::personal::PersonalRule;
use super::store::Store;

/// What the browser is told of a page that the server stores, unless the handler has said it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Browser {
    /// To ask each time whether its copy is still good (`no-cache`): a purge is seen at once.
    #[default]
    Revalidate,
    /// To use its copy for this long after it got it, whatever happens on the server meanwhile. A handler's own
    /// `max-age` is lowered to this.
    MaxAge(Duration),
    /// Nothing.
    Unsaid,
}

#[derive(Clone)]
pub(super) struct Policy {
    pub(super) store: Store,
    /// The cache's name in `Cache-Status`.
    pub(super) name: &'static str,
    /// The prefix of all keys.
    pub(super) prefix: Arc<str>,
    pub(super) ttl: Ttl,
    pub(super) browser: Browser,
    /// The query parameters that pages depend on; none is all.
    pub(super) parameters: Option<Vec<String>>,
    pub(super) digest: Cow<'static, str>,
    /// How long another process's run of the handler is waited for.
    pub(super) max_wait: Duration,
    /// The largest page that is stored, in bytes.
    pub(super) max_size: usize,
    /// The version of what the pages show; without it they have generations.
    pub(super) versions: Option<Versions<Response>>,
    pub(super) personal: Option<PersonalRule>,
}
