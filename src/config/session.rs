//! Where sessions are kept, and what signs their cookies.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::SecretString;

use super::env::{self, Variables};

/// Shorter ones might be guessed.
const LONG_ENOUGH: usize = 32;

/// Engine and key.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// `SESSION_ENGINE`, `cached_db` by default.
    pub engine: SessionEngine,
    /// `SECRET_KEY`, drawn at the start by default.
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
    pub(super) fn from_variables(variables: &Variables) -> Result<Self, env::Error> {
        let engine = variables.parse("SESSION_ENGINE", "cache, cached_db or db", |value| match value {
            "cache" => Some(SessionEngine::Cache),
            "cached_db" => Some(SessionEngine::CachedDb),
            "db" => Some(SessionEngine::Db),
            _ => None,
        })?;
        let given = variables.get_exactly("SECRET_KEY")?;
        let weakness = match given {
            None => {
                Some("SECRET_KEY is not set: sessions end with this process, and others do not know them")
            }
            Some(key) if key.chars().count() < LONG_ENOUGH => {
                Some("SECRET_KEY is shorter than 32 characters")
            }
            Some(_) => None,
        };
        let secret = given.map_or_else(random, String::from).into();
        Ok(Self { engine: engine.unwrap_or(SessionEngine::CachedDb), secret, weakness })
    }
}

fn random() -> String {
    let mut bytes = [0; LONG_ENOUGH];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers");
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn session<const N: usize>(pairs: [(&str, &str); N]) -> SessionConfig {
        SessionConfig::from_variables(&Variables::from(pairs)).unwrap()
    }

    #[test]
    fn a_key_that_is_not_set_is_another_one_each_time() {
        let keys = [session([]), session([("SECRET_KEY", " ")])];
        let [first, second] = keys.each_ref().map(|session| session.secret.expose_secret());
        assert!(first != second && first.len() > 40);
        assert!(keys.iter().all(|session| session.weakness.unwrap().contains("is not set")));
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
            SessionConfig::from_variables(&Variables::from([("SESSION_ENGINE", "file")])).unwrap_err();
        assert_eq!(error.to_string(), r#"SESSION_ENGINE is "file"; accepted: cache, cached_db or db"#);
    }
}
