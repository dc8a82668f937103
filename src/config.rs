//! Everything that can be set from outside, one struct per concern. Each variable is also an option of the commands.
//!
//! A value comes from the command line, else from the environment, else from `.env` in the current directory. A wrong
//! one ends the program with an error that names the variable, the value unless it may be a secret, and what is
//! accepted.
//!
//! ```
//! use tasklist::config::Config;
//!
//! let config = Config::from_variables([("PORT", "5000"), ("CACHE_STRATEGY", "delete")])?;
//! assert_eq!(config.server.address().to_string(), "0.0.0.0:5000");
//! assert_eq!(config.cache.strategy.to_string(), "delete");
//!
//! let wrong = Config::from_variables([("PORT", "http")]).unwrap_err();
//! assert!(wrong.to_string().contains("invalid value 'http' for '--port <PORT>': expected a number from 0 to 65535"));
//! let secret = Config::from_variables([("CACHE_URL", "memcached://user:hunter2")]).unwrap_err();
//! assert!(!secret.to_string().contains("hunter2"));
//! # Ok::<_, tasklist::config::Error>(())
//! ```

pub mod api;
pub mod cache;
pub mod database;
pub mod env;
mod error;
pub mod log;
pub mod server;
pub mod session;
mod value;

use std::time::Duration;

use clap::{ArgAction, Args, Command, FromArgMatches};
use secrecy::SecretString;

pub use self::api::ApiConfig;
pub use self::cache::CacheConfig;
pub use self::database::DatabaseConfig;
pub use self::error::Error;
pub use self::log::LogConfig;
pub use self::server::ServerConfig;
pub use self::session::SessionConfig;
use self::session::SessionEngine;
use self::value::{Masked, Trimmed, choice, secret, switch};

/// The whole configuration. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// `DEVELOPMENT_MODE`.
    pub development: bool,
    /// Address, hosts, debug.
    pub server: ServerConfig,
    /// The database.
    pub database: DatabaseConfig,
    /// The cache.
    pub cache: CacheConfig,
    /// Sessions.
    pub session: SessionConfig,
    /// The service that `/apicalls` asks.
    pub api: ApiConfig,
    /// The log.
    pub log: LogConfig,
}

/// All options that are also variables.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Migrate the database at the start, and run without SECRET_KEY and DATABASE_URL; `false` in production
    #[arg(long, env, default_value = "true", value_parser = switch(), action = ArgAction::Set)]
    #[arg(help_heading = "General")]
    development_mode: bool,
    /// Key that signs the visitors' cookies, the same for all processes, such as the output of `openssl rand -hex 32`;
    /// by default drawn at each start, and needed in production
    #[arg(long, env, value_parser = Masked(secret), help_heading = "General")]
    secret_key: Option<SecretString>,
    #[command(flatten)]
    server: ServerConfig,
    #[command(flatten)]
    database: database::DatabaseArgs,
    #[command(flatten)]
    cache: cache::CacheArgs,
    /// Where sessions are kept
    #[arg(long, env, default_value = "cached_db", value_parser = choice::<SessionEngine>())]
    #[arg(help_heading = "Sessions")]
    session_engine: SessionEngine,
    /// How long the list's query sleeps, as the tutorial's does: up to 20s, such as 2s or 500ms
    #[arg(long, env, default_value = "0s", value_parser = Trimmed(database::parse_duration), help_heading = "Demo")]
    slow_query: Duration,
    #[command(flatten)]
    api: ApiConfig,
    #[command(flatten)]
    log: LogConfig,
}

impl Config {
    /// Makes a configuration of these variables. The process's own environment is not read.
    ///
    /// # Errors
    ///
    /// The first wrong value found.
    pub fn from_variables<'a>(
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Error> {
        let command = env::without_variables(ConfigArgs::augment_args(Command::new("tasklist")));
        let variables = variables.into_iter().filter(|(_, value)| !env::is_blank(value.as_ref()));
        let options = variables.map(|(name, value)| {
            let name = name.to_ascii_lowercase().replace('_', "-");
            format!("--{name}={value}")
        });
        let matches = command.no_binary_name(true).try_get_matches_from(options)?;
        ConfigArgs::from_arg_matches(&matches)?.try_into()
    }
}

impl TryFrom<ConfigArgs> for Config {
    type Error = Error;

    fn try_from(args: ConfigArgs) -> Result<Self, Error> {
        let development = args.development_mode;
        Ok(Self {
            development,
            server: args.server.with_debug(development),
            database: args.database.resolve(development, args.slow_query)?,
            cache: args.cache.resolve(args.secret_key.is_some())?,
            session: SessionConfig::new(args.session_engine, args.secret_key, development)?,
            api: args.api,
            log: args.log,
        })
    }
}
