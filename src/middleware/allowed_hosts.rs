//! Refuses requests for host names that are not ours.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::server::AllowedHosts;
use crate::error::Error;
use neverstale_axum::target::split_port;

pub(super) async fn check(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    match host(&request) {
        Some(host) if hosts.allows(host) => next.run(request).await,
        Some(host) => refuse(Refusal::NotAllowed { host: host.to_owned(), hosts }),
        None => refuse(Refusal::NotOne),
    }
}

fn refuse(cause: Refusal) -> Response {
    Error::new(StatusCode::BAD_REQUEST, cause).into_response()
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("host {host:?} is not in ALLOWED_HOSTS ({hosts})")]
    NotAllowed { host: String, hosts: AllowedHosts },
    #[error("the request names no host, or more than one")]
    NotOne,
}

/// Returns the one host a request is for, without its port: that of its target if it names one, else of its `Host`
/// header, of which there must be exactly one (RFC 9112, section 3.2).
fn host(request: &Request) -> Option<&str> {
    let mut headers = request.headers().get_all(header::HOST).iter();
    let (header, more) = (headers.next(), headers.next());
    if more.is_some() {
        return None;
    }
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => header?.to_str().ok()?,
    };
    Some(split_port(authority).0)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[track_caller]
    fn check(target: &str, hosts: &[&str], expected: Option<&str>) {
        let mut request = axum::http::Request::builder().uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        assert_eq!(host(&request.body(Body::empty()).unwrap()), expected);
    }

    #[test]
    fn the_host_is_found_without_its_port() {
        check("/", &["example.com"], Some("example.com"));
        check("/", &["example.com:8000"], Some("example.com"));
        check("/", &["[::1]:8000"], Some("[::1]"));
        check("/", &["[::1]"], Some("[::1]"));
        check("/", &["example.com:"], Some("example.com"));
    }

    #[test]
    fn a_target_that_names_a_host_counts_before_the_header() {
        check("http://example.com/", &["other.example"], Some("example.com"));
    }

    #[test]
    fn no_host_or_two_are_none() {
        check("/", &[], None);
        check("/", &["example.com", "example.com"], None);
    }
}
