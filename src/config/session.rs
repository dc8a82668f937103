//! Where sessions are kept, and what signs their cookies.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use clap::ValueEnum;

use super::error::{Error, missing};
use neverstale::Secret;

/// Shorter ones might be guessed.
const LONG_ENOUGH: usize = 32;

/// Engine and key.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// `SESSION_ENGINE`.
    pub engine: SessionEngine,
    key: SecretString,
}

/// Where sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SessionEngine {
    /// In the cache: gone when it is emptied
    Cache,
    /// In the database, and read through the cache
    CachedDb,
    /// In the database
    Db,
}

impl SessionEngine {
    /// Says in a few words where sessions are kept.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Cache => "cache, gone when the cache is emptied",
            Self::CachedDb => "cached_db, in the database and read through the cache",
            Self::Db => "db, in the database",
        }
    }
}

impl fmt::Display for SessionEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cache => "cache",
            Self::CachedDb => "cached_db",
            Self::Db => "db",
        })
    }
}

impl SessionConfig {
    /// Draws a key where there is none, in development only.
    pub(super) fn new(
        engine: SessionEngine,
        key: Option<SecretString>,
        development: bool,
    ) -> Result<Self, Error> {
        let key = match key {
            Some(key) => key,
            None if development => random(),
            None => {
                let because = "with DEVELOPMENT_MODE off all processes sign with one key; set it to the output of \
                               `openssl rand -hex 32`";
                return Err(missing("SECRET_KEY", because));
            }
        };
        Ok(Self { engine, key })
    }

    /// Returns what is not as it should be with the key, for a site that is deployed.
    #[must_use]
    pub fn weakness(&self) -> Option<&'static str> {
        let is_short = self.key.expose_secret().chars().count() < LONG_ENOUGH;
        is_short.then_some("SECRET_KEY is shorter than 32 characters")
    }

    /// Returns the secret that the app signs with: the key, or a hash of a key that is short.
    #[must_use]
    pub fn signing_secret(&self) -> Secret {
        let key = self.key.expose_secret().as_bytes();
        key.try_into().unwrap_or_else(|_| {
            Sha256::digest(key)[..].try_into().expect("a hash has 32 bytes, which are not all the same")
        })
    }
}

fn random() -> SecretString {
    let mut bytes = [0; LONG_ENOUGH];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers");
    URL_SAFE_NO_PAD.encode(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn session<const N: usize>(variables: [(&str, &str); N]) -> SessionConfig {
        Config::from_variables(variables).unwrap().session
    }

    #[test]
    fn a_key_that_is_not_set_is_another_one_each_time() {
        let keys = [session([]), session([("SECRET_KEY", " ")])];
        let [first, second] = keys.each_ref().map(|session| session.key.expose_secret());
        assert!(first != second && first.len() > 40);
        assert!(keys.iter().all(|session| session.weakness().is_none()));
    }

    #[test]
    fn in_production_a_key_that_is_missing_or_blank_is_an_error() {
        for key in ["", " ", "\t\n", "\u{a0}\u{2003}"] {
            let variables =
                [("DEVELOPMENT_MODE", "off"), ("DATABASE_URL", "sqlite://f"), ("SECRET_KEY", key)];
            let error = Config::from_variables(variables).unwrap_err().to_string();
            assert!(error.starts_with("SECRET_KEY is not set: with DEVELOPMENT_MODE off"), "{error}");
        }
    }

    #[test]
    fn a_key_of_any_length_signs() {
        for key in ["x", "horse", &"x".repeat(40), &"é".repeat(16)] {
            let signer = session([("SECRET_KEY", key)]).signing_secret();
            assert!(signer.expose().len() >= Secret::SHORTEST);
        }
    }

    #[test]
    fn a_key_is_never_shown_and_a_short_one_is_weak() {
        let long = session([("SECRET_KEY", "correct-horse-battery-staple-and-more")]);
        assert_eq!(long.weakness(), None);
        assert!(!format!("{long:?}").contains("horse"));
        assert!(session([("SECRET_KEY", "horse")]).weakness().unwrap().contains("shorter"));
    }

    #[test]
    fn an_engine_is_one_of_three_in_any_case() {
        assert_eq!(session([]).engine, SessionEngine::CachedDb);
        assert_eq!(session([("SESSION_ENGINE", "Cache")]).engine, SessionEngine::Cache);
        let error = Config::from_variables([("SESSION_ENGINE", "file")]).unwrap_err().to_string();
        assert!(error.contains("invalid value 'file' for '--session-engine <SESSION_ENGINE>'"), "{error}");
        assert!(error.contains("[possible values: cache, cached_db, db]"), "{error}");
    }
}
