//! Values as they are: no envelope, and errors are told.

use bytes::Bytes;

use super::backend::{Error, ServerCheck, ServerStats};
use super::{Cache, Key, Ttl};

/// A view of a [`Cache`] for tools: what any other client stores is read, what is stored any other client reads, and
/// whoever asks learns what went wrong. Nothing is counted. The app's own values are in an envelope and go through
/// [`Cache`].
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a>(pub(super) &'a Cache);

/// Every operation is that of [`Backend`](super::backend::Backend), under the cache's prefix.
///
/// # Errors
///
/// The server could not be asked, or refused. A miss is none, and no condition that is not met.
impl Raw<'_> {
    /// Returns the value of a key.
    #[expect(clippy::missing_errors_doc, reason = "said above, for all")]
    pub async fn get(self, key: &Key) -> Result<Option<Bytes>, Error> {
        self.0.backend().get(&self.0.name(key)).await
    }
}
