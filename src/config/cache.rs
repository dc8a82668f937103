//! Which cache, and how a write becomes visible in it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::env::{self, Variables, missing, parse_flag, wrong_secret};
use neverstale::{KeyPrefix, Strategy};
use tokio_memcached::{Credentials, Options, ServerAddress};

/// The families of variables that name memcached servers, the first that is set wins.
const FAMILIES: [&str; 3] = ["MEMCACHIER", "MEMCACHE", "MEMCACHEDCLOUD"];

const ACCEPTED_URL: &str = "locmem://, db://, file:///absolute/directory, dummy:// or \
                            memcached://user:password@host1:11211,host2:11211, \
                            with special characters percent-encoded";

/// Backend, prefix and strategy.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// `CACHE_URL`, else `MEMCACHIER_SERVERS`, `_USERNAME`, `_PASSWORD`, else this process.
    pub backend: BackendConfig,
    /// `CACHE_KEY_PREFIX`, for servers shared with others. Empty by default.
    pub key_prefix: KeyPrefix,
    /// `CACHE_STRATEGY`.
    pub strategy: CacheStrategy,
    /// `CACHE_LOCAL`: whether each process has copies of the current pages and of their rows. Not with a backend that
    /// keeps nothing.
    pub local: bool,
    /// `CACHE_SIGNED`: whether what is stored is signed with a key of `SECRET_KEY`'s. Off by default.
    pub signed: bool,
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

impl CacheStrategy {
    /// The names, for error messages.
    pub const ACCEPTED: &str = "versioned, expire, delete, rotate or update";
}

impl FromStr for CacheStrategy {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        if name == "versioned" { Ok(Self::Versioned) } else { name.parse().map(Self::ByHand) }
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

impl CacheConfig {
    pub(super) fn from_variables(variables: &Variables) -> Result<Self, env::Error> {
        let prefix = variables.parse("CACHE_KEY_PREFIX", KeyPrefix::ACCEPTED, |value| value.parse().ok())?;
        let strategy =
            variables.choice("CACHE_STRATEGY", CacheStrategy::ACCEPTED, |value| value.parse().ok())?;
        let local = variables.parse("CACHE_LOCAL", "on or off", parse_flag)?;
        let signed = variables.parse("CACHE_SIGNED", "on or off", parse_flag)?.unwrap_or(false);
        if signed && variables.get("SECRET_KEY")?.is_none() {
            let because = "CACHE_SIGNED is on, and what is signed with a key drawn at the start no other process \
                           reads; set it, or CACHE_SIGNED=off";
            return Err(missing("SECRET_KEY", because));
        }
        let backend = BackendConfig::from_variables(variables)?;
        Ok(Self {
            local: local.unwrap_or(true) && !matches!(backend, BackendConfig::Dummy),
            signed,
            backend,
            key_prefix: prefix.unwrap_or_default(),
            strategy: strategy.unwrap_or_default(),
        })
    }
}

impl BackendConfig {
    fn from_variables(variables: &Variables) -> Result<Self, env::Error> {
        let through = variables.choice("MEMCACHE_CLIENT", "native or memcache", |client| match client {
            "native" => Some(Self::Memcached as fn(Options) -> Self),
            "memcache" => Some(Self::MemcacheCrate),
            _ => None,
        })?;
        let through = through.unwrap_or(Self::Memcached);
        if let Some(url) = variables.get("CACHE_URL")? {
            return Self::from_url(url, through).ok_or_else(|| wrong_secret("CACHE_URL", ACCEPTED_URL));
        }
        for family in FAMILIES {
            if let Some(options) = options_from_family(variables, family)? {
                return Ok(through(options));
            }
        }
        Ok(Self::Locmem)
    }

    fn from_url(url: &str, through: fn(Options) -> Self) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        match (scheme.to_ascii_lowercase().as_str(), rest) {
            ("locmem", "") => Some(Self::Locmem),
            ("dummy", "") => Some(Self::Dummy),
            ("file", path) => directory_from_path(path).map(Self::File),
            ("db", "") => Some(Self::Database),
            ("memcached", rest) => options_from_authority(rest.trim_end_matches('/')).map(through),
            _ => None,
        }
    }
}

/// Reads `MEMCACHIER_SERVERS`, `_USERNAME`, `_PASSWORD` or those of another family; `None` if none of them is set.
fn options_from_family(variables: &Variables, family: &str) -> Result<Option<Options>, env::Error> {
    let [servers, username, password] =
        ["SERVERS", "USERNAME", "PASSWORD"].map(|part| format!("{family}_{part}"));
    let half = "half a set of credentials; set";
    let credentials = match (variables.get_exactly(&username)?, variables.get_exactly(&password)?) {
        (Some(name), Some(word)) => Some(Credentials { username: name.into(), password: word.into() }),
        (None, None) => None,
        (Some(_), None) => return Err(missing(&password, &format!("{half} it, or unset {username}"))),
        (None, Some(_)) => return Err(missing(&username, &format!("{half} it, or unset {password}"))),
    };
    match (variables.get(&servers)?, credentials) {
        (Some(list), credentials) => {
            let accepted = "host:port, several split by commas, semicolons or blanks";
            let options = options(list, credentials).ok_or_else(|| wrong_secret(&servers, accepted))?;
            Ok(Some(options))
        }
        (None, Some(_)) => {
            Err(missing(&servers, &format!("{username} and {password} are; set it, or unset them")))
        }
        (None, None) => Ok(None),
    }
}

/// Reads `user:password@host:port,host:port`.
fn options_from_authority(authority: &str) -> Option<Options> {
    let (userinfo, servers) = match authority.rsplit_once('@') {
        Some((userinfo, servers)) => (Some(userinfo), servers),
        None => (None, authority),
    };
    let credentials = match userinfo.map(|userinfo| userinfo.split_once(':')) {
        None => None,
        Some(Some((username, password))) if !username.is_empty() && !password.is_empty() => {
            Some(Credentials { username: decode(username)?, password: decode(password)?.into() })
        }
        Some(_) => return None,
    };
    options(servers, credentials)
}

/// Reads a list of servers, which must not be empty.
fn options(list: &str, credentials: Option<Credentials>) -> Option<Options> {
    let names = list.split([',', ';', ' ', '\t', '\n', '\r']).filter(|name| !name.is_empty());
    let servers: Vec<ServerAddress> = names.map(|name| name.parse().ok()).collect::<Option<_>>()?;
    let options = Options::new(servers).ok()?;
    Some(match credentials {
        Some(credentials) => options.credentials(credentials),
        None => options,
    })
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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn backend<const N: usize>(pairs: [(&str, &str); N]) -> Result<BackendConfig, String> {
        BackendConfig::from_variables(&Variables::from(pairs)).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check<const N: usize>(pairs: [(&str, &str); N], servers: &[&str], login: Option<(&str, &str)>) {
        let Ok(BackendConfig::Memcached(config)) = backend(pairs) else {
            panic!("{pairs:?} names no memcached")
        };
        assert_eq!(config.servers().iter().map(ToString::to_string).collect::<Vec<_>>(), servers);
        let credentials = config.get_credentials();
        assert_eq!(credentials.map(|c| (c.username.as_str(), c.password.expose_secret())), login);
    }

    #[test]
    fn without_variables_the_cache_is_this_process() {
        assert!(matches!(backend([]), Ok(BackendConfig::Locmem)));
        assert!(matches!(backend([("CACHE_URL", "locmem://")]), Ok(BackendConfig::Locmem)));
    }

    #[test]
    fn a_scheme_is_one_in_any_case() {
        assert!(matches!(backend([("CACHE_URL", "LOCMEM://")]), Ok(BackendConfig::Locmem)));
        assert!(matches!(backend([("CACHE_URL", "Db://")]), Ok(BackendConfig::Database)));
        assert!(matches!(backend([("CACHE_URL", "Dummy://")]), Ok(BackendConfig::Dummy)));
        assert!(
            matches!(backend([("CACHE_URL", "FILE:///Tmp")]), Ok(BackendConfig::File(path)) if *path == *"/Tmp")
        );
        check([("CACHE_URL", "MemCached://User:Word@h")], &["h:11211"], Some(("User", "Word")));
    }

    #[test]
    fn a_dummy_takes_no_address() {
        assert!(matches!(backend([("CACHE_URL", "dummy://")]), Ok(BackendConfig::Dummy)));
        assert!(backend([("CACHE_URL", "dummy://host")]).is_err());
    }

    #[test]
    fn a_file_url_names_an_absolute_directory() {
        for (url, expected) in [
            ("file:///var/cache/tasklist", "/var/cache/tasklist"),
            ("file:///tmp/a%20b%3F/%C3%A9/", "/tmp/a b?/é/"),
        ] {
            let Ok(BackendConfig::File(directory)) = backend([("CACHE_URL", url)]) else { panic!("{url}") };
            assert_eq!(directory.as_os_str(), expected);
        }
        for url in [
            "file://",
            "file:///",
            "file:///%2F",
            "file:///var/..",
            "file:/var/cache",
            "file://relative/dir",
            "file://localhost/var/cache",
            "file://%2Fvar/cache",
            "file:///var/cache?timeout=60",
            "file:///var/%00",
            "file:///var/%FF",
        ] {
            let error = backend([("CACHE_URL", url)]).unwrap_err();
            assert!(error.contains("file:///absolute/directory"), "{url}: {error}");
        }
    }

    #[test]
    fn the_cache_may_be_in_the_database_and_nowhere_beside_it() {
        assert!(matches!(backend([("CACHE_URL", "db://")]), Ok(BackendConfig::Database)));
        assert!(backend([("CACHE_URL", "db://host/name")]).is_err());
    }

    #[test]
    fn servers_are_split_at_commas_semicolons_and_blanks() {
        let list = "mc1.example.com:11211,mc2.example.com:;10.0.0.3:11212 [::1]:11213  ::1";
        let expected = [
            "mc1.example.com:11211",
            "mc2.example.com:11211",
            "10.0.0.3:11212",
            "[::1]:11213",
            "[::1]:11211",
        ];
        check([("MEMCACHIER_SERVERS", list)], &expected, None);
    }

    #[test]
    fn the_other_families_are_fallbacks() {
        let cloud = [
            ("MEMCACHEDCLOUD_SERVERS", "cloud"),
            ("MEMCACHEDCLOUD_USERNAME", "u"),
            ("MEMCACHEDCLOUD_PASSWORD", "p"),
        ];
        check(cloud, &["cloud:11211"], Some(("u", "p")));
        check([("MEMCACHE_SERVERS", "second"), ("MEMCACHIER_SERVERS", "first")], &["first:11211"], None);
    }

    #[test]
    fn a_url_is_percent_decoded_and_comes_first() {
        let url = ("CACHE_URL", "memcached://u%40x:p%3Aw%2F@h1:11212,h2");
        check([url, ("MEMCACHIER_SERVERS", "other")], &["h1:11212", "h2:11211"], Some(("u@x", "p:w/")));
    }

    #[test]
    fn half_a_set_of_credentials_is_an_error() {
        let error = backend([("MEMCACHIER_SERVERS", "h"), ("MEMCACHIER_USERNAME", "u")]).unwrap_err();
        assert!(error.starts_with("MEMCACHIER_PASSWORD is not set: half a set"), "{error}");
        let error = backend([("MEMCACHIER_USERNAME", "u"), ("MEMCACHIER_PASSWORD", "p")]).unwrap_err();
        assert!(error.starts_with("MEMCACHIER_SERVERS is not set"), "{error}");
    }

    #[test]
    fn signing_needs_a_key_that_others_have_as_well() {
        let signed = |variables| CacheConfig::from_variables(&variables).map(|config| config.signed);
        let on = ("CACHE_SIGNED", "on");
        assert!(!signed(Variables::from([("SECRET_KEY", "k")])).unwrap());
        assert!(!signed(Variables::from([("CACHE_SIGNED", "off")])).unwrap());
        assert!(signed(Variables::from([on, ("SECRET_KEY", "k")])).unwrap());
        let error = signed(Variables::from([on, ("SECRET_KEY", " ")])).unwrap_err().to_string();
        assert!(error.starts_with("SECRET_KEY is not set: CACHE_SIGNED is on"), "{error}");
        let error = signed(Variables::from([("CACHE_SIGNED", "maybe")])).unwrap_err().to_string();
        assert_eq!(error, r#"CACHE_SIGNED is "maybe"; accepted: on or off"#);
    }

    #[test]
    fn wrong_values_are_errors_without_the_password() {
        for url in [
            "memcached://u:hunter2@",
            "memcached://hunter2@h",
            "memcached://hunter2:@h",
            "redis://u:hunter2@h",
            "file:///u:hunter2@h/d",
            "hunter2",
        ] {
            let error = backend([("CACHE_URL", url)]).unwrap_err();
            assert!(error.starts_with("CACHE_URL is wrong") && !error.contains("hunter2"), "{error}");
        }
        for servers in ["host:port", "host:99999", "ho/st", ",", "[::1", "u:hunter2@host"] {
            let error = backend([("MEMCACHIER_SERVERS", servers)]).unwrap_err();
            assert!(
                error.starts_with("MEMCACHIER_SERVERS is wrong") && !error.contains("hunter2"),
                "{error}"
            );
        }
        let config = backend([("CACHE_URL", "memcached://u:hunter2@h")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
