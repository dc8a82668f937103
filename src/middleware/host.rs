//! The host that a request is for: one of ours, and the same in `Origin`.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::server::AllowedHosts;
use crate::error::Error;
use neverstale_axum::target::{normal_authority, split_port};

/// Refuses requests for hosts that are not ours.
pub(super) async fn check(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    let refusal = match authority(&request).map(|authority| split_port(authority).0) {
        Some(host) if hosts.allows(host) => return next.run(request).await,
        Some(host) => Refusal::NotAllowed { host: host.to_owned(), hosts },
        None => Refusal::NotOne,
    };
    Error::new(StatusCode::BAD_REQUEST, refusal).into_response()
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("host {host:?} is not in ALLOWED_HOSTS ({hosts})")]
    NotAllowed { host: String, hosts: AllowedHosts },
    #[error("the request names no host, or more than one")]
    NotOne,
}

/// Returns the host of a request, with its port: its target's, else that of its one `Host` header (RFC 9112, section
/// 3.2).
fn authority(request: &Request) -> Option<&str> {
    let mut headers = request.headers().get_all(header::HOST).iter();
    let (header, None) = (headers.next(), headers.next()) else { return None };
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => header?.to_str().ok(),
    }
}

/// Writes `Origin` with the host as the request has it if they are equivalent, since the CSRF check compares bytes.
pub(super) fn align_origin(mut request: Request) -> Request {
    if let Some(origin) = aligned(&request) {
        request.headers_mut().insert(header::ORIGIN, origin);
    }
    request
}

fn aligned(request: &Request) -> Option<HeaderValue> {
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let (origin, None) = (origins.next()?.to_str().ok()?, origins.next()) else { return None };
    let (scheme, origin) = origin.split_once("://")?;
    let scheme = ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme))?;
    let host = authority(request)?;
    // A default port is that of the scheme that the client has used: behind a proxy only the origin tells it.
    let normal = |authority| normal_authority(authority, scheme == "https").filter(|host| !host.is_empty());
    if normal(origin)? != normal(host)? {
        return None;
    }
    HeaderValue::try_from(format!("{scheme}://{host}")).ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_target_that_names_a_host_counts_before_the_one_header() {
        for (target, hosts, expected) in [
            ("/", &["example.com:8000"][..], Some("example.com:8000")),
            ("http://example.com/", &["other.example"], Some("example.com")),
            ("/", &[], None),
            ("/", &["example.com", "example.com"], None),
        ] {
            let mut request = axum::http::Request::builder().uri(target);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            assert_eq!(authority(&request.body(Body::empty()).unwrap()), expected, "{target} {hosts:?}");
        }
    }

    #[test]
    fn an_equivalent_origin_is_written_as_the_host_is_and_another_stays() {
        let user = "http://user@example.com";
        for (target, host, origin, expected) in [
            ("/", "example.com", "HTTP://Example.COM:80", "http://example.com"),
            ("/", "example.com:443", "https://example.com", "https://example.com:443"),
            ("/", "Example.com.", "http://example.com", "http://Example.com."),
            ("/", "[0::1]:8000", "http://[::1]:8000", "http://[0::1]:8000"),
            ("http://one.example/", "two.example", "http://ONE.example", "http://one.example"),
            ("http://one.example/", "two.example", "http://TWO.example", "http://TWO.example"),
            ("/", "example.com", "null", "null"),
            ("/", "example.com", "http://example.com:443", "http://example.com:443"),
            ("/", "example.com", "https://example.com:80", "https://example.com:80"),
            ("/", "example.com", "http://evil.example", "http://evil.example"),
            ("/", "example.com", "ftp://example.com", "ftp://example.com"),
            ("/", "example.com", "", ""),
            ("/", "example.com", user, user),
        ] {
            let request = Request::post(target).header(header::HOST, host).header(header::ORIGIN, origin);
            let request = align_origin(request.body(Body::empty()).unwrap());
            assert_eq!(request.headers()[header::ORIGIN], expected, "{target} {host} {origin}");
        }
    }
}
