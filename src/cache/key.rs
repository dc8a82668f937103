//! Keys: readable, checked before they reach a backend, hashed when long.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::mistake::Mistake;

/// The longest key memcached takes, in bytes (memcached `doc/protocol.txt`, "Keys").
const LONGEST_KEY: usize = 250;

/// How much of a long key stays readable before its hash.
const READABLE_HEAD: usize = 100;

/// A checked key: not empty, no blanks, no control characters.
///
/// ```
/// use tasklist::cache::{Key, KeyPrefix};
///
/// let (prefix, key) = ("shop".parse::<KeyPrefix>()?, Key::new("tasks.all")?);
/// assert_eq!(prefix.apply(&key), "shop:tasks.all");
/// assert!(prefix.apply(&Key::new("long".repeat(1000))?).len() <= 250);
/// assert!(Key::new("two words").is_err());
/// # Ok::<_, tasklist::cache::InvalidKey>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// A key that no backend is ever asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {0:?} is empty or holds a blank or a control character")]
pub struct InvalidKey(String);

impl Key {
    /// Checks a key. A long one is accepted, and shortened by hashing where it meets a backend.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] for the empty key, blanks and control characters: memcached's text protocol would read them as
    /// the end of the key, so that one key could be made to name another.
    pub fn new(key: impl Into<String>) -> Result<Self, InvalidKey> {
        let key = key.into();
        if is_clean(&key) && !key.is_empty() { Ok(Self(key)) } else { Err(InvalidKey(key)) }
    }

    /// Returns a key that no backend shortens, for those who keep many: one that is too long is hashed.
    pub(super) fn shortened(&self) -> Self {
        Self(KeyPrefix::default().apply(self))
    }

    /// Returns the key of one version of this key's value. A version's name holds no blanks.
    pub(super) fn at(&self, version: &str) -> Self {
        if Mistake::KeyWithoutVersion.is_made() {
            return self.clone();
        }
        Self::new(format!("{}@{version}", self.0)).expect("a version's name is as clean as a key")
    }

    /// Returns the key of the token that this key ends with at present.
    pub(super) fn token(&self) -> Self {
        Self(format!("{}.token", self.0))
    }

    /// Returns the key of the lock that whoever builds this key's value holds.
    pub(super) fn lock(&self) -> Self {
        Self(format!("{}.lock", self.0))
    }
}

/// Returns a token that was never used and never will be.
pub(super) fn random_token() -> String {
    format!("{:016x}", fastrand::u64(..))
}

fn is_clean(text: &str) -> bool {
    !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What comes before every key on servers that are shared with others; empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// What a prefix may look like, for error messages.
    pub const ACCEPTED: &str = "up to 64 characters without blanks and control characters";

    /// Returns the prefix of a version's keys. The first has none of its own.
    pub(super) fn version(&self, version: u32) -> Self {
        match (version, self.0.is_empty()) {
            (0 | 1, _) => self.clone(),
            (_, true) => Self(format!("v{version}")),
            (_, false) => Self(format!("{}:v{version}", self.0)),
        }
    }

    /// Returns the name under which a backend stores `key`: `prefix:key`, at most 250 bytes long.
    #[must_use]
    pub fn apply(&self, key: &Key) -> String {
        let name = if self.0.is_empty() { key.0.clone() } else { format!("{}:{}", self.0, key.0) };
        if name.len() <= LONGEST_KEY {
            return name;
        }
        let head = &name[..name.floor_char_boundary(READABLE_HEAD)];
        format!("{head}:sha256:{}", hex(&Sha256::digest(&name)))
    }
}

impl FromStr for KeyPrefix {
    type Err = InvalidKey;

    fn from_str(prefix: &str) -> Result<Self, InvalidKey> {
        if is_clean(prefix) && prefix.len() <= 64 {
            Ok(Self(prefix.into()))
        } else {
            Err(InvalidKey(prefix.into()))
        }
    }
}

/// Returns bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from(b"0123456789abcdef"[usize::from(four)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_control_characters_are_refused() {
        for key in ["", "a b", "a\r\nset b 0 0 1", "a\tb", "a\u{7f}", "a\u{a0}b", "\0"] {
            assert_eq!(Key::new(key), Err(InvalidKey(key.into())));
        }
        assert!(Key::new("tâches:é:1").is_ok());
    }

    #[test]
    fn a_short_key_stays_as_it_is() {
        let key = Key::new("tasks.all").unwrap();
        assert_eq!(KeyPrefix::default().apply(&key), "tasks.all");
        assert_eq!("shop".parse::<KeyPrefix>().unwrap().apply(&key), "shop:tasks.all");
    }

    #[test]
    fn a_long_key_is_hashed_and_keeps_its_head() {
        let names = ["a", "b"].map(|end| {
            let key = Key::new(format!("tasks.{}{end}", "é".repeat(200))).unwrap();
            KeyPrefix::default().apply(&key)
        });
        assert_ne!(names[0], names[1]);
        for name in names {
            assert!(name.starts_with("tasks.é") && name.contains(":sha256:") && name.len() <= 250, "{name}");
        }
    }
}
