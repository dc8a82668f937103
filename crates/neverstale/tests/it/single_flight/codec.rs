//! What single flight needs to know of an envelope.

pub(super) struct Envelope {
    pub(super) name: String,
    pub(super) bytes: bytes::Bytes,
}
