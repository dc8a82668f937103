//! Which service `/apicalls` asks.

use std::fmt;

use clap::Args;
use reqwest::Url;

use super::value::{Masked, Trimmed};

/// The external service.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Demo")]
pub struct ApiConfig {
    /// URL of the external service that `/apicalls` calls; by default the tutorial's, which answers after two seconds
    #[arg(long = "api-url", env = "API_URL", value_name = "API_URL")]
    #[arg(default_value = "https://httpbin.org/delay/2", value_parser = Masked(Trimmed(ApiUrl::parse)))]
    pub url: ApiUrl,
}

/// A checked `API_URL`. What it shows of itself are scheme, host and port: there may be a password before them and a
/// key behind.
#[derive(Clone)]
pub struct ApiUrl(Url);

impl ApiUrl {
    /// Returns the whole URL, credentials included.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    fn parse(url: &str) -> Result<Self, &'static str> {
        let url = url.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.map(Self).ok_or(
            "expected an address that begins with http:// or https://, such as https://httpbin.org/delay/2, \
             with special characters in its user name and password percent-encoded",
        )
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What looks like a host may be half of a password that was not encoded: then an `@` comes after it.
        let rest = [Some(self.0.path()), self.0.query(), self.0.fragment()];
        if rest.into_iter().flatten().any(|part| part.contains('@')) {
            return write!(f, "{}://…", self.0.scheme());
        }
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_or_a_key_is_never_shown() {
        let url = ApiUrl::parse("https://me:hunter2@api.example.com:8443/v1/hunter2?key=hunter2").unwrap();
        assert_eq!(url.to_string(), "https://api.example.com:8443");
        assert!(!format!("{url:?}").contains("hunter2"));
        for unclear in ["https://hunter2/x@api.example.com/", "https://me:1234?hunter2@api.example.com/"] {
            assert_eq!(ApiUrl::parse(unclear).unwrap().to_string(), "https://…", "{unclear}");
        }
    }

    #[test]
    fn a_wrong_value_is_refused() {
        for url in ["hunter2", "ftp://me:hunter2@host/", "http://", "https://:hunter2@/", "file:///hunter2"] {
            assert!(ApiUrl::parse(url).is_err(), "{url}");
        }
    }
}
