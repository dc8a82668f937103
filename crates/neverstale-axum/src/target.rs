//! The target of a request: scheme, host and path, normalized as RFC 3986 (section 6) describes.
//!
//! Case, default ports, a final dot, the forms of an IPv6 address and escapes of letters make no difference.
//!
//! ```
//! use axum::http::{HeaderMap, Uri};
//! use neverstale_axum::target::{is_https, normal_authority};
//!
//! assert_eq!(normal_authority("Example.COM.:443", true).as_deref(), Some("example.com"));
//! let forwarded = ("x-forwarded-proto".parse()?, "HTTPS, http".parse()?);
//! let headers = HeaderMap::from_iter([forwarded]);
//! assert!(is_https(&Uri::from_static("/"), &headers));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::net::Ipv6Addr;

use axum::http::uri::{PathAndQuery, Scheme};
use axum::http::{HeaderMap, HeaderName, Uri};

/// The header `X-Forwarded-Proto`, set by a reverse proxy that speaks TLS with the client.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Returns whether a client sent a request over https, as the reverse proxies on the way say.
///
/// Of several values the first counts, which is that of the proxy next to the client, as in Django and Express. Without
/// a value the scheme of the target counts, if it names one.
#[must_use]
pub fn is_https(uri: &Uri, headers: &HeaderMap) -> bool {
    let fields = headers.get_all(X_FORWARDED_PROTO).iter();
    let mut schemes =
        fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    match schemes.find(|scheme| !scheme.is_empty()) {
        Some(scheme) => scheme.eq_ignore_ascii_case(b"https"),
        None => uri.scheme() == Some(&Scheme::HTTPS),
    }
}

/// Returns the normal form of a host with its port, without a default port; none if it is no host.
#[must_use]
pub fn normal_authority(authority: &str, is_https: bool) -> Option<String> {
    let (host, port) = split_port(authority);
    let host = normal_host(host)?;
    let default = if is_https { 443 } else { 80 };
    match port {
        None | Some("") => Some(host),
        Some(port) => {
            let port: u16 = port.parse().ok()?;
            Some(if port == default { host } else { format!("{host}:{port}") })
        }
    }
}

/// Returns the normal form of a host; none if it is no host. An empty host is one.
#[must_use]
pub fn normal_host(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let host = host.strip_suffix('.').unwrap_or(host);
    host.bytes().all(is_name).then(|| host.to_ascii_lowercase())
}

/// Splits a host from its port.
#[must_use]
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Returns a target without the escapes in its path that stand for letters, digits, `-`, `.`, `_` and `~`; none if it
/// has none of them.
#[must_use]
pub fn without_needless_escapes(uri: &Uri) -> Option<Uri> {
    let mut pieces = uri.path().split('%');
    let mut path = pieces.next()?.to_owned();
    for piece in pieces {
        let escaped = piece.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        match escaped.filter(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
            Some(byte) => path.extend([&*char::from(byte).to_string(), &piece[2..]]),
            None => path.extend(["%", piece]),
        }
    }
    if path == uri.path() {
        return None;
    }
    if let Some(query) = uri.query() {
        path.extend(["?", query]);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_came_by_https_if_the_first_proxy_says_so() {
        let is_https = |target: &str, fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(X_FORWARDED_PROTO, field.parse().unwrap());
            }
            is_https(&target.parse().unwrap(), &headers)
        };
        for fields in [
            &["https"][..],
            &["HTTPS"],
            &[" Https "],
            &["https,http"],
            &["https , http"],
            &["", "https"],
            &[", https"],
            &["https", "http"],
        ] {
            assert!(is_https("/", fields), "{fields:?}");
        }
        for fields in
            [&[][..], &["http"], &["http,https"], &["http", "https"], &[""], &["httpss"], &["https:"]]
        {
            assert!(!is_https("/", fields), "{fields:?}");
        }
        assert!(
            is_https("HTTPS://h/", &[]) && !is_https("https://h/", &["http"]) && !is_https("http://h/", &[])
        );
    }

    #[test]
    fn equivalent_hosts_are_equal() {
        for (authority, https, expected) in [
            ("Example.COM", false, "example.com"),
            ("example.com.", false, "example.com"),
            ("example.com:80", false, "example.com"),
            ("example.com:", false, "example.com"),
            ("example.com:0080", false, "example.com"),
            ("example.com:80", true, "example.com:80"),
            ("example.com:443", true, "example.com"),
            ("example.com.:8000", true, "example.com:8000"),
            ("[0:0::0001]:8000", false, "[::1]:8000"),
            ("[2001:DB8::A]", false, "[2001:db8::a]"),
            ("", false, ""),
        ] {
            assert_eq!(normal_authority(authority, https).as_deref(), Some(expected), "{authority}");
        }
        for none in
            ["user@example.com", "a b", "a/b", "a?b", "a#b", "[::1", "::1", "[v1.x]", "caf\u{e9}", "h:70000"]
        {
            assert_eq!(normal_authority(none, false), None, "{none}");
        }
    }

    #[test]
    fn letters_need_no_escapes() {
        for (target, expected) in [
            ("/%63ache", Some("/cache")),
            ("/%63%61che?page=%31", Some("/cache?page=%31")),
            ("http://h/%7Eme", Some("http://h/~me")),
            ("/cache", None),
            ("/a%2Fb%20c%3f%", None),
            ("/%zz%6", None),
        ] {
            let target: Uri = target.parse().unwrap();
            assert_eq!(
                without_needless_escapes(&target).map(|uri| uri.to_string()).as_deref(),
                expected,
                "{target}"
            );
        }
    }
}
