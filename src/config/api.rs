//! Which service `/apicalls` asks.

use std::fmt;

use reqwest::Url;

use super::env::{self, Variables, wrong_secret};

/// As slow as in the tutorial: it waits two seconds before it answers.
const DEFAULT: &str = "https://httpbin.org/delay/2";

/// The external service.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// `API_URL`, the tutorial's by default.
    pub url: ApiUrl,
}

/// A checked `API_URL`. What it shows of itself are scheme, host and port: there may be a password before them and a
/// key behind.
#[derive(Clone)]
pub struct ApiUrl(Url);

impl ApiConfig {
    pub(super) fn from_variables(variables: &Variables) -> Result<Self, env::Error> {
        let url = variables.get("API_URL")?.unwrap_or(DEFAULT);
        let accepted = "an address that begins with http:// or https://, such as https://httpbin.org/delay/2, \
                        with special characters in its user name and password percent-encoded";
        let url = ApiUrl::parse(url).ok_or_else(|| wrong_secret("API_URL", accepted))?;
        Ok(Self { url })
    }
}

impl ApiUrl {
    /// Returns the whole URL, credentials included.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    fn parse(url: &str) -> Option<Self> {
        let url: Url = url.parse().ok()?;
        matches!(url.scheme(), "http" | "https").then_some(Self(url))
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

    fn api<const N: usize>(pairs: [(&str, &str); N]) -> Result<ApiConfig, String> {
        ApiConfig::from_variables(&Variables::from(pairs)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_tutorials_service_is_asked_unless_another_is_named() {
        assert_eq!(api([]).unwrap().url.as_url().as_str(), DEFAULT);
        let other = api([("API_URL", "http://127.0.0.1:9/x?y=z")]).unwrap();
        assert_eq!(other.url.as_url().as_str(), "http://127.0.0.1:9/x?y=z");
    }

    #[test]
    fn a_password_or_a_key_is_never_shown() {
        let config = api([("API_URL", "https://me:hunter2@api.example.com:8443/v1/hunter2?key=hunter2")]);
        assert_eq!(config.as_ref().unwrap().url.to_string(), "https://api.example.com:8443");
        assert!(!format!("{config:?}").contains("hunter2"));
        for unclear in ["https://hunter2/x@api.example.com/", "https://me:1234?hunter2@api.example.com/"] {
            let config = api([("API_URL", unclear)]).unwrap();
            assert_eq!(config.url.to_string(), "https://…", "{unclear}");
        }
    }

    #[test]
    fn a_wrong_value_says_what_is_accepted_and_not_what_it_is() {
        for url in ["hunter2", "ftp://me:hunter2@host/", "http://", "https://:hunter2@/", "file:///hunter2"] {
            let error = api([("API_URL", url)]).unwrap_err();
            assert!(error.starts_with("API_URL is wrong") && error.contains("https://"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
