//! Keys: readable, checked before they reach a backend, hashed when long.
//!
//! # Reserved names
//!
//! The cache stores more than its users' values: locks, tokens, generations, pages, fragments. Each of these names has
//! a `~` with a letter or a sign behind it, and a user's `~` is doubled:
//!
//! ```text
//!   Key::new("tasks.all")              tasks.all             shop:tasks.all
//!   its lock                           tasks.all~lock        shop:tasks.all~lock
//!   Key::new("tasks.all~lock")         tasks.all~~lock       shop:tasks.all~~lock
//!   in the second namespace            ~v2:tasks.all         shop:~v2:tasks.all
//!   a key that is too long             its head~sha256:…
//! ```
//!
//! Read from the left, `~~` is a user's `~` and every other `~` is the library's, so no two keys have the same name.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use base16ct::lower::encode_string;
use sha2::{Digest, Sha256};

/// The longest key memcached takes, in bytes (memcached `doc/protocol.txt`, "Keys").
const LONGEST_KEY: usize = 250;

/// How much of a long key stays readable before its hash.
const READABLE_HEAD: usize = 100;

/// The beginning of what the library adds to a name.
const MARK: char = '~';

/// A checked key: not empty, no blanks, no control characters.
///
/// ```
/// use neverstale::{Key, KeyPrefix};
///
/// let (prefix, key) = ("shop".parse::<KeyPrefix>()?, Key::new("tasks.all")?);
/// assert_eq!(prefix.apply(&key), "shop:tasks.all");
/// assert!(prefix.apply(&Key::new("long".repeat(1000))?).len() <= 250);
/// assert!(Key::new("two words").is_err());
/// // What the library itself stores cannot be named by accident.
/// assert_eq!(prefix.apply(&Key::new("tasks.all~lock")?), "shop:tasks.all~~lock");
/// # Ok::<_, neverstale::InvalidKey>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// The error of a text that is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {0:?} is empty or holds a blank or a control character")]
pub struct InvalidKey(String);

impl Key {
    /// Checks a key. A long one is accepted, and shortened by hashing where it meets a backend. A `~` is doubled there.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] for the empty key, blanks and control characters: memcached's text protocol would read them as
    /// the end of the key, so that one key could be made to name another.
    pub fn new(key: impl Into<String>) -> Result<Self, InvalidKey> {
        let Self(key) = Self::as_stored(key)?;
        Ok(Self(if key.contains(MARK) { escape(&key) } else { key }))
    }

    /// Checks a key as it is stored behind the prefix, for tools: it may be a name of the library, such as that of a
    /// lock. Make keys of anybody's input by [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn as_stored(key: impl Into<String>) -> Result<Self, InvalidKey> {
        let key = key.into();
        if is_clean(&key) && !key.is_empty() { Ok(Self(key)) } else { Err(InvalidKey(key)) }
    }

    /// Returns a key for a layer over the cache, which no key of a user equals. `kind` is a constant of the layer, and
    /// begins with its name; `text` may be any text.
    #[must_use]
    pub fn reserved(kind: &'static str, text: &str) -> Self {
        Self(format!("{MARK}{kind}{}", escape(text)))
    }

    /// Returns a key that belongs to this key, and that no key of a user equals. `kind` is a constant of the caller,
    /// `text` may be any text.
    #[must_use]
    pub fn derive(&self, kind: &'static str, text: &str) -> Self {
        Self(format!("{}{MARK}{kind}{}", self.0, escape(text)))
    }

    /// Returns a key that no backend shortens, to be kept in large numbers: one that is too long is hashed.
    #[must_use]
    pub fn shortened(&self) -> Self {
        Self(KeyPrefix::default().apply(self))
    }

    /// Returns the key of one version of this key's value.
    #[must_use]
    pub fn at(&self, version: &str) -> Self {
        #[cfg(fault_injection)]
        if super::mistake::Mistake::KeyWithoutVersion.is_made() {
            return self.clone();
        }
        self.derive("@", version)
    }

    /// Returns the key of the token that this key ends with at present.
    pub(super) fn token(&self) -> Self {
        self.derive("token", "")
    }

    /// Returns the key of the lock that the builder of this key's value holds.
    pub(super) fn lock(&self) -> Self {
        self.derive("lock", "")
    }
}

/// Returns a token that was never used and never will be.
pub(super) fn random_token() -> String {
    format!("{:016x}", fastrand::u64(..))
}

fn is_clean(text: &str) -> bool {
    !text.chars().any(is_dirty)
}

fn is_dirty(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// Returns a text as it can be part of a key, different for different texts.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            MARK => escaped.extend([MARK, MARK]),
            c if is_dirty(c) => _ = write!(escaped, "{MARK}u{:x};", u32::from(c)),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Shows a key as it was given.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key =
            if self.0.contains(MARK) { self.0.replace("~~", "~").into() } else { Cow::Borrowed(&*self.0) };
        f.write_str(&key)
    }
}

/// The text before every key on servers that several applications share; empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPrefix {
    /// As it is stored.
    text: String,
    /// None for the first.
    namespace: Option<u32>,
}

impl KeyPrefix {
    /// The accepted prefixes, for error messages.
    pub const ACCEPTED: &str = "up to 64 characters without blanks and control characters";

    /// Returns the prefix of a namespace's keys. The first has none of its own.
    pub(super) fn namespace(&self, namespace: u32) -> Self {
        Self { text: self.text.clone(), namespace: Some(namespace).filter(|number| *number > 1) }
    }

    /// Returns the name under which a backend stores `key`: `prefix:key`, at most 250 bytes long.
    #[must_use]
    pub fn apply(&self, key: &Key) -> String {
        let mut name = String::with_capacity(self.text.len() + 1 + key.0.len());
        if !self.text.is_empty() {
            name.extend([&self.text, ":"]);
        }
        if let Some(namespace) = self.namespace {
            _ = write!(name, "{MARK}v{namespace}:");
        }
        name.push_str(&key.0);
        if name.len() <= LONGEST_KEY {
            return name;
        }
        // Without half a pair at the end, which would make one of the mark.
        let head = name[..name.floor_char_boundary(READABLE_HEAD)].trim_end_matches(MARK);
        format!("{head}{MARK}sha256:{}", encode_string(&Sha256::digest(&name)))
    }
}

impl FromStr for KeyPrefix {
    type Err = InvalidKey;

    fn from_str(prefix: &str) -> Result<Self, InvalidKey> {
        if is_clean(prefix) && prefix.len() <= 64 {
            Ok(Self { text: escape(prefix), namespace: None })
        } else {
            Err(InvalidKey(prefix.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blanks_and_control_characters_are_refused() {
        for key in ["", "a b", "a\r\nset b 0 0 1", "a\tb", "a\u{7f}", "a\u{a0}b", "\0"] {
            assert_eq!(Key::new(key), Err(InvalidKey(key.into())));
        }
        assert!(Key::new("tâches:é:1").is_ok());
    }

    #[test]
    fn a_long_key_is_hashed_and_keeps_its_head() {
        let names = ["a", "b"].map(|end| {
            let key = Key::new(format!("tasks.{}{end}", "é".repeat(200))).unwrap();
            KeyPrefix::default().apply(&key)
        });
        assert_ne!(names[0], names[1]);
        for name in names {
            assert!(name.starts_with("tasks.é") && name.contains("~sha256:") && name.len() <= 250, "{name}");
        }
    }

    /// What a key is made of, each with another meaning.
    const PARTS: [&str; 10] = ["~", "a", "1", ":", "~lock", "~token", "~@1", "v2:", "~v2:", "~u20;"];

    /// All texts of up to three parts.
    fn texts() -> BTreeSet<String> {
        let add = |text: &String| PARTS.map(|part| format!("{text}{part}"));
        let mut texts = BTreeSet::from([String::new()]);
        for _ in 0..3 {
            texts.extend(texts.iter().flat_map(add).collect::<Vec<_>>());
        }
        texts
    }

    #[test]
    fn no_two_keys_have_the_same_name() {
        let prefixes = ["", "shop"].map(|prefix| prefix.parse::<KeyPrefix>().unwrap());
        for prefix in prefixes {
            let mut meanings = HashMap::new();
            let mut note = |key: &Key, meaning: String| {
                for namespace in [1, 2, 21] {
                    let name = prefix.namespace(namespace).apply(key);
                    let meaning = format!("{meaning} in {namespace}");
                    let before = meanings.insert(name, meaning.clone());
                    assert_eq!(before, None, "is the same as {meaning}");
                }
            };
            for text in texts() {
                let Ok(key) = Key::new(text.clone()) else { continue };
                note(&key, format!("{text:?}"));
                note(&key.lock(), format!("lock of {text:?}"));
                note(&key.token(), format!("token of {text:?}"));
                for version in ["", "1", " ", "~", "1~lock", "~u20;"] {
                    note(&key.at(version), format!("{version:?} of {text:?}"));
                    note(&key.at(version).lock(), format!("lock of {version:?} of {text:?}"));
                }
                note(&Key::reserved("session.", &text), format!("session {text:?}"));
            }
        }
    }

    proptest! {
        #[test]
        fn no_key_of_a_user_is_a_name_of_the_library(
            key in "[~a:v2@.]{1,6}|[~é]{90,130}",
            version in "\\PC{0,4}|[ ~\n]{1,3}|x{250}",
            prefix in "|shop|~|s~",
        ) {
            let prefix = prefix.parse::<KeyPrefix>().unwrap();
            let key = Key::new(key).unwrap();
            let long = key.derive("@", &"x".repeat(300));
            for name in [key.lock(), key.token(), key.at(&version), key.at(&version).lock(), long]
                .iter()
                .flat_map(|key| [1, 2].map(|namespace| prefix.namespace(namespace).apply(key)))
            {
                prop_assert!(name.len() <= 250 && is_clean(&name), "{name}");
                // Whatever part of it a user takes for a key, or what it was before it was escaped.
                let parts = name.char_indices().map(|(start, _)| &name[start..]);
                for part in parts.flat_map(|part| [part.to_owned(), part.replace("~~", "~")]) {
                    prop_assert_ne!(prefix.apply(&Key::new(part).unwrap()), &*name);
                }
            }
        }

        #[test]
        fn a_key_is_shown_as_it_was_given(key in "[~a]{1,8}") {
            prop_assert_eq!(Key::new(&*key).unwrap().to_string(), key);
        }
    }

    #[test]
    fn a_long_key_is_not_the_key_that_its_name_is() {
        // The cut is within a pair, or before it, or behind it.
        for length in 90..110 {
            let key = Key::new(format!("{}{}", "a".repeat(length), "~".repeat(200))).unwrap();
            let name = KeyPrefix::default().apply(&key);
            assert_ne!(KeyPrefix::default().apply(&Key::new(&*name).unwrap()), name);
            assert_ne!(KeyPrefix::default().apply(&Key::new(name.replace("~~", "~")).unwrap()), name);
        }
    }
}
