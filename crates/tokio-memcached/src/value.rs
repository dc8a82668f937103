//! Values: stored, read, and the outcome of storing over a version.

use bytes::Bytes;

/// A stored value, with its flags and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// The bytes of the value. While they are kept, they take at most twice their length of memory.
    pub data: Bytes,
    /// A number that the writer stored with the value, for its own use.
    pub flags: u32,
    /// The version of the value, for [`Client::cas`](crate::Client::cas).
    pub cas: u64,
}

/// A value to be stored, with its flags.
///
/// All types that convert into [`Bytes`] convert into an item, with flags of 0.
///
/// ```
/// use tokio_memcached::Item;
///
/// let item = Item::from("hello").flags(7);
/// ```
#[derive(Clone, Debug)]
pub struct Item {
    pub(super) data: Bytes,
    pub(super) flags: u32,
}

impl Item {
    /// Sets a number that is stored with the value, for the writer's own use: [`Value::flags`].
    #[must_use]
    pub fn flags(self, flags: u32) -> Self {
        Self { flags, ..self }
    }
}

impl<T: Into<Bytes>> From<T> for Item {
    fn from(data: T) -> Self {
        Self { data: data.into(), flags: 0 }
    }
}

/// The outcome of [`Client::cas`](crate::Client::cas).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cas {
    /// The version was as expected; the value is stored, and this is its version.
    Stored(u64),
    /// Another client has stored a value meanwhile; nothing was done.
    Changed,
    /// There is no such key any more; nothing was done.
    Missing,
}
