//! A watch for layers in the wrong order.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use tower::util::MapResponseLayer;

use super::headers::{has_directive, list, patch_cache_control};
use super::version::Shown;

/// An extension of a response: it is a page as it is stored.
#[derive(Clone)]
pub(super) struct Stored {
    /// `Vary` as the page cache left it.
    vary: Vec<HeaderValue>,
    /// None if the replay layer has no use for the response.
    pub(super) shown: Option<Shown>,
}

impl Stored {
    pub(super) fn new(shown: Option<Shown>) -> Self {
        Self { vary: vec![], shown }
    }

    /// Records `Vary` as the page cache leaves it.
    pub(super) fn record_vary(response: &mut Response) {
        let vary = response.headers().get_all(header::VARY).iter().cloned().collect();
        if let Some(stored) = response.extensions_mut().get_mut::<Self>() {
            stored.vary = vary;
        }
    }

    /// The response is not that page any more.
    pub(super) fn forget(response: &mut Response) {
        response.extensions_mut().remove::<Self>();
    }
}

/// Marks a response as its visitor's own, so that no shared cache on the way may keep it.
///
/// Call it in a layer that adds something of the visitor's to a response, which may be a cached page. The response gets
/// `Cache-Control: private, no-cache`, unless it has `no-store`, and [`watch_order`] does not warn about it.
pub fn make_personal(response: &mut Response) {
    let headers = response.headers_mut();
    if !has_directive(headers, "no-store") {
        patch_cache_control(headers, &[("private", None), ("no-cache", None)]);
    }
    Stored::forget(response);
}

/// Returns a layer that logs a warning, once, if layers are in the wrong order. Make it the outermost layer.
///
/// The layer looks for headers that make a response one visitor's own and that were added outside of the page cache.
/// The page cache has not seen them, so it shows the page to all visitors. The layer that adds such headers belongs
/// inside the page cache, or the handler must not be cached.
#[must_use]
pub fn watch_order() -> MapResponseLayer<fn(Response) -> Response> {
    MapResponseLayer::new(watch)
}

fn watch(response: Response) -> Response {
    static HAS_WARNED: AtomicBool = AtomicBool::new(false);
    if let Some(header) = added(&response).filter(|_| !HAS_WARNED.swap(true, Ordering::Relaxed)) {
        tracing::warn!(
            "a cached page got `{header}` from a layer outside the page cache, which shows the page to everybody \
             without that; the layer belongs inside, or the handler must not be cached"
        );
    }
    response
}

/// Returns the header that the page cache would have refused, or varied on, had it seen it.
fn added(response: &Response) -> Option<String> {
    let Stored { vary, .. } = response.extensions().get()?;
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

    #[test]
    fn a_header_that_makes_a_stored_response_private_is_found() {
        for (stored, name, value, expected) in [
            ("accept-encoding", "set-cookie", "a=b", Some("Set-Cookie")),
            ("accept-encoding", "cache-control", "max-age=1, private", Some("Cache-Control: private")),
            ("accept-encoding", "vary", "Cookie", Some("Vary: Cookie")),
            ("accept-encoding", "vary", "*", Some("Vary: *")),
            ("cookie", "vary", "Accept-Encoding, Cookie", None),
            ("cookie", "cache-control", "no-cache", None),
            ("cookie", "x-frame-options", "DENY", None),
        ] {
            let mut response = Response::new(().into());
            response.headers_mut().insert(header::VARY, stored.parse().unwrap());
            response.extensions_mut().insert(Stored::new(None));
            Stored::record_vary(&mut response);
            response.headers_mut().append(name, value.parse().unwrap());
            assert_eq!(added(&response).as_deref(), expected, "{name}: {value}");
        }
        let mut uncached = Response::new(().into());
        uncached.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_static("a=b"));
        assert_eq!(added(&uncached), None);
    }
}
