//! Where the server listens and for whom.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use secrecy::SecretString;

use super::env::{self, Variables};
use neverstale_axum::target::normal_host;

/// Address, host names, and how much visitors are told.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `HOST` and `PORT`, `127.0.0.1:8000` by default. Where a platform sets `PORT`, all addresses are served.
    pub address: SocketAddr,
    /// `ALLOWED_HOSTS`, this machine's own names by default.
    pub allowed_hosts: AllowedHosts,
    /// `DEBUG`, the value of `DEVELOPMENT_MODE` by default: details on error pages, and `/cache` and `/metrics` for
    /// everybody.
    pub debug: bool,
    /// `ADMIN_PASSWORD`: who knows it sees `/cache` and `/metrics` where `debug` is off. Unset by default.
    pub admin_password: Option<SecretString>,
    /// `POST_LIMIT`: how many POSTs a minute are taken from one address. Unset, or `off`: any number.
    pub post_limit: Option<NonZeroU32>,
    /// `TRUSTED_HOPS`: how many routers in front append to `X-Forwarded-For`. None by default: then nobody's header is
    /// believed.
    pub trusted_hops: usize,
}

impl ServerConfig {
    pub(super) fn from_variables(variables: &Variables, development: bool) -> Result<Self, env::Error> {
        let port = variables.parse("PORT", "a port number from 0 to 65535", |value| value.parse().ok())?;
        let host = variables.parse("HOST", "an IP address such as 127.0.0.1, 0.0.0.0 or ::1", parse_host)?;
        let fallback = if port.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let hosts = variables.parse(
            "ALLOWED_HOSTS",
            "host names without scheme and port, split by commas: www.example.com, .example.com with all below it, \
             [::1], or * for any",
            AllowedHosts::parse,
        )?;
        let post_limit = variables.parse("POST_LIMIT", "a number from 1 on, or off", parse_limit)?;
        let hops = variables.parse("TRUSTED_HOPS", "a number from 0 to 16", parse_hops)?;
        Ok(Self {
            address: SocketAddr::new(host.unwrap_or(fallback.into()), port.unwrap_or(8000)),
            allowed_hosts: hosts.unwrap_or_default(),
            debug: variables.flag("DEBUG")?.unwrap_or(development),
            admin_password: variables.get_exactly("ADMIN_PASSWORD")?.map(Into::into),
            post_limit: post_limit.flatten(),
            trusted_hops: hops.unwrap_or(0),
        })
    }
}

fn parse_limit(value: &str) -> Option<Option<NonZeroU32>> {
    if value.eq_ignore_ascii_case("off") { Some(None) } else { value.parse().ok().map(Some) }
}

fn parse_hops(value: &str) -> Option<usize> {
    value.parse().ok().filter(|hops| *hops <= 16)
}

fn parse_host(value: &str) -> Option<IpAddr> {
    if value.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    value.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The host names that are served: a request for any other is refused, since links and cached pages would carry it.
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct AllowedHosts(Arc<[Pattern]>);

#[derive(Clone, Debug, PartialEq)]
enum Pattern {
    Any,
    Exact(String),
    /// `.example.com`: that name and all below it.
    Domain(String),
}

impl AllowedHosts {
    fn parse(value: &str) -> Option<Self> {
        let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
        let patterns = names.map(Pattern::parse).collect::<Option<Arc<[_]>>>();
        patterns.filter(|patterns| !patterns.is_empty()).map(Self)
    }

    /// Returns whether a host, without its port, is served. Case, a final dot and the form of an IPv6 address do not
    /// matter. What is no host, such as one with a user before it, is not.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        normal_host(host).is_some_and(|host| self.0.iter().any(|pattern| pattern.matches(&host)))
    }
}

impl Default for AllowedHosts {
    fn default() -> Self {
        Self(["127.0.0.1", "localhost", "[::1]"].map(|name| Pattern::Exact(name.into())).into())
    }
}

impl fmt::Display for AllowedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pattern) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match pattern {
                Pattern::Any => write!(f, "{comma}*")?,
                Pattern::Exact(name) => write!(f, "{comma}{name}")?,
                Pattern::Domain(name) => write!(f, "{comma}.{name}")?,
            }
        }
        Ok(())
    }
}

impl Pattern {
    fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        if name == "*" {
            return Some(Self::Any);
        }
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>() {
            return Some(Self::Exact(format!("[{address}]")));
        }
        let name = name.strip_suffix('.').unwrap_or(&name);
        let bare = name.strip_prefix('.').unwrap_or(name);
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        // With an empty label it would match no host.
        if bare.split('.').any(str::is_empty) || !bare.chars().all(is_host) {
            return None;
        }
        let pattern = if bare.len() < name.len() { Self::Domain } else { Self::Exact };
        Some(pattern(bare.to_owned()))
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => host == name,
            Self::Domain(name) => {
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server<const N: usize>(pairs: [(&str, &str); N]) -> Result<ServerConfig, String> {
        ServerConfig::from_variables(&Variables::from(pairs), true).map_err(|error| error.to_string())
    }

    #[test]
    fn a_port_from_a_platform_opens_all_addresses() {
        assert_eq!(server([]).unwrap().address.to_string(), "127.0.0.1:8000");
        assert_eq!(server([("PORT", "5000")]).unwrap().address.to_string(), "0.0.0.0:5000");
        assert_eq!(server([("PORT", "5000"), ("HOST", "::1")]).unwrap().address.to_string(), "[::1]:5000");
    }

    #[test]
    fn a_domain_with_a_leading_dot_stands_for_all_below_it() {
        let hosts = AllowedHosts::parse(".example.com, [::1]").unwrap();
        for host in ["example.com", "www.example.com", "WWW.Example.COM.", "[::1]"] {
            assert!(hosts.allows(host), "{host}");
        }
        for host in ["badexample.com", "example.com.evil.net", "localhost", ""] {
            assert!(!hosts.allows(host), "{host}");
        }
        assert!(AllowedHosts::parse("*").unwrap().allows("anything"));
        for none in ["user@localhost", "a b", "a/b", "[::1", "::1"] {
            assert!(!AllowedHosts::parse("*").unwrap().allows(none), "{none}");
        }
    }

    #[test]
    fn equivalent_hosts_are_served_however_they_are_written() {
        let hosts = AllowedHosts::parse("Example.com., .Example.NET., [0:0::1], 2001:DB8::7").unwrap();
        for host in
            ["example.com", "EXAMPLE.com.", "www.example.net", "[::1]", "[0::0001]", "[2001:db8:0::7]"]
        {
            assert!(hosts.allows(host), "{host}");
        }
        assert!(!hosts.allows("example.com.."));
        assert_eq!(hosts.to_string(), "example.com, .example.net, [::1], [2001:db8::7]");
    }

    #[test]
    fn posts_are_limited_where_a_number_says_so() {
        let limit = |value| server([("POST_LIMIT", value)]).unwrap().post_limit.map(NonZeroU32::get);
        assert_eq!(server([]).unwrap().post_limit, None);
        assert_eq!(["off", "OFF", "1", "30"].map(limit), [None, None, Some(1), Some(30)]);
        assert_eq!(server([]).unwrap().trusted_hops, 0);
        assert_eq!(server([("TRUSTED_HOPS", "2")]).unwrap().trusted_hops, 2);
    }

    #[test]
    fn wrong_values_say_what_is_accepted() {
        for (name, value) in [
            ("PORT", "70000"),
            ("HOST", "nowhere!"),
            ("ALLOWED_HOSTS", "https://example.com"),
            ("ALLOWED_HOSTS", "example.com.."),
            ("ALLOWED_HOSTS", "..example.com"),
            ("POST_LIMIT", "0"),
            ("POST_LIMIT", "many"),
            ("TRUSTED_HOPS", "-1"),
            ("TRUSTED_HOPS", "17"),
        ] {
            let error = server([(name, value)]).unwrap_err();
            assert!(error.starts_with(&format!("{name} is {value:?}; accepted: ")), "{error}");
        }
    }
}
