//! Which cache, and how a write becomes visible in it.

mod backend;

use std::fmt;

use clap::builder::PossibleValue;
use clap::{ArgAction, Args, ValueEnum};

use self::backend::BackendArgs;
pub use self::backend::BackendConfig;
use super::error::{Error, missing};
use super::value::{Trimmed, choice, switch};
use neverstale::{KeyPrefix, Strategy};

/// Backend, prefix and strategy.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// `CACHE_URL`, else `MEMCACHIER_SERVERS`, `_USERNAME`, `_PASSWORD`, else this process.
    pub backend: BackendConfig,
    /// `CACHE_KEY_PREFIX`.
    pub key_prefix: KeyPrefix,
    /// `CACHE_STRATEGY`.
    pub strategy: CacheStrategy,
    /// `CACHE_LOCAL`, but never with a backend that keeps nothing.
    pub local: bool,
    /// `CACHE_SIGNED`.
    pub signed: bool,
}

/// The options of the cache.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cache")]
pub(super) struct CacheArgs {
    #[command(flatten)]
    backend: BackendArgs,
    /// What is put before all keys, with a colon, for servers shared with others: up to 64 characters without blanks
    #[arg(long, env, default_value = "", hide_default_value = true, value_parser = Trimmed(parse_prefix))]
    cache_key_prefix: KeyPrefix,
    /// How a write becomes visible: by versions, which are never stale, or by one of the tutorial's ways
    #[arg(long, env, default_value = "versioned", value_parser = choice::<CacheStrategy>())]
    cache_strategy: CacheStrategy,
    /// Keep copies of the current pages and of their rows in each process
    #[arg(long, env, default_value = "true", value_parser = switch(), action = ArgAction::Set)]
    cache_local: bool,
    /// Sign what is cached with a key made of SECRET_KEY
    #[arg(long, env, default_value = "false", value_parser = switch(), action = ArgAction::Set)]
    cache_signed: bool,
}

/// How a write becomes visible to readers of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheStrategy {
    /// The database draws a new version with every change, keys hold the version, and a reader first asks which is
    /// current (see [`version`](neverstale::version)). The writer tells the cache nothing.
    ///
    /// Guaranteed, whatever the cache does: once a write has returned, every later read shows it. The price is a round
    /// trip to the database, which all who ask at the same time share, and that without the database there is no page.
    #[default]
    Versioned,
    /// The writer tells the cache, or leaves values to expire.
    ByHand(Strategy),
}

impl ValueEnum for CacheStrategy {
    fn value_variants<'a>() -> &'a [Self] {
        use Strategy::{Delete, Expire, Rotate, Update};
        &[
            Self::Versioned,
            Self::ByHand(Expire),
            Self::ByHand(Delete),
            Self::ByHand(Rotate),
            Self::ByHand(Update),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.to_string()))
    }
}

impl fmt::Display for CacheStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Versioned => f.write_str("versioned"),
            Self::ByHand(strategy) => strategy.fmt(f),
        }
    }
}

impl CacheArgs {
    /// `has_key` says whether other processes may have the key as well.
    pub(super) fn resolve(self, has_key: bool) -> Result<CacheConfig, Error> {
        if self.cache_signed && !has_key {
            let because = "CACHE_SIGNED is on, and what is signed with a key drawn at the start no other process \
                           reads; set it, or CACHE_SIGNED=off";
            return Err(missing("SECRET_KEY", because));
        }
        let backend = self.backend.resolve()?;
        Ok(CacheConfig {
            local: self.cache_local && !matches!(backend, BackendConfig::Dummy),
            backend,
            key_prefix: self.cache_key_prefix,
            strategy: self.cache_strategy,
            signed: self.cache_signed,
        })
    }
}

fn parse_prefix(prefix: &str) -> Result<KeyPrefix, String> {
    prefix.parse().map_err(|_| format!("expected {}", KeyPrefix::ACCEPTED))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn signing_needs_a_key_that_others_have_as_well() {
        let signed = |signed, key| {
            let config = Config::from_variables([("CACHE_SIGNED", signed), ("SECRET_KEY", key)]);
            config.map(|config| config.cache.signed).map_err(|error| error.to_string())
        };
        assert_eq!(
            [signed("", "k"), signed("off", " "), signed("on", "k")],
            [Ok(false), Ok(false), Ok(true)]
        );
        let error = signed("on", " ").unwrap_err();
        assert!(error.starts_with("SECRET_KEY is not set: CACHE_SIGNED is on"), "{error}");
        let error = signed("maybe", "k").unwrap_err();
        assert!(error.contains("invalid value 'maybe' for '--cache-signed <CACHE_SIGNED>'"), "{error}");
        assert!(error.contains("[possible values: true, false]"), "{error}");
    }
}
