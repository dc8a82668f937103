//! How it went ("Response Status").

use std::fmt;

/// The status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// Done.
    pub const OK: Self = Self(0x00);
    /// There is no such key.
    pub const NOT_FOUND: Self = Self(0x01);
    /// There is such a key, or it has changed.
    pub const EXISTS: Self = Self(0x02);
    /// The value is longer than the server takes.
    pub const TOO_LARGE: Self = Self(0x03);
    /// The condition for storing was not met.
    pub const NOT_STORED: Self = Self(0x05);
    /// The value is no number.
    pub const NOT_A_NUMBER: Self = Self(0x06);
    /// User name or password are wrong or missing.
    pub const UNAUTHENTICATED: Self = Self(0x20);
    /// The server does not know the command.
    pub const UNKNOWN_COMMAND: Self = Self(0x81);
    /// The server has no room and may not make any.
    pub const OUT_OF_MEMORY: Self = Self(0x82);
    /// The server knows the command and does not carry it out.
    pub const NOT_SUPPORTED: Self = Self(0x83);
    /// The server has failed in itself.
    pub const INTERNAL_ERROR: Self = Self(0x84);
    /// The server has too much to do.
    pub const BUSY: Self = Self(0x85);
    /// The server cannot do it now.
    pub const TEMPORARY_FAILURE: Self = Self(0x86);

    /// Returns whether the same command can be expected to work later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        [Self::INTERNAL_ERROR, Self::BUSY, Self::TEMPORARY_FAILURE].contains(&self)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OK => f.write_str("ok"),
            Self::NOT_FOUND => f.write_str("no such key"),
            Self::EXISTS => f.write_str("key exists"),
            Self::TOO_LARGE => f.write_str("value too large"),
            Self::NOT_STORED => f.write_str("not stored"),
            Self::NOT_A_NUMBER => f.write_str("value is no number"),
            Self::UNAUTHENTICATED => f.write_str("user name or password refused"),
            Self::UNKNOWN_COMMAND => f.write_str("unknown command"),
            Self::OUT_OF_MEMORY => f.write_str("out of memory"),
            Self::NOT_SUPPORTED => f.write_str("command not supported"),
            Self::INTERNAL_ERROR => f.write_str("internal error"),
            Self::BUSY => f.write_str("busy"),
            Self::TEMPORARY_FAILURE => f.write_str("temporary failure"),
            Self(code) => write!(f, "status {code:#06x}"),
        }
    }
}
