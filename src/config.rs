//! Everything that can be set from outside, one struct per concern, read once at the start.
//!
//! A value comes from the environment or, if it is not set there, from `.env`. A wrong one ends the program with an
//! error that names the variable, the value unless it may be a secret, and what is accepted.
//!
//! ```
//! use tasklist::config::{Config, Variables};
//!
//! let config = Config::from_variables(&Variables::from([("PORT", "5000"), ("CACHE_STRATEGY", "delete")]))?;
//! assert_eq!(config.server.address.to_string(), "0.0.0.0:5000");
//! assert_eq!(config.cache.strategy.to_string(), "delete");
//!
//! let wrong = Config::from_variables(&Variables::from([("PORT", "http")])).unwrap_err();
//! assert_eq!(wrong.to_string(), r#"PORT is "http"; accepted: a port number from 0 to 65535"#);
//! let secret = Config::from_variables(&Variables::from([("CACHE_URL", "memcached://user:hunter2")])).unwrap_err();
//! assert!(!secret.to_string().contains("hunter2"));
//! # Ok::<_, tasklist::config::Error>(())
//! ```

pub mod api;
pub mod cache;
pub mod database;
pub mod env;
pub mod log;
pub mod server;
pub mod session;

pub use self::api::ApiConfig;
pub use self::cache::CacheConfig;
pub use self::database::DatabaseConfig;
pub use self::env::{Error, Variables};
pub use self::log::LogConfig;
pub use self::server::ServerConfig;
pub use self::session::SessionConfig;

/// The whole configuration. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// `DEVELOPMENT_MODE`, on by default: `serve` migrates by itself, and a database need not be named.
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

impl Config {
    /// Makes the configuration of the variables.
    ///
    /// # Errors
    ///
    /// The first wrong value found.
    pub fn from_variables(variables: &Variables) -> Result<Self, Error> {
        let development = variables.flag("DEVELOPMENT_MODE")?.unwrap_or(true);
        Ok(Self {
            development,
            server: ServerConfig::from_variables(variables, development)?,
            database: DatabaseConfig::from_variables(variables, development)?,
            cache: CacheConfig::from_variables(variables)?,
            session: SessionConfig::from_variables(variables, development)?,
            api: ApiConfig::from_variables(variables)?,
            log: LogConfig::from_variables(variables)?,
        })
    }
}
