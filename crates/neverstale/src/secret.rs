//! Secrets that are long enough to sign with.

use std::fmt;

/// A secret of at least 32 bytes, to sign with. Its `Debug` does not show it.
///
/// ```
/// use neverstale::Secret;
///
/// assert!(Secret::try_from("correct-horse-battery-staple-and-more".as_bytes()).is_ok());
/// assert!(Secret::try_from(&b""[..]).is_err());
/// assert!(Secret::try_from(&b"sesame"[..]).is_err());
/// assert!(Secret::try_from(" ".repeat(32).as_bytes()).is_err());
/// ```
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

/// A secret that can be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least {} bytes, which are not all the same", Secret::SHORTEST)]
pub struct WeakSecret;

impl Secret {
    /// The bytes of the shortest secret.
    pub const SHORTEST: usize = 32;

    /// Returns the bytes, for what signs with them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Secret {
    type Error = WeakSecret;

    fn try_from(bytes: &[u8]) -> Result<Self, WeakSecret> {
        let is_same = bytes.windows(2).all(|pair| pair[0] == pair[1]);
        let is_blank = std::str::from_utf8(bytes).is_ok_and(|text| text.trim().is_empty());
        if bytes.len() < Self::SHORTEST || is_same || is_blank {
            return Err(WeakSecret);
        }
        Ok(Self(bytes.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
