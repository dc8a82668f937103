//! The keys of a page: of its URL, the request headers it varies on, and the path whose generation it bears.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::OriginalUri;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use base16ct::lower::encode_string;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use super::target::{is_https, normal_authority};
use neverstale::Key;

/// The keys of a request's page.
pub(super) struct PageKey {
    /// Of the generation that a page must bear to count. It belongs to the path, for every host, scheme and query.
    pub(super) generation: Key,
    /// The version that a page must show in place of that. It is in the page's key.
    pub(super) version: Option<Arc<str>>,
    pub(super) page: Key,
}

impl PageKey {
    /// Returns the keys of a request's page; none if the request does not name one host that could be part of a URL.
    pub(super) fn of(
        request: &Parts,
        prefix: &str,
        parameters: Option<&[String]>,
        digest: &str,
    ) -> Option<Self> {
        // Inside a nested router the request's own URI has lost its first part.
        let uri = request.extensions.get::<OriginalUri>().map_or(&request.uri, |original| &original.0);
        let is_https = is_https(uri, &request.headers);
        let host = host(uri, &request.headers, is_https)?;
        let scheme = if is_https { "https" } else { "http" };
        let query = query(uri.query(), parameters);
        // A URL has no `#`: what comes after it is ours, and no other URL's key.
        let url = escape(format!("{scheme}://{host}{}{query}", uri.path()).as_bytes());
        let digest =
            if digest.is_empty() { String::new() } else { format!("{}.", escape(digest.as_bytes())) };
        // A client chooses how long a URL is, and this process keeps the keys of many.
        let page = format!("{}:GET:{url}#{digest}", prefix_part(prefix));
        let page = Key::reserved("view.page", &page).shortened();
        Some(Self { generation: generation(prefix, uri.path()), version: None, page })
    }

    /// Returns the keys of the same page at one version.
    pub(super) fn at(&self, version: Arc<str>) -> Self {
        let page = self.page.at(&version);
        Self { generation: self.generation.clone(), version: Some(version), page }
    }
}

/// Returns the key of a path's generation. Every spelling of a path has the same one, since it leads to the same
/// handler.
pub(super) fn generation(prefix: &str, path: &str) -> Key {
    let path: Cow<'_, [u8]> = percent_decode_str(path).into();
    Key::reserved("view.generation", &format!("{}:{}#", prefix_part(prefix), escape(&path)))
}

/// Returns the key of a page for these values of the headers it varies on; its own key, if there are none.
pub(super) fn learn_cache_key(page: &Key, vary_on: &[String], request: &HeaderMap) -> Key {
    if vary_on.is_empty() { page.clone() } else { page.derive("#", &variant(vary_on, request)) }
}

/// Returns a digest of the request's values of headers: each name and value with its length before it (a netstring), so
/// that no two lists look alike, and a missing header is not an empty one. Values may be secret, so they are hashed.
pub(super) fn variant(vary_on: &[String], request: &HeaderMap) -> String {
    if vary_on.is_empty() {
        return String::new();
    }
    let mut hash = Sha256::new();
    for name in vary_on {
        netstring(&mut hash, name.as_bytes());
        for value in request.get_all(name) {
            netstring(&mut hash, value.as_bytes());
        }
        hash.update("-,");
    }
    encode_string(&hash.finalize()[..16])
}

fn netstring(hash: &mut Sha256, bytes: &[u8]) {
    hash.update(format!("{}:", bytes.len()));
    hash.update(bytes);
    hash.update(",");
}

/// Returns the part between the kind of key and its first colon, which has no colon itself.
fn prefix_part(prefix: &str) -> String {
    if prefix.is_empty() {
        String::new()
    } else {
        format!(".{}", escape(prefix.as_bytes()).replace(':', "\\x3a"))
    }
}

/// Makes bytes readable, and different bytes different.
fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace(' ', "\\x20")
}

/// Returns the one host that a request names, with its port; an empty one if it names none.
fn host(uri: &Uri, headers: &HeaderMap, is_https: bool) -> Option<String> {
    if let Some(authority) = uri.authority() {
        return normal_authority(authority.as_str(), is_https);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Some(String::new()),
        (Some(host), None) => normal_authority(host.to_str().ok()?, is_https).filter(|host| !host.is_empty()),
        _ => None,
    }
}

/// Returns the part of a query that counts, with its `?`: all of it, or the named parameters by name.
fn query(query: Option<&str>, parameters: Option<&[String]>) -> String {
    match (query, parameters) {
        (None, _) => String::new(),
        (Some(query), None) => format!("?{query}"),
        (Some(query), Some(parameters)) => {
            let pairs = query.split('&').map(|pair| (parameter(pair), pair));
            let mut pairs: Vec<_> = pairs.filter(|(name, _)| parameters.contains(name)).collect();
            // Stable: of a parameter that is there twice, a handler may take the first or the last.
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            let pairs: Vec<_> = pairs.into_iter().map(|(_, pair)| pair).collect();
            if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
        }
    }
}

/// Returns the name of a parameter as a handler reads it, else `%70age=2` would be stored as the page without `page`.
fn parameter(pair: &str) -> String {
    let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
    percent_decode_str(&name).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::Request;

    use super::*;
    use neverstale::KeyPrefix;

    fn page_key(uri: &str, headers: &[(&str, &str)], parameters: &[&str]) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parameters: Vec<_> = parameters.iter().map(ToString::to_string).collect();
        let parameters = Some(&*parameters).filter(|names| !names.is_empty());
        let (parts, ()) = request.body(()).unwrap().into_parts();
        PageKey::of(&parts, "", parameters, "1f").map(|keys| keys.page.to_string())
    }

    #[test]
    fn a_key_is_the_url_with_the_query_that_counts() {
        for (uri, host, parameters, url) in [
            ("/x?b=1&a=2", "example.com:8000", &[][..], "http://example.com:8000/x?b=1&a=2"),
            ("http://one.example/", "two.example", &[], "http://one.example/"),
            ("/?b=2&x=3&a=1", "h", &["a", "b"], "http://h/?a=1&b=2"),
            ("/?a=1&b=2", "h", &["a", "b"], "http://h/?a=1&b=2"),
            ("/?x=3", "h", &["a", "b"], "http://h/"),
            ("/?%70age=2", "h", &["page"], "http://h/?%70age=2"),
            ("/", "H.:80", &[], "http://h/"),
            ("HTTP://[0::1]:80/", "h", &[], "http://[::1]/"),
        ] {
            let expected = format!("~view.page:GET:{url}#1f.");
            assert_eq!(page_key(uri, &[("host", host)], parameters), Some(expected), "{uri}");
        }
    }

    #[test]
    fn a_key_is_short_however_long_the_url() {
        let [one, other] = ["1", "2"].map(|end| {
            let uri = format!("/?page={}{end}", "x".repeat(60_000));
            page_key(&uri, &[("host", "h")], &["page"]).unwrap()
        });
        assert_ne!(one, other);
        assert!(
            one.starts_with("~view.page:GET:http://h/?page=x") && one.len() <= 250,
            "{} bytes",
            one.len()
        );
    }

    #[test]
    fn a_host_that_is_none_has_no_key() {
        for host in ["a/b", "a b", "a?b", "a#b", "user@a", "a:b", ""] {
            assert_eq!(page_key("/", &[("host", host)], &[]), None, "{host}");
        }
        assert_eq!(page_key("/", &[("host", "a"), ("host", "b")], &[]), None);
    }

    #[test]
    fn https_is_what_the_proxy_in_front_says() {
        for host in ["h", "H.", "h:443"] {
            let key = page_key("/", &[("host", host), ("x-forwarded-proto", "HTTPS,http")], &[]);
            assert_eq!(key.as_deref(), Some("~view.page:GET:https://h/#1f."));
        }
    }

    #[test]
    fn a_generation_is_that_of_all_ways_to_write_a_path() {
        assert_eq!(generation("", "/%78"), generation("", "/x"));
        assert_ne!(generation("", "/x"), generation("a", "/x"));
        assert_eq!(generation("shop", "/a%20b").to_string(), "~view.generation.shop:/a\\x20b#");
    }

    #[test]
    fn a_version_and_a_generation_may_be_any_text() {
        let page = generation("", "/x");
        let texts = ["", " ", "a b", "\r\n", "~", "~lock", "1#", "1~#", "\u{2028}"];
        let keys =
            texts.map(|text| [page.at(text), page.derive("build:", text), page.at(text).derive("lock", "")]);
        let names: BTreeSet<_> = keys.iter().flatten().map(|key| KeyPrefix::default().apply(key)).collect();
        assert_eq!(names.len(), 3 * texts.len(), "{names:?}");
        assert!(names.iter().all(|name| Key::as_stored(name.as_str()).is_ok()), "{names:?}");
    }

    #[test]
    fn prefixes_and_urls_make_no_key_of_each_other() {
        let one = generation("a:/x", "/y");
        let other = generation("a", "/x:/y");
        assert_ne!(one, other);
        assert_ne!(generation("a\\x3a", "/"), generation("a:", "/"));
    }

    #[test]
    fn variants_differ_where_anything_differs() {
        let variant_of = |vary_on: &[&str], headers: &[(&str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(header::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            variant(&vary_on.iter().map(ToString::to_string).collect::<Vec<_>>(), &map)
        };
        let mut variants = vec![
            variant_of(&[], &[]),
            variant_of(&["a"], &[]),
            variant_of(&["a"], &[("a", "")]),
            variant_of(&["a"], &[("a", "x")]),
            variant_of(&["b"], &[("b", "x")]),
            variant_of(&["a"], &[("a", "x"), ("a", "y")]),
            variant_of(&["a"], &[("a", "xy")]),
            variant_of(&["a", "b"], &[("a", "x"), ("b", "y")]),
            variant_of(&["a", "b"], &[("a", "xy")]),
        ];
        let count = variants.len();
        variants.sort();
        variants.dedup();
        assert_eq!(variants.len(), count);
    }
}
