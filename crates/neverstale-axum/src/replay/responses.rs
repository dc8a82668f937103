//! Responses as they have left the site.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use moka::sync::Cache as Memory;

use crate::conditional::{decide, has_conditions};
use crate::copies::{Copies, PER_HEADER};
use crate::headers::{has_directive, list};
use crate::outcome::{Arrival, CACHE_STATUS, Outcome, Report, SERVER_TIMING};
use crate::privacy::Privacy;
use crate::storable::broken;
use crate::target::X_FORWARDED_PROTO;
use crate::version::{self, Checked, Replayable};
use neverstale::{Cache, Event};

/// The longest key: a client chooses its length.
const LONGEST_KEY: usize = 1024;

/// The headers whose values are in the key, one of each at most.
static IN_KEY: [HeaderName; 3] = [header::HOST, header::ACCEPT_ENCODING, X_FORWARDED_PROTO];

/// What a response may vary on and be kept: `Accept-Encoding` is in the key, and requests with private cookies pass.
const VARY: [&str; 2] = ["accept-encoding", "cookie"];

/// What a response is not kept with: headers for one client, one connection or one moment.
const UNKEPT: [HeaderName; 4] = [header::SET_COOKIE, header::CONNECTION, header::AGE, header::DATE];

/// Responses by everything that they depend on, except for the version of what they show. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Responses {
    kept: Memory<Vec<u8>, Arc<Kept>>,
    /// Only counts.
    cache: Cache,
    /// How often all were dropped: part of the key, so that a response that was on its way meanwhile is not found.
    clears: Arc<AtomicUsize>,
}

/// A response of status 200 or 304.
pub(crate) struct Kept {
    shown: Replayable,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Returns the key of a response with this status.
fn with_status(key: &[u8], status: StatusCode) -> Vec<u8> {
    let end: &[u8] = if status == StatusCode::NOT_MODIFIED { b"\n304" } else { b"" };
    [key, end].concat()
}

impl Responses {
    /// Makes room for responses of `capacity` bytes together.
    pub(crate) fn new(copies: &Copies, capacity: u64) -> Self {
        let size = |key: &Vec<u8>, kept: &Arc<Kept>| {
            let headers: usize = kept.headers.iter().map(|(_, value)| PER_HEADER + value.len()).sum();
            u32::try_from(key.len() + headers + kept.shown.page.largest_size()).unwrap_or(u32::MAX)
        };
        let kept = Memory::builder().max_capacity(capacity).weigher(size).build();
        Self { kept, cache: copies.cache.clone(), clears: Arc::default() }
    }

    /// Returns the key of a request's response; none if such responses are not kept.
    pub(crate) fn key<B: HttpBody>(&self, request: &Request<B>) -> Option<Vec<u8>> {
        let uri = request.uri();
        if request.method() != Method::GET || uri.authority().is_some() || !request.body().is_end_stream() {
            return None;
        }
        let mut values = [None; IN_KEY.len()];
        for (name, value) in request.headers() {
            if let Some(index) = IN_KEY.iter().position(|known| known == name) {
                if values[index].replace(value).is_some() {
                    return None;
                }
            } else if name == header::AUTHORIZATION {
                return None;
            }
        }
        let target = uri.path_and_query()?.as_str();
        let mut key = Vec::with_capacity(128);
        key.extend_from_slice(&self.clears.load(Ordering::Relaxed).to_le_bytes());
        for value in values {
            if let Some(value) = value {
                // An empty value is another than none.
                key.push(b'=');
                key.extend_from_slice(value.as_bytes());
            }
            // No value has a line's end in it.
            key.push(b'\n');
        }
        key.extend_from_slice(target.as_bytes());
        (key.len() <= LONGEST_KEY).then_some(key)
    }

    /// Returns the response that the request's conditions choose, if it is kept.
    pub(crate) fn find(&self, key: &[u8], request: &HeaderMap) -> Option<Arc<Kept>> {
        if !has_conditions(request) {
            return self.kept.get(key);
        }
        let is_chosen = |kept: &Arc<Kept>| decide(request, &kept.headers).unwrap_or_default() == kept.status;
        let not_modified = self.kept.get(&with_status(key, StatusCode::NOT_MODIFIED)).filter(is_chosen);
        not_modified.or_else(|| self.kept.get(key).filter(is_chosen))
    }

    /// Keeps a response that leaves the site, if it may be replayed.
    pub(crate) async fn keep(&self, key: &[u8], privacy: &Privacy, response: Response) -> Response {
        let shown = response.extensions().get::<Replayable>();
        let Some(shown) = shown.filter(|_| !privacy.is_marked() && may_be_kept(&response)).cloned() else {
            return response;
        };
        let (parts, body) = response.into_parts();
        let body = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => return Response::from_parts(parts, broken(error)),
        };
        let (status, headers) = (parts.status, parts.headers.clone());
        let kept = Kept { shown, status, headers, body: body.clone() };
        self.kept.insert(with_status(key, status), Arc::new(kept));
        Response::from_parts(parts, Body::from(body))
    }

    /// Counts a response that was replayed as a hit.
    pub(crate) fn count_hit(&self) {
        self.cache.record(Event::Hit);
    }

    pub(crate) fn clear(&self) {
        self.clears.fetch_add(1, Ordering::Relaxed);
        self.kept.invalidate_all();
    }
}

fn may_be_kept(response: &Response) -> bool {
    let headers = response.headers();
    let is_in_key = |name: &String| VARY.iter().any(|known| name.eq_ignore_ascii_case(known));
    matches!(response.status(), StatusCode::OK | StatusCode::NOT_MODIFIED)
        && !["private", "no-store"].iter().any(|name| has_directive(headers, name))
        && !UNKEPT.iter().any(|name| headers.contains_key(name))
        && headers.get_all(CACHE_STATUS).iter().count() == 1
        && list(headers, &header::VARY).iter().all(is_in_key)
        && response.body().size_hint().exact().is_some()
}

impl Kept {
    /// Returns the response for a request that arrived at `arrival`, if the version that it shows is the current one.
    ///
    /// # Errors
    ///
    /// The result of the version check, for the request's extensions, if the response must not be replayed.
    pub(crate) async fn replay(&self, arrival: Arrival) -> Result<Response, Checked> {
        let Replayable { versions, page, cache } = &self.shown;
        let version = version::current(versions).await;
        if !version.as_ref().is_ok_and(|version| page.page.is_current(version)) {
            return Err(Checked::new(versions.clone(), version));
        }
        // Beside the check a replay takes next to no time, which is not worth another look at the clock.
        let took = arrival.0.elapsed();
        let report = Report { cache, arrival, check: Some(took), handler: None };
        let outcome = Outcome::Replayed(page.page.remaining());
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        // The kept one says the same of a page that does not expire.
        if page.page.remaining().is_some() {
            response.headers_mut().insert(CACHE_STATUS, outcome.status(report));
        }
        response.headers_mut().insert(SERVER_TIMING, outcome.timing(report, took));
        response.extensions_mut().insert(outcome);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use neverstale::CacheOptions;
    use neverstale::backend::dummy::Dummy;

    fn response(headers: &[(&'static str, &'static str)]) -> Response {
        let mut response = Response::new(Body::from("page"));
        let common = [
            ("cache-control", "no-cache"),
            ("cache-status", "example; hit"),
            ("vary", "Cookie, accept-encoding"),
        ];
        for (name, value) in common.iter().chain(headers) {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        response
    }

    fn key_of(headers: &[(&str, &str)], body: &'static str) -> Option<Vec<u8>> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let copies = Copies::new(&Cache::new(Dummy, CacheOptions::default()), 1);
        Responses::new(&copies, 1).key(&request.body(Body::from(body)).unwrap())
    }

    #[test]
    fn only_a_whole_page_for_everybody_is_kept() {
        assert!(may_be_kept(&response(&[])));
        for header in [
            ("set-cookie", "a=b"),
            ("cache-control", "private"),
            ("cache-control", "no-store"),
            ("vary", "Accept-Language"),
            ("vary", "*"),
            ("age", "1"),
            ("connection", "close"),
            ("cache-status", "other; hit"),
        ] {
            assert!(!may_be_kept(&response(&[header])), "{header:?}");
        }
        for (status, is_kept) in [(304, true), (404, false), (206, false)] {
            let mut response = response(&[]);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_be_kept(&response), is_kept, "{status}");
        }
        let stream = Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("page")]));
        assert!(!may_be_kept(&response(&[]).map(|_| stream)));
    }

    #[test]
    fn a_request_with_credentials_a_body_or_a_header_twice_has_no_key() {
        assert!(key_of(&[("cookie", "theme=dark"), ("accept", "a"), ("accept", "b")], "").is_some());
        for name in ["host", "accept-encoding", "x-forwarded-proto"] {
            assert!(key_of(&[(name, "a")], "").is_some());
            assert_eq!(key_of(&[(name, "a"), (name, "a")], ""), None);
            assert_eq!(key_of(&[(name, ""), (name, "a")], ""), None);
        }
        assert_eq!(key_of(&[("authorization", "")], ""), None);
        assert_eq!(key_of(&[("host", &"a".repeat(LONGEST_KEY))], ""), None);
        assert_eq!(key_of(&[], "something"), None);
    }

    #[test]
    fn requests_that_differ_in_what_counts_have_different_keys() {
        let keys = [
            key_of(&[("host", "a"), ("accept-encoding", "b")], ""),
            key_of(&[("host", "b"), ("accept-encoding", "a")], ""),
            key_of(&[("host", "a"), ("x-forwarded-proto", "b")], ""),
            key_of(&[("host", "ab")], ""),
            key_of(&[("host", "ab"), ("accept-encoding", "")], ""),
        ];
        assert!(keys.iter().enumerate().all(|(index, one)| !keys[index + 1..].contains(one)), "{keys:?}");
    }
}
