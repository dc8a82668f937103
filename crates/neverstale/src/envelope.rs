//! What is stored: a value in its envelope.

use bytes::Bytes;

use super::Key;

/// A value in its envelope, made by [`Cache::envelope`](super::Cache::envelope). It is read under its own key only.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub(super) key: Key,
    /// The name under which the backend stores the key.
    pub(super) name: String,
    pub(super) bytes: Bytes,
}
