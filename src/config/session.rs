//! Where sessions are kept, and what signs their cookies.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::env::{self, Variables, missing};
use neverstale::Secret;

/// Shorter ones might be guessed.
const LONG_ENOUGH: usize = 32;

/// Engine and key.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// `SESSION_ENGINE`, `cached_db` by default.
    pub engine: SessionEngine,
    /// `SECRET_KEY`, drawn at the start by default, in development only.
    pub secret: SecretString,
    /// What is not as it should be with the key, for a site that is deployed.
    pub weakness: Option<&'static str>,
}

/// Where sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEngine {
    /// In the cache: gone when it is emptied.
    Cache,
    /// In the database, and read through the cache.
    CachedDb,
    /// In the database.
    Db,
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
    pub(super) fn from_variables(variables: &Variables, development: bool) -> Result<Self, env::Error> {
        let engine = variables.choice("SESSION_ENGINE", "cache, cached_db or db", |value| match value {
            "cache" => Some(SessionEngine::Cache),
            "cached_db" => Some(SessionEngine::CachedDb),
            "db" => Some(SessionEngine::Db),
            _ => None,
        })?;
        let given = variables.get_exactly("SECRET_KEY")?;
        let weakness = match given {
            None if !development => {
                let because = "with DEVELOPMENT_MODE off all processes sign with one key; set it to the output of \
                               `openssl rand -hex 32`";
                return Err(missing("SECRET_KEY", because));
            }
            None => None,
            Some(key) if key.chars().count() < LONG_ENOUGH => {
                Some("SECRET_KEY is shorter than 32 characters")
            }
            Some(_) => None,
        };
        let secret = given.map_or_else(random, String::from).into();
        Ok(Self { engine: engine.unwrap_or(SessionEngine::CachedDb), secret, weakness })
    }

    /// Returns the secret that the app signs with: the key, or a hash of a key that is short.
    #[must_use]
    pub fn signing_secret(&self) -> Secret {
        let key = self.secret.expose_secret().as_bytes();
        key.try_into().unwrap_or_else(|_| {
            Sha256::digest(key)[..].try_into().expect("a hash has 32 bytes, which are not all the same")
        })
    }
}

fn random() -> String {
    let mut bytes = [0; LONG_ENOUGH];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers");
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session<const N: usize>(pairs: [(&str, &str); N]) -> SessionConfig {
        SessionConfig::from_variables(&Variables::from(pairs), true).unwrap()
    }

    #[test]
    fn a_key_that_is_not_set_is_another_one_each_time() {
        let keys = [session([]), session([("SECRET_KEY", " ")])];
        let [first, second] = keys.each_ref().map(|session| session.secret.expose_secret());
        assert!(first != second && first.len() > 40);
        assert!(keys.iter().all(|session| session.weakness.is_none()));
    }

    #[test]
    fn in_production_a_key_that_is_missing_or_blank_is_an_error() {
        let blank = ["", " ", "\t\n", "\u{a0}\u{2003}"].map(|key| Variables::from([("SECRET_KEY", key)]));
        for variables in [Variables::default()].into_iter().chain(blank) {
            let error = SessionConfig::from_variables(&variables, false).unwrap_err().to_string();
            assert!(error.starts_with("SECRET_KEY is not set: with DEVELOPMENT_MODE off"), "{error}");
        }
        assert!(SessionConfig::from_variables(&Variables::from([("SECRET_KEY", "horse")]), false).is_ok());
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
        assert_eq!(long.weakness, None);
        assert!(!format!("{long:?}").contains("horse"));
        assert!(session([("SECRET_KEY", "horse")]).weakness.unwrap().contains("shorter"));
    }

    #[test]
    fn an_engine_is_one_of_three() {
        assert_eq!(session([]).engine, SessionEngine::CachedDb);
        assert_eq!(session([("SESSION_ENGINE", "cache")]).engine, SessionEngine::Cache);
        let error =
            SessionConfig::from_variables(&Variables::from([("SESSION_ENGINE", "file")]), true).unwrap_err();
        assert_eq!(error.to_string(), r#"SESSION_ENGINE is "file"; accepted: cache, cached_db or db"#);
    }
}
