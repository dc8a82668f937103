//! A watch for layers in the wrong order.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use tower::util::MapResponseLayer;

use super::headers::{has_directive, list, patch_cache_control};

/// `Vary` of an answer as the view cache left it, among the answer's extensions.
#[derive(Clone)]
pub(super) struct Left(Vec<HeaderValue>);

impl Left {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get_all(header::VARY).iter().cloned().collect())
    }
}

/// Makes an answer, be it a cached page, its visitor's alone, for a layer that adds to it what is theirs: no cache on
/// the way may keep it. To be called after the view cache has given the answer out.
pub fn make_personal(response: &mut Response) {
    let headers = response.headers_mut();
    if !has_directive(headers, "no-store") {
        patch_cache_control(headers, &[("private", None), ("no-cache", None)]);
    }
    response.extensions_mut().remove::<Left>();
}

/// A layer for the outermost place: it warns, once, of a header that makes an answer one visitor's own and that was
/// added further out than the view cache. The cache has not seen it, and so gives the page to everybody.
///
/// What has added the header belongs inside the view cache, or its views outside.
#[must_use]
pub fn watch_order() -> MapResponseLayer<fn(Response) -> Response> {
    MapResponseLayer::new(watch)
}

fn watch(response: Response) -> Response {
    static HAS_WARNED: AtomicBool = AtomicBool::new(false);
    if let Some(header) = added(&response).filter(|_| !HAS_WARNED.swap(true, Ordering::Relaxed)) {
        tracing::warn!(
            "a cached page got `{header}` from a layer outside the view cache, which gives it to everybody \
             without that; the layer belongs inside, or the view must not be cached"
        );
    }
    response
}

/// Returns the header that the view cache would have refused, or varied on, had it seen it.
fn added(response: &Response) -> Option<String> {
    let Left(vary) = response.extensions().get()?;
    let headers = response.headers();
    if headers.contains_key(header::SET_COOKIE) {
        return Some("Set-Cookie".into());
    }
    if let Some(name) = ["private", "no-store"].into_iter().find(|name| has_directive(headers, name)) {
        return Some(format!("Cache-Control: {name}"));
    }
    let known = HeaderMap::from_iter(vary.iter().map(|value| (header::VARY, value.clone())));
    let known = list(&known, &header::VARY);
    let mut names = list(headers, &header::VARY).into_iter();
    // Compression further out leaves what is stored as it is, or has its own copies.
    let is_new = |name: &String| {
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        !is("accept-encoding") && !known.iter().any(|known| is(known))
    };
    names.find(is_new).map(|name| format!("Vary: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(left: &str, header: &'static str, value: &str, expected: Option<&str>) {
        let mut response = Response::new(().into());
        response.headers_mut().insert(header::VARY, left.parse().unwrap());
        let left = Left::of(response.headers());
        response.extensions_mut().insert(left);
        response.headers_mut().append(header, value.parse().unwrap());
        assert_eq!(added(&response).as_deref(), expected, "{header}: {value}");
    }

    #[test]
    fn what_makes_an_answer_one_visitors_own_is_seen() {
        check("accept-encoding", "set-cookie", "a=b", Some("Set-Cookie"));
        check("accept-encoding", "cache-control", "max-age=1, private", Some("Cache-Control: private"));
        check("accept-encoding", "vary", "Cookie", Some("Vary: Cookie"));
        check("accept-encoding", "vary", "*", Some("Vary: *"));
    }

    #[test]
    fn what_the_cache_knew_or_does_no_harm_is_not() {
        check("cookie", "vary", "Accept-Encoding, Cookie", None);
        check("cookie", "cache-control", "no-cache", None);
        check("cookie", "x-frame-options", "DENY", None);
        let mut uncached = Response::new(().into());
        uncached.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_static("a=b"));
        assert_eq!(added(&uncached), None);
    }
}
