//! Response headers about caching, as in Django's `django.utils.cache`.
//!
//! The first functions work on headers. [`vary_on_headers`], [`cache_control`] and [`never_cached`] are layers that
//! apply them to every response of a handler.
//!
//! ```
//! use axum::{Router, http::HeaderMap, routing::get};
//! use neverstale_axum::headers::{patch_cache_control, patch_vary, vary_on_headers};
//!
//! let mut headers = HeaderMap::new();
//! patch_vary(&mut headers, &["Cookie"]);
//! patch_vary(&mut headers, &["cookie", "Accept-Language"]);
//! assert_eq!(headers["vary"], "Cookie, Accept-Language");
//! patch_cache_control(&mut headers, &[("public", None), ("max_age", Some("60"))]);
//! patch_cache_control(&mut headers, &[("private", None), ("max_age", Some("600"))]);
//! assert_eq!(headers["cache-control"], "private, max-age=60");
//!
//! let hello = get("hello").layer(vary_on_headers(["Accept-Language"]));
//! let site: Router = Router::new().route("/", hello);
//! ```

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use base16ct::lower::encode_string;
use sha2::{Digest, Sha256};
use tower::util::MapResponseLayer;

/// Adds names to `Vary` that are not there yet, whatever their case. A `*` on either side leaves `*` alone.
pub fn patch_vary(headers: &mut HeaderMap, names: &[&str]) {
    let mut all = list(headers, &header::VARY);
    for name in names.iter().map(|name| name.trim()) {
        if !all.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            all.push(name.to_owned());
        }
    }
    let text = if all.iter().any(|name| name == "*") { "*".into() } else { all.join(", ") };
    replace(headers, header::VARY, text);
}

/// Returns whether `Vary` has exactly this name, whatever its case.
#[must_use]
pub fn has_vary(headers: &HeaderMap, name: &str) -> bool {
    list(headers, &header::VARY).iter().any(|known| known.eq_ignore_ascii_case(name.trim()))
}

/// Adds directives to `Cache-Control`, each with its value if it has one. Names may be written `max_age` for `max-age`.
///
/// Of two `max-age` the smaller is kept; `private` and `public` exclude each other, and the new one wins; fields of
/// `no-cache` add up, and a bare `no-cache` replaces them. The other directives stay.
pub fn patch_cache_control(headers: &mut HeaderMap, directives: &[(&str, Option<&str>)]) {
    let mut all = parse(headers);
    for (name, value) in directives {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let mut value = value.map(str::to_owned);
        match &*name {
            "max-age" => {
                let known =
                    all.iter().find(|(known, _)| *known == name).and_then(|(_, known)| known.as_deref());
                let smaller = [known, value.as_deref()].into_iter().flatten().filter_map(seconds).min();
                value = smaller.map(|seconds| seconds.to_string()).or(value);
            }
            "private" => all.retain(|(known, _)| known != "public"),
            "public" => all.retain(|(known, _)| known != "private"),
            _ => {}
        }
        let adds_up = name == "no-cache" && value.is_some();
        all.retain(|(known, other)| *known != name || (adds_up && other.is_some() && *other != value));
        all.push((name, value));
    }
    let text: Vec<_> = all
        .into_iter()
        .map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}={value}")))
        .collect();
    replace(headers, header::CACHE_CONTROL, text.join(", "));
}

/// Returns whether `Cache-Control` has a directive of this name, with a value or without.
#[must_use]
pub fn has_directive(headers: &HeaderMap, name: &str) -> bool {
    parse(headers).iter().any(|(known, _)| known == name)
}

/// Returns `max-age` in seconds, if it is a number.
#[must_use]
pub fn get_max_age(headers: &HeaderMap) -> Option<u64> {
    let directives = parse(headers).into_iter();
    directives.filter(|(name, _)| name == "max-age").find_map(|(_, value)| seconds(&value?))
}

/// Returns a strong validator: other bytes, another tag.
#[must_use]
pub fn etag(body: &[u8]) -> HeaderValue {
    let tag = format!("\"{}\"", encode_string(&Sha256::digest(body)[..16]));
    HeaderValue::try_from(tag).expect("hexadecimal digits in quotes")
}

/// Forbids browsers and caches on the way to store a response.
pub fn never_cache(headers: &mut HeaderMap) {
    if !headers.contains_key(header::EXPIRES) {
        replace(headers, header::EXPIRES, httpdate::fmt_http_date(SystemTime::now()));
    }
    let all = [("no-cache", None), ("no-store", None), ("must-revalidate", None), ("private", None)];
    patch_cache_control(headers, &[("max-age", Some("0"))]);
    patch_cache_control(headers, &all);
}

/// Returns the age of a stored response that has both `max-age` and `Expires` (Django's `Age`).
pub(super) fn age(headers: &HeaderMap) -> Option<u64> {
    let max_age = get_max_age(headers)?;
    let expires = httpdate::parse_http_date(headers.get(header::EXPIRES)?.to_str().ok()?).ok()?;
    let left = expires.duration_since(SystemTime::now()).map_or(Duration::ZERO, |left| left);
    Some(max_age.saturating_sub(left.as_secs()))
}

/// A layer that adds names to `Vary` of every response.
#[must_use]
pub fn vary_on_headers<const N: usize>(
    names: [&'static str; N],
) -> MapResponseLayer<impl Fn(Response) -> Response + Clone> {
    on_every_response(move |headers| patch_vary(headers, &names))
}

/// A layer that adds directives to `Cache-Control` of every response: see [`patch_cache_control`].
#[must_use]
pub fn cache_control<const N: usize>(
    directives: [(&'static str, Option<&'static str>); N],
) -> MapResponseLayer<impl Fn(Response) -> Response + Clone> {
    on_every_response(move |headers| patch_cache_control(headers, &directives))
}

/// A layer that forbids to store any response: see [`never_cache`].
#[must_use]
pub fn never_cached() -> MapResponseLayer<impl Fn(Response) -> Response + Clone> {
    on_every_response(never_cache)
}

fn on_every_response(
    patch: impl Fn(&mut HeaderMap) + Clone,
) -> MapResponseLayer<impl Fn(Response) -> Response + Clone> {
    MapResponseLayer::new(move |mut response: Response| {
        patch(response.headers_mut());
        response
    })
}

/// The names and values of all `Cache-Control` headers, names in lower case.
fn parse(headers: &HeaderMap) -> Vec<(String, Option<String>)> {
    let directives = list(headers, &header::CACHE_CONTROL).into_iter();
    let parsed = directives.map(|directive| match directive.split_once('=') {
        Some((name, value)) => (name.trim().to_ascii_lowercase(), Some(value.trim().to_owned())),
        None => (directive.to_ascii_lowercase(), None),
    });
    parsed.collect()
}

/// Returns the elements of a list in all headers of a name, but the empty ones.
pub(super) fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let mut all = vec![];
    for value in headers.get_all(name) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let elements = elements(&text).into_iter().map(str::trim).filter(|element| !element.is_empty());
        all.extend(elements.map(str::to_owned));
    }
    all
}

/// Copies the headers whose names fulfil a condition.
pub(super) fn select(headers: &HeaderMap, is_chosen: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let selected = headers.iter().filter(|(name, _)| is_chosen(name));
    selected.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Splits a list at its commas outside quoted strings. A quote that no other ends is no quote, so that it hides nothing
/// behind it.
fn elements(text: &str) -> Vec<&str> {
    let (mut elements, mut start, mut index) = (vec![], 0, 0);
    while let Some(byte) = text.as_bytes().get(index) {
        match byte {
            b'"' => index += quoted_length(&text[index..]),
            b',' => {
                elements.push(&text[start..index]);
                index += 1;
                start = index;
            }
            _ => index += 1,
        }
    }
    elements.push(&text[start..]);
    elements
}

/// Returns the length of the quoted string that a text begins with; that of its quote alone, if it does not end.
fn quoted_length(text: &str) -> usize {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'"' => return index + 1,
            _ => {}
        }
    }
    1
}

/// Returns a number of seconds, quoted or not (RFC 9111, section 1.2.2). One that is too large is the largest.
fn seconds(value: &str) -> Option<u64> {
    let digits = value.trim().trim_matches('"');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn replace(headers: &mut HeaderMap, name: HeaderName, text: String) {
    match HeaderValue::try_from(text) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(error) => tracing::error!(header = %name, "left as it was: {error}"),
    }
}

/// What a weak tag begins with. The letter is case-sensitive.
pub(super) const WEAK: &[u8] = b"W/";

/// Puts the encoding at the end of a strong tag: the same page in another encoding is not the same bytes.
pub(super) fn name_encoding(headers: &mut HeaderMap) {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return };
    let tag = headers.get(header::ETAG).map(HeaderValue::as_bytes).filter(|tag| !tag.starts_with(WEAK));
    let Some(tag) = tag.and_then(|tag| tag.strip_suffix(b"\"")) else { return };
    if let Ok(tag) = HeaderValue::from_bytes(&[tag, b"-", encoding.as_bytes(), b"\""].concat()) {
        headers.insert(header::ETAG, tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !value.is_empty() {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn names_are_added_once_to_vary_and_a_star_leaves_only_itself() {
        for (before, names, after) in [
            ("", &["Accept-Encoding"][..], "Accept-Encoding"),
            ("accept-encoding", &["Accept-Encoding", "Cookie"], "accept-encoding, Cookie"),
            ("Cookie ,  Accept", &["Accept-Encoding", "COOKIE"], "Cookie, Accept, Accept-Encoding"),
            ("*", &["Cookie"], "*"),
            ("Cookie", &["*"], "*"),
            ("Cookie, *", &[], "*"),
        ] {
            let mut headers = with(header::VARY, before);
            patch_vary(&mut headers, names);
            assert_eq!(headers[header::VARY], after);
        }
    }

    #[test]
    fn a_name_is_in_vary_exactly_or_not() {
        let headers = with(header::VARY, "Cookie, X-One");
        assert!(has_vary(&headers, "cookie") && has_vary(&headers, " X-ONE "));
        assert!(!has_vary(&headers, "X") && !has_vary(&headers, "*"));
        assert!(!has_vary(&with(header::VARY, "*"), "cookie"));
    }

    #[test]
    fn a_directive_is_added_and_the_others_stay() {
        for (before, (name, value), after) in [
            ("", ("must_revalidate", None), "must-revalidate"),
            ("immutable", ("max_age", Some("5")), "immutable, max-age=5"),
            ("max-age=20, x=1", ("max-age", Some("30")), "x=1, max-age=20"),
            ("max-age=20", ("max-age", Some("10")), "max-age=10"),
            ("private", ("public", None), "public"),
            ("public, max-age=1", ("private", None), "max-age=1, private"),
            ("no-cache=a", ("no-cache", Some("b")), "no-cache=a, no-cache=b"),
            ("no-cache=a, no-cache=b", ("no_cache", None), "no-cache"),
        ] {
            let mut headers = with(header::CACHE_CONTROL, before);
            patch_cache_control(&mut headers, &[(name, value)]);
            assert_eq!(headers[header::CACHE_CONTROL], after);
        }
    }

    #[test]
    fn max_age_is_a_number_or_nothing() {
        for (value, expected) in [
            ("public, Max-Age = 60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("max-age=99999999999999999999", Some(u64::MAX)),
            ("max-age=soon", None),
            ("max-age=-1", None),
            ("s-maxage=60", None),
            ("", None),
        ] {
            assert_eq!(get_max_age(&with(header::CACHE_CONTROL, value)), expected, "{value}");
        }
    }

    #[test]
    fn a_directive_is_known_by_its_exact_name() {
        let has = |value: &str, name: &str| has_directive(&with(header::CACHE_CONTROL, value), name);
        assert!(has("PRIVATE=\"X\"", "private") && has("no-cache = \"a, no-store\"", "no-cache"));
        assert!(has("Private", "private") && has("x=1,,NO-STORE ,", "no-store"));
        assert!(has("x=\"a\\\", b\", private", "private"), "an escaped quote ends nothing");
        assert!(has("x=\"a, private", "private"), "nor does a quote that never ends hide anything");
        assert!(!has("x=\"a\\\", private\"", "private"));
        assert!(!has("myprivate", "private") && !has("no-cache=\"a, no-store\"", "no-store"));
    }

    #[test]
    fn what_is_never_cached_says_so_in_every_way() {
        let mut headers = with(header::CACHE_CONTROL, "public, max-age=9");
        never_cache(&mut headers);
        let expected = "max-age=0, no-cache, no-store, must-revalidate, private";
        assert_eq!(headers[header::CACHE_CONTROL], expected);
        assert!(headers.contains_key(header::EXPIRES));
    }

    #[test]
    fn age_is_what_is_gone_of_max_age() {
        let mut headers = with(header::CACHE_CONTROL, "max-age=100");
        assert_eq!(age(&headers), None);
        let expires = SystemTime::now() + Duration::from_secs(60);
        headers.insert(header::EXPIRES, httpdate::fmt_http_date(expires).parse().unwrap());
        assert!(age(&headers).is_some_and(|age| (40..45).contains(&age)));
        headers.insert(header::EXPIRES, "Thu, 01 Jan 1970 00:00:00 GMT".parse().unwrap());
        assert_eq!(age(&headers), Some(100));
    }
}
