//! Where the server listens and for whom.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use clap::Args;
use secrecy::SecretString;

use super::value::{Masked, Trimmed, secret, switch};
use neverstale_axum::target::normal_host;

/// Address, host names, and how much visitors are told.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct ServerConfig {
    /// IP address to listen on; by default 127.0.0.1, or all addresses where PORT is set
    #[arg(long, env, value_parser = Trimmed(parse_host))]
    host: Option<IpAddr>,
    /// Port to listen on; by default 8000
    #[arg(long, env, value_parser = Trimmed(parse_port))]
    port: Option<u16>,
    /// Host names that are served, split by commas; .example.com with all below it, * for any
    #[arg(long, env, default_value = "127.0.0.1,localhost,[::1]", value_parser = Trimmed(AllowedHosts::parse))]
    pub allowed_hosts: AllowedHosts,
    /// Show details on error pages, and `/cache` and `/metrics` to everybody; by default as DEVELOPMENT_MODE
    #[arg(long, env, value_parser = switch())]
    debug: Option<bool>,
    /// Password with which the user `admin` sees `/cache` and `/metrics` where DEBUG is off
    #[arg(long, env, value_parser = Masked(secret))]
    pub admin_password: Option<SecretString>,
    /// How many changes a minute one address may send: a number, or `off`
    #[arg(long, env, default_value = "off", value_parser = Trimmed(parse_limit))]
    pub post_limit: std::option::Option<NonZeroU32>,
    /// How many reverse proxies append to X-Forwarded-For, from 0 to 16: the header is believed no further than that
    #[arg(long, env, default_value_t = 0, value_parser = Trimmed(parse_hops))]
    pub trusted_hops: usize,
}

impl ServerConfig {
    /// Returns the address to listen on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let default = if self.port.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        SocketAddr::new(self.host.unwrap_or(default.into()), self.port.unwrap_or(8000))
    }

    /// Returns whether visitors see details of errors and of the cache.
    #[must_use]
    pub fn debug(&self) -> bool {
        self.debug.unwrap_or_default()
    }

    pub(super) fn with_debug(self, default: bool) -> Self {
        Self { debug: self.debug.or(Some(default)), ..self }
    }
}

fn parse_host(value: &str) -> Result<IpAddr, &'static str> {
    if value.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let literal = value.trim_start_matches('[').trim_end_matches(']');
    literal.parse().map_err(|_| "expected an IP address such as 127.0.0.1, 0.0.0.0 or ::1")
}

fn parse_port(value: &str) -> Result<u16, &'static str> {
    value.parse().map_err(|_| "expected a number from 0 to 65535")
}

fn parse_limit(value: &str) -> Result<Option<NonZeroU32>, &'static str> {
    if value.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| "expected a number from 1 on, or off")
}

fn parse_hops(value: &str) -> Result<usize, &'static str> {
    value.parse().ok().filter(|hops| *hops <= 16).ok_or("expected a number from 0 to 16")
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
    fn parse(value: &str) -> Result<Self, &'static str> {
        let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
        let patterns = names.map(Pattern::parse).collect::<Option<Arc<[_]>>>();
        patterns.filter(|patterns| !patterns.is_empty()).map(Self).ok_or(
            "expected host names without scheme and port, split by commas: www.example.com, .example.com with all \
             below it, [::1], or * for any",
        )
    }

    /// Returns whether a host, without its port, is served. Case, a final dot and the form of an IPv6 address do not
    /// matter. What is no host, such as one with a user before it, is not.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        normal_host(host).is_some_and(|host| self.0.iter().any(|pattern| pattern.matches(&host)))
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
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::Config;

    fn server<const N: usize>(variables: [(&str, &str); N]) -> ServerConfig {
        Config::from_variables(variables).unwrap().server
    }

    #[test]
    fn a_port_from_a_platform_opens_all_addresses() {
        assert_eq!(server([]).address().to_string(), "127.0.0.1:8000");
        assert_eq!(server([("PORT", " 5000\n")]).address().to_string(), "0.0.0.0:5000");
        assert_eq!(server([("PORT", "5000"), ("HOST", "::1")]).address().to_string(), "[::1]:5000");
    }

    #[test]
    fn details_are_shown_in_development_unless_they_are_switched_off() {
        assert!(server([]).debug());
        for off in ["False", "off", "0", " NO "] {
            assert!(!server([("DEBUG", off)]).debug(), "{off}");
        }
    }

    #[test]
    fn a_password_keeps_the_blanks_around_it_and_a_blank_one_is_none() {
        let password = |value| server([("ADMIN_PASSWORD", value)]).admin_password;
        assert_eq!(password(" hunter2 ").unwrap().expose_secret(), " hunter2 ");
        assert!(password(" \t").is_none());
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
        let limit = |value| server([("POST_LIMIT", value)]).post_limit.map(NonZeroU32::get);
        assert_eq!(["", "off", "OFF", "1", "30"].map(limit), [None, None, None, Some(1), Some(30)]);
        assert_eq!(server([]).trusted_hops, 0);
        assert_eq!(server([("TRUSTED_HOPS", "2")]).trusted_hops, 2);
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
            let error = Config::from_variables([(name, value)]).unwrap_err().to_string();
            assert!(error.contains(&format!("invalid value '{value}'")), "{error}");
            assert!(error.contains(&format!("<{name}>': expected ")), "{error}");
        }
    }
}
