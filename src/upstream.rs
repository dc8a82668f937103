//! The external service behind `/apicalls`: called within limits, and once for all requests that wait.
//!
//! A request accepts any call that ended after the request arrived. So a hundred requests that wait for a hanging
//! service share one call and its failure, and a later request makes a new one. Nothing is kept for later: that is the
//! part of the cache.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url, retry};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::config::ApiConfig;

/// Limit of a whole call, from the look-up of the name to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit for all addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How many redirects are followed.
const REDIRECTS: usize = 3;

/// The longest response that is read, in bytes.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// How much of a response is kept to be shown, in bytes.
const LONGEST_EXCERPT: usize = 8 * 1024;

const USER_AGENT: &str = concat!("tasklist/", env!("CARGO_PKG_VERSION"));

/// A response of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The body, or its first 8 KiB.
    pub text: String,
    /// Whether there was more.
    pub is_cut: bool,
    /// When the response was complete.
    pub fetched_at: SystemTime,
    /// How long the call took.
    pub took: Duration,
}

/// The reason why there is no response. Messages and causes show nothing of the service's URL but the host.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No complete response in time.
    #[error("the service at API_URL did not answer in time")]
    Timeout,
    /// No connection, or no HTTP on it.
    #[error("failed to ask the service at API_URL")]
    Failed(#[source] Arc<reqwest::Error>),
    /// A status other than success.
    #[error("the service at API_URL answered with status {0}")]
    Status(StatusCode),
    /// A longer response than is read.
    #[error("the answer of the service at API_URL is longer than {} KiB", LONGEST_ANSWER / 1024)]
    TooLong,
    /// A response that is no UTF-8.
    #[error("the answer of the service at API_URL is not UTF-8")]
    NotText,
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        // The URL may hold a key in its query.
        if error.is_timeout() { Self::Timeout } else { Self::Failed(Arc::new(error.without_url())) }
    }
}

/// A client of one service. Cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    client: Client,
    url: Arc<Url>,
    /// A request that makes a call holds the lock.
    last: Arc<Mutex<Option<Call>>>,
}

/// A call that has ended.
struct Call {
    ended: Instant,
    outcome: Result<Answer, Error>,
}

impl Upstream {
    /// Makes a client that trusts Mozilla's CA certificates, since the machine may have none. Connects to nothing yet.
    #[must_use]
    pub fn new(config: &ApiConfig) -> Self {
        Self::trusting(config, webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())
    }

    /// Makes a client that trusts the given CA certificates. Connects to nothing yet.
    ///
    /// # Panics
    ///
    /// Never: all other settings are constants.
    #[must_use]
    pub fn trusting(config: &ApiConfig, authorities: RootCertStore) -> Self {
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(authorities)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            // Only `config::env` reads the environment.
            .no_proxy()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::custom(follow))
            .referer(false)
            .retry(retry::never())
            // A call every few minutes finds no connection that is still open.
            .pool_max_idle_per_host(0)
            .build()
            .expect("constants make a client");
        Self { client, url: Arc::new(config.url.as_url().clone()), last: Arc::default() }
    }

    /// Returns the outcome of a call that ended after `since`: that of another request, or its own.
    ///
    /// Waits for the calls of earlier requests, so the caller must set a limit. Each call takes ten seconds at most,
    /// and none begins later than ten seconds after `since`. Does not retry.
    ///
    /// # Errors
    ///
    /// [`Error`], also that of another request's call.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped during its call, the next waiting request makes one.
    pub async fn ask(&self, since: Instant) -> Result<Answer, Error> {
        let mut last = self.last.lock().await;
        if let Some(call) = last.as_ref().filter(|call| call.ended >= since) {
            return call.outcome.clone();
        }
        // After such a wait the request is about to give up, and would drop the call.
        if since.elapsed() >= CALL_TIMEOUT {
            return Err(Error::Timeout);
        }
        let outcome = timeout(CALL_TIMEOUT, self.call()).await.unwrap_or(Err(Error::Timeout));
        *last = Some(Call { ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    async fn call(&self) -> Result<Answer, Error> {
        let started = Instant::now();
        let response = self.client.get(Url::clone(&self.url)).send().await?;
        if !response.status().is_success() {
            return Err(Error::Status(response.status()));
        }
        let text = String::from_utf8(read(response).await?).map_err(|_| Error::NotText)?;
        let excerpt = &text[..text.floor_char_boundary(LONGEST_EXCERPT)];
        Ok(Answer {
            text: excerpt.to_owned(),
            is_cut: excerpt.len() < text.len(),
            fetched_at: SystemTime::now(),
            took: started.elapsed(),
        })
    }
}

/// Shows no credentials.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.url.host_str().unwrap_or_default())
    }
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTS {
        attempt.error("too many redirects")
    } else if !attempt.previous().last().is_some_and(|from| is_same_service(from, attempt.url())) {
        attempt.error("a redirect to another service")
    } else {
        attempt.follow()
    }
}

/// Returns whether a redirect stays on its host, or goes on there over HTTPS. Another host may be one that only this
/// process can reach, and visitors would see its response.
fn is_same_service(from: &Url, to: &Url) -> bool {
    let is_upgrade = (from.scheme(), to.scheme()) == ("http", "https") && from.host() == to.host();
    from.origin() == to.origin() || (is_upgrade && from.port().is_none() && to.port().is_none())
}

/// Reads a body piece by piece, up to the limit.
async fn read(mut response: Response) -> Result<Vec<u8>, Error> {
    let mut body = vec![];
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > LONGEST_ANSWER {
            return Err(Error::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_for_a_service_that_hangs_share_one_call_of_ten_seconds() {
        // It takes connections, and says nothing on them.
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", service.local_addr().unwrap());
        let config = crate::config::Config::from_variables([("API_URL", url.as_str())]).unwrap();
        let (upstream, arrival) = (Upstream::new(&config.api), Instant::now());
        let outcomes = join_all((0..50).map(|_| upstream.ask(arrival))).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(Error::Timeout))), "{outcomes:?}");
        let took = arrival.elapsed().as_secs();
        assert_eq!(took, CALL_TIMEOUT.as_secs(), "by the clock of the test, which goes on while all wait");
        service.set_nonblocking(true).unwrap();
        service.accept().unwrap();
        assert_eq!(service.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "a second call");
    }

    #[test]
    fn a_redirect_stays_with_its_service() {
        let is_followed =
            |from: &str, to: &str| is_same_service(&from.parse().unwrap(), &to.parse().unwrap());
        for (from, to) in [
            ("http://a.example/", "http://a.example:80/b?c"),
            ("https://a.example/", "https://A.example/b"),
            ("http://a.example/", "https://a.example/b"),
            ("http://a.example:8080/", "http://a.example:8080/b"),
        ] {
            assert!(is_followed(from, to), "{from} to {to}");
        }
        for (from, to) in [
            ("https://a.example/", "http://a.example/"),
            ("http://a.example/", "http://b.example/"),
            ("http://a.example/", "https://b.example/"),
            ("http://a.example/", "http://a.example:8080/"),
            ("http://a.example:8080/", "https://a.example/"),
            ("http://a.example/", "https://a.example:8443/"),
            ("http://a.example/", "http://169.254.169.254/"),
            ("http://a.example/", "ftp://a.example/"),
            ("http://a.example/", "file:///etc/passwd"),
        ] {
            assert!(!is_followed(from, to), "{from} to {to}");
        }
    }
}
