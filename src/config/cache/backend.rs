//! Where cached values are kept.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};

use crate::config::error::{Error, missing};
use crate::config::value::{Masked, Trimmed, choice, secret};
use tokio_memcached::{Credentials, Options, ServerAddress};

/// Where values are kept.
#[derive(Clone, Debug)]
pub enum BackendConfig {
    /// In this process.
    Locmem,
    /// Nowhere.
    Dummy,
    /// In files below an absolute directory.
    File(PathBuf),
    /// In a table of the tasks' database.
    Database,
    /// On memcached servers, through our own client.
    Memcached(Options),
    /// On memcached servers, through the `memcache` crate.
    MemcacheCrate(Options),
}

/// The options of the backend.
#[derive(Debug, Args)]
pub(super) struct BackendArgs {
    /// Where values are kept: memcached://user:password@host1:11211,host2:11211, locmem:// for this process, db:// for
    /// a table of the database, file:///absolute/directory, or dummy://, which keeps nothing; by default on
    /// MEMCACHIER_SERVERS if they are set, else in this process
    #[arg(long, env, value_parser = Masked(Trimmed(BackendConfig::parse)))]
    cache_url: Option<BackendConfig>,
    /// Memcached servers, as host:port, split by commas, semicolons or blanks. The variables MEMCACHE_* and
    /// MEMCACHEDCLOUD_* serve as fallbacks for this and the next two
    #[arg(long, env, value_parser = Masked(Trimmed(parse_servers)))]
    memcachier_servers: Option<Options>,
    /// User name, for servers that ask for one
    #[arg(long, env, value_parser = Masked(secret))]
    memcachier_username: Option<SecretString>,
    /// Password
    #[arg(long, env, value_parser = Masked(secret))]
    memcachier_password: Option<SecretString>,
    #[arg(long, env, hide = true, value_parser = Masked(Trimmed(parse_servers)))]
    memcache_servers: Option<Options>,
    #[arg(long, env, hide = true, value_parser = Masked(secret))]
    memcache_username: Option<SecretString>,
    #[arg(long, env, hide = true, value_parser = Masked(secret))]
    memcache_password: Option<SecretString>,
    #[arg(long, env, hide = true, value_parser = Masked(Trimmed(parse_servers)))]
    memcachedcloud_servers: Option<Options>,
    #[arg(long, env, hide = true, value_parser = Masked(secret))]
    memcachedcloud_username: Option<SecretString>,
    #[arg(long, env, hide = true, value_parser = Masked(secret))]
    memcachedcloud_password: Option<SecretString>,
    /// Client that speaks to memcached
    #[arg(long, env, default_value = "native", value_parser = choice::<MemcacheClient>())]
    memcache_client: MemcacheClient,
}

/// How the program speaks to memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MemcacheClient {
    /// Our own client
    Native,
    /// The crate `memcache`
    Memcache,
}

impl BackendArgs {
    pub(super) fn resolve(self) -> Result<BackendConfig, Error> {
        let through = match self.memcache_client {
            MemcacheClient::Native => BackendConfig::Memcached,
            MemcacheClient::Memcache => BackendConfig::MemcacheCrate,
        };
        match self.cache_url {
            Some(BackendConfig::Memcached(options)) => return Ok(through(options)),
            Some(backend) => return Ok(backend),
            None => {}
        }
        for (family, servers, username, password) in [
            ("MEMCACHIER", self.memcachier_servers, self.memcachier_username, self.memcachier_password),
            ("MEMCACHE", self.memcache_servers, self.memcache_username, self.memcache_password),
            (
                "MEMCACHEDCLOUD",
                self.memcachedcloud_servers,
                self.memcachedcloud_username,
                self.memcachedcloud_password,
            ),
        ] {
            if let Some(options) = family_options(family, servers, username, password)? {
                return Ok(through(options));
            }
        }
        Ok(BackendConfig::Locmem)
    }
}

impl BackendConfig {
    fn parse(url: &str) -> Result<Self, &'static str> {
        Self::from_url(url).ok_or(
            "expected locmem://, db://, file:///absolute/directory, dummy:// or \
             memcached://user:password@host1:11211,host2:11211, with special characters percent-encoded",
        )
    }

    fn from_url(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        match (scheme.to_ascii_lowercase().as_str(), rest) {
            ("locmem", "") => Some(Self::Locmem),
            ("dummy", "") => Some(Self::Dummy),
            ("file", path) => directory_from_path(path).map(Self::File),
            ("db", "") => Some(Self::Database),
            ("memcached", rest) => options_from_authority(rest.trim_end_matches('/')).map(Self::Memcached),
            _ => None,
        }
    }
}

/// Puts a family of variables together; `None` if none of them is set.
fn family_options(
    family: &str,
    servers: Option<Options>,
    username: Option<SecretString>,
    password: Option<SecretString>,
) -> Result<Option<Options>, Error> {
    let part = match (servers, username, password) {
        (servers, None, None) => return Ok(servers),
        (Some(options), Some(username), Some(password)) => {
            let username = username.expose_secret().into();
            return Ok(Some(options.credentials(Credentials { username, password })));
        }
        (_, Some(_), None) => "PASSWORD",
        (_, None, Some(_)) => "USERNAME",
        (None, Some(_), Some(_)) => "SERVERS",
    };
    let because = format!("half a set of credentials; set it, or unset the other variables {family}_…");
    Err(missing(&format!("{family}_{part}"), &because))
}

/// Reads `user:password@host:port,host:port`.
fn options_from_authority(authority: &str) -> Option<Options> {
    let (userinfo, servers) = match authority.rsplit_once('@') {
        Some((userinfo, servers)) => (Some(userinfo), servers),
        None => (None, authority),
    };
    let options = servers_from_list(servers)?;
    match userinfo.map(|userinfo| userinfo.split_once(':')) {
        None => Some(options),
        Some(Some((username, password))) if !username.is_empty() && !password.is_empty() => {
            let (username, password) = (decode(username)?, decode(password)?.into());
            Some(options.credentials(Credentials { username, password }))
        }
        Some(_) => None,
    }
}

/// Reads `/directory`: not empty, and without a host before it, or a query behind it that would be part of the name.
fn directory_from_path(path: &str) -> Option<PathBuf> {
    let directory = PathBuf::from(decode(path)?);
    let is_absolute = path.starts_with('/') && directory.file_name().is_some();
    let is_all = !path.contains(['?', '#', '\0']) && !path.contains("%00");
    // Credentials of a server, after the wrong scheme.
    let has_credentials = directory.to_str()?.split_once(':').is_some_and(|(_, rest)| rest.contains('@'));
    (is_absolute && is_all && !has_credentials).then_some(directory)
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

fn parse_servers(list: &str) -> Result<Options, &'static str> {
    servers_from_list(list).ok_or("expected host:port, several split by commas, semicolons or blanks")
}

fn servers_from_list(list: &str) -> Option<Options> {
    let names = list.split([',', ';', ' ', '\t', '\n', '\r']).filter(|name| !name.is_empty());
    let servers = names.map(|name| name.parse().ok()).collect::<Option<Vec<ServerAddress>>>()?;
    Options::new(servers).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn backend<const N: usize>(variables: [(&str, &str); N]) -> Result<BackendConfig, String> {
        let config = Config::from_variables(variables).map_err(|error| error.to_string())?;
        Ok(config.cache.backend)
    }

    #[track_caller]
    fn check<const N: usize>(variables: [(&str, &str); N], servers: &[&str], login: Option<(&str, &str)>) {
        let Ok(BackendConfig::Memcached(options)) = backend(variables) else { panic!("{variables:?}") };
        assert_eq!(options.servers().iter().map(ToString::to_string).collect::<Vec<_>>(), servers);
        let credentials = options.get_credentials();
        assert_eq!(credentials.map(|c| (c.username.as_str(), c.password.expose_secret())), login);
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn a_scheme_is_one_in_any_case() {
        assert!(matches!(backend([]), Ok(BackendConfig::Locmem)));
        assert!(matches!(backend([("CACHE_URL", "LOCMEM://")]), Ok(BackendConfig::Locmem)));
        assert!(matches!(backend([("CACHE_URL", " Db://")]), Ok(BackendConfig::Database)));
        assert!(matches!(backend([("CACHE_URL", "Dummy://")]), Ok(BackendConfig::Dummy)));
        check([("CACHE_URL", "MemCached://User:Word@h")], &["h:11211"], Some(("User", "Word")));
    }

    #[test]
    fn a_file_url_names_an_absolute_directory() {
        for (url, expected) in [
            ("FILE:///var/cache/tasklist", "/var/cache/tasklist"),
            ("file:///tmp/a%20b%3F/%C3%A9/", "/tmp/a b?/é/"),
        ] {
            let Ok(BackendConfig::File(directory)) = backend([("CACHE_URL", url)]) else { panic!("{url}") };
            assert_eq!(directory.as_os_str(), expected);
        }
    }

    #[test]
    fn servers_come_from_a_url_or_else_from_the_first_family_that_is_set() {
        let list = "mc1.example.com:11211,mc2.example.com:;10.0.0.3:11212 [::1]:11213  ::1";
        let servers = [
            "mc1.example.com:11211",
            "mc2.example.com:11211",
            "10.0.0.3:11212",
            "[::1]:11213",
            "[::1]:11211",
        ];
        check([("MEMCACHIER_SERVERS", list)], &servers, None);
        let cloud = [
            ("MEMCACHEDCLOUD_SERVERS", "cloud"),
            ("MEMCACHEDCLOUD_USERNAME", "u"),
            ("MEMCACHEDCLOUD_PASSWORD", " hunter2 "),
        ];
        check(cloud, &["cloud:11211"], Some(("u", " hunter2 ")));
        check([("MEMCACHE_SERVERS", "second"), ("MEMCACHIER_SERVERS", "first")], &["first:11211"], None);
        let url = ("CACHE_URL", "memcached://u%40x:p%3Aw%2F@h1:11212,h2");
        check([url, ("MEMCACHIER_SERVERS", "other")], &["h1:11212", "h2:11211"], Some(("u@x", "p:w/")));
    }

    #[test]
    fn half_a_set_of_credentials_is_an_error() {
        let [servers, username, password] =
            [("MEMCACHE_SERVERS", "h"), ("MEMCACHE_USERNAME", "u"), ("MEMCACHE_PASSWORD", "p")];
        for (half, missing) in [
            ([servers, username], "MEMCACHE_PASSWORD"),
            ([servers, password], "MEMCACHE_USERNAME"),
            ([username, password], "MEMCACHE_SERVERS"),
        ] {
            let error = backend(half).unwrap_err();
            assert!(error.starts_with(&format!("{missing} is not set: half a set")), "{error}");
        }
    }

    #[test]
    fn wrong_values_are_errors_without_the_password() {
        const FILES: &str = "file:// file:/// file:///%2F file:///var/.. file:/var file://relative/dir \
            file://localhost/var file://%2Fvar file:///var?timeout=60 file:///var/%00 file:///var/%FF \
            file:///u:hunter2@h/d";
        const OTHERS: &str = "memcached://u:hunter2@ memcached://hunter2@h memcached://hunter2:@h \
            redis://u:hunter2@h hunter2 dummy://host db://host/name locmem://x";
        const SERVERS: &str = "host:port host:99999 ho/st , [::1 u:hunter2@host";
        for (variable, values, expected) in [
            ("CACHE_URL", FILES, "expected locmem://"),
            ("CACHE_URL", OTHERS, "expected locmem://"),
            ("MEMCACHIER_SERVERS", SERVERS, "expected host:port"),
        ] {
            for value in values.split_whitespace() {
                let error = backend([(variable, value)]).unwrap_err();
                assert!(
                    error.contains(&format!("<{variable}>' (not shown here): {expected}")),
                    "{value}: {error}"
                );
                assert!(!error.contains("hunter2"), "{error}");
            }
        }
    }
}
