//! `Origin` as the host is written, where both name the same place.

use axum::extract::Request;
use axum::http::{HeaderValue, header};

use neverstale_axum::target::normal_authority;

/// Writes `Origin` with the host as the request has it, if they are equivalent: the CSRF check compares bytes.
pub(super) fn align(mut request: Request) -> Request {
    if let Some(origin) = aligned(&request) {
        request.headers_mut().insert(header::ORIGIN, origin);
    }
    request
}

fn aligned(request: &Request) -> Option<HeaderValue> {
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let (origin, None) = (origins.next()?.to_str().ok()?, origins.next()) else { return None };
    let (scheme, authority) = origin.split_once("://")?;
    let scheme = ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme))?;
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(header::HOST)?.to_str().ok()?,
    };
    // A default port is that of the scheme that the client has used: behind a proxy only the origin tells it.
    let normal = |authority| normal_authority(authority, scheme == "https").filter(|host| !host.is_empty());
    if normal(authority)? != normal(host)? {
        return None;
    }
    HeaderValue::try_from(format!("{scheme}://{host}")).ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[track_caller]
    fn check(target: &str, host: &str, origin: &str, expected: &str) {
        let request = Request::post(target).header(header::HOST, host).header(header::ORIGIN, origin);
        let request = align(request.body(Body::empty()).unwrap());
        assert_eq!(request.headers()[header::ORIGIN], expected);
    }

    #[test]
    fn an_equivalent_origin_is_written_as_the_host_is() {
        check("/", "example.com", "HTTP://Example.COM:80", "http://example.com");
        check("/", "example.com:443", "https://example.com", "https://example.com:443");
        check("/", "Example.com.", "http://example.com", "http://Example.com.");
        check("/", "[0::1]:8000", "http://[::1]:8000", "http://[0::1]:8000");
        check("http://one.example/", "two.example", "http://ONE.example", "http://one.example");
    }

    #[test]
    fn another_origin_stays_as_it_is() {
        for other in [
            "null",
            "http://example.com:443",
            "https://example.com:80",
            "http://evil.example",
            "ftp://example.com",
            "",
        ] {
            check("/", "example.com", other, other);
        }
        check("/", "example.com", "http://user@example.com", "http://user@example.com");
        check("http://one.example/", "two.example", "http://TWO.example", "http://TWO.example");
    }
}
