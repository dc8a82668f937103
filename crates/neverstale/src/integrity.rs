//! Integrity protection of cached values: CRC-32 or HMAC-SHA256.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use ring::{hkdf, hmac};

/// What the key is for: no other use of the same secret comes to the same key.
const PURPOSE: &[u8] = b"tasklist cache envelope";

/// Each changes with the layout of its envelopes or the encoding of what is in them.
const CHECKED: u8 = 2;
const SIGNED: u8 = 3;

/// Format and encoding (1 byte each), length of the body as it is here, length of the value (4 bytes each, big endian).
pub(super) const HEAD: usize = 10;

/// CRC-32 of the head and the body, big endian.
const CHECKSUM: usize = 4;

/// HMAC-SHA256 of the head and the body.
const SIGNATURE: usize = 32;

/// Integrity protection of cached values: a CRC-32, which finds damage and no malice, or an HMAC-SHA256.
///
/// ```text
///   checked   head │ checksum │ body
///   signed    head │ body │ signature
/// ```
///
/// Signed, each name has a key of its own, so that a server can neither make nor change a value, nor answer with that
/// of another name. It can still lose values, and bring back an older one of the same name.
#[derive(Clone, Debug, Default)]
pub struct Integrity(Option<hkdf::Prk>);

impl Integrity {
    /// Signs with keys derived from a secret, which all processes need that share a cache.
    #[must_use]
    pub fn signed(secret: &Secret) -> Self {
        Self(Some(hkdf::Salt::new(hkdf::HKDF_SHA256, PURPOSE).extract(secret.expose())))
    }

    /// Returns whether values are signed, so that one which cannot be opened may be a forgery.
    pub(super) fn is_signed(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the first byte of every envelope.
    pub(super) fn format(&self) -> u8 {
        if self.0.is_some() { SIGNED } else { CHECKED }
    }

    /// Returns the envelope of a head and a body, for one name.
    pub(super) fn close(&self, name: &str, head: [u8; HEAD], body: &[u8]) -> Bytes {
        let mut envelope = BytesMut::with_capacity(HEAD + body.len() + SIGNATURE);
        envelope.put_slice(&head);
        match &self.0 {
            None => {
                envelope.put_u32(checksum(&head, body));
                envelope.put_slice(body);
            }
            Some(secret) => {
                envelope.put_slice(body);
                let signature = hmac::sign(&key(secret, name), &envelope);
                envelope.put_slice(signature.as_ref());
            }
        }
        envelope.freeze()
    }

    /// Returns head and body of an envelope; none if it was not made with this protection, for this name.
    pub(super) fn open<'a>(&self, name: &str, envelope: &'a [u8]) -> Option<(&'a [u8; HEAD], &'a [u8])> {
        match &self.0 {
            None => {
                let (head, rest) = envelope.split_first_chunk()?;
                let (sum, body) = rest.split_first_chunk::<CHECKSUM>()?;
                (u32::from_be_bytes(*sum) == checksum(head, body)).then_some((head, body))
            }
            Some(secret) => {
                let (signed, signature) = envelope.split_last_chunk::<SIGNATURE>()?;
                hmac::verify(&key(secret, name), signed, signature).ok()?;
                signed.split_first_chunk()
            }
        }
    }
}

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

/// Returns the key of a name (RFC 5869, section 2.3).
fn key(secret: &hkdf::Prk, name: &str) -> hmac::Key {
    let info = [name.as_bytes()];
    secret.expand(&info, hmac::HMAC_SHA256).expect("a key is not too long to be derived").into()
}

/// Returns the CRC-32 of a head and what follows it.
pub(super) fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "shop:tasks.all";

    const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

    fn signed(secret: &[u8]) -> Integrity {
        Integrity::signed(&secret.try_into().unwrap())
    }

    fn close(integrity: &Integrity) -> Bytes {
        integrity.close(NAME, [integrity.format(); HEAD], b"body")
    }

    #[test]
    fn what_was_closed_is_opened_by_the_same_protection_only() {
        let all = [Integrity::default(), signed(SECRET), signed(b"another secret of thirty-two bytes")];
        for (closing, integrity) in all.iter().enumerate() {
            let (envelope, head) = (close(integrity), [integrity.format(); HEAD]);
            for (opening, other) in all.iter().enumerate() {
                let expected = (opening == closing).then_some((&head, &b"body"[..]));
                assert_eq!(other.open(NAME, &envelope), expected, "{closing} by {opening}");
            }
        }
    }

    #[test]
    fn a_signature_is_good_for_one_name() {
        let envelope = close(&signed(SECRET));
        for other in ["", "shop:tasks.al", "shop:tasks.all ", "shop:tasks.all\u{3}", "Shop:tasks.all"] {
            assert_eq!(signed(SECRET).open(other, &envelope), None, "{other}");
        }
        assert!(Integrity::default().open("any", &close(&Integrity::default())).is_some());
    }

    #[test]
    fn the_key_is_that_of_no_other_use() {
        let envelope = close(&signed(SECRET));
        let (text, signature) = envelope.split_at(envelope.len() - SIGNATURE);
        let cookies = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        assert!(hmac::verify(&cookies, text, signature).is_err());
        assert!(!format!("{:?}", signed(SECRET)).contains("secret"));
    }
}
