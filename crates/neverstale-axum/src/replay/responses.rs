//! Responses as they have left the site.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use moka::sync::Cache as Memory;

use crate::headers::{has_directive, list};
use crate::order::Stored;
use crate::outcome::{CACHE_STATUS, Outcome, Report, SERVER_TIMING};
use crate::storable::broken;
use crate::version::{self, Check, Shown, Source};
use neverstale::{Cache, Event};
use tokio::time::Instant;

/// The memory that a header takes in a map, about.
const PER_HEADER: usize = 128;

/// What a response may name in `Vary` beside the headers in its key. The encoding is in the key, cookies are taken off.
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

/// A response of status 200.
pub(crate) struct Kept {
    shown: Shown,
    headers: HeaderMap,
    body: Bytes,
}

impl Responses {
    /// Makes room for responses of `capacity` bytes together.
    pub(crate) fn new(cache: &Cache, capacity: u64) -> Self {
        let size = |key: &Vec<u8>, kept: &Arc<Kept>| {
            let headers: usize = kept.headers.iter().map(|(_, value)| PER_HEADER + value.len()).sum();
            u32::try_from(size_of::<Kept>() + key.len() + headers + kept.body.len()).unwrap_or(u32::MAX)
        };
        let kept = Memory::builder().max_capacity(capacity).weigher(size).build();
        Self { kept, cache: cache.counted_as("local"), clears: Arc::default() }
    }

    pub(crate) fn clears(&self) -> usize {
        self.clears.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<Kept>> {
        self.kept.get(key)
    }

    /// Keeps a response that leaves the site, if it may be replayed. `in_key` are the headers in its key.
    pub(crate) async fn keep(&self, key: Vec<u8>, in_key: &[HeaderName], response: Response) -> Response {
        let stored = response.extensions().get::<Stored>().filter(|_| may_be_kept(&response, in_key));
        let Some(shown) = stored.and_then(|stored| stored.shown.clone()) else { return response };
        let (parts, body) = response.into_parts();
        let body = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => return Response::from_parts(parts, broken(error)),
        };
        let mut headers = parts.headers.clone();
        headers.insert(CACHE_STATUS, Outcome::Replayed(None).status(shown.cache));
        // The body may be a slice of a far larger buffer, which must not be held for long.
        let kept = Kept { shown, headers, body: Bytes::copy_from_slice(&body) };
        self.kept.insert(key, Arc::new(kept));
        self.cache.record(Event::Fill);
        Response::from_parts(parts, Body::from(body))
    }

    /// Counts a hit.
    pub(crate) fn count_hit(&self) {
        self.cache.record(Event::Hit);
    }

    /// Counts a miss.
    pub(crate) fn count_miss(&self) {
        self.cache.record(Event::Miss);
    }

    pub(crate) fn clear(&self) {
        self.clears.fetch_add(1, Ordering::Relaxed);
        self.kept.invalidate_all();
    }
}

fn may_be_kept(response: &Response, in_key: &[HeaderName]) -> bool {
    let headers = response.headers();
    let is_known = |name: &String| {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        VARY.into_iter().any(is) || in_key.iter().map(HeaderName::as_str).any(is)
    };
    response.status() == StatusCode::OK
        && !["private", "no-store"].iter().any(|name| has_directive(headers, name))
        && !UNKEPT.iter().any(|name| headers.contains_key(name))
        && headers.get_all(CACHE_STATUS).iter().count() == 1
        && list(headers, &header::VARY).iter().all(is_known)
        && response.body().size_hint().exact().is_some()
}

impl Kept {
    /// Returns the response for a request that arrived at `arrival`, if what it shows is current.
    ///
    /// # Errors
    ///
    /// The result of the version check, if there was one, and the response must not be replayed.
    pub(crate) async fn replay(&self, arrival: Instant) -> Result<Response, Option<Check>> {
        let Shown { source, validity, cache } = &self.shown;
        let is_current = |state: &Arc<str>| self.shown.is_current(state);
        match source {
            Source::Versions(versions) => {
                let version = version::current(versions).await;
                if !version.as_ref().is_ok_and(is_current) {
                    return Err(Some(Check { versions: versions.clone(), version }));
                }
            }
            Source::Generations(generations) => {
                if !generations.current().await.as_ref().is_ok_and(is_current) {
                    return Err(None);
                }
            }
        }
        // Beside the check a replay takes next to no time, which is not worth another look at the clock.
        let took = arrival.elapsed();
        let check = matches!(source, Source::Versions(_)).then_some(took);
        let report = Report { cache, arrival, check, handler: None };
        let remaining = validity.remaining();
        let outcome = Outcome::Replayed(remaining);
        let mut response = Response::new(Body::from(self.body.clone()));
        let headers = response.headers_mut();
        headers.clone_from(&self.headers);
        // What is kept says the same of a page that does not expire.
        if remaining.is_some() {
            headers.insert(CACHE_STATUS, outcome.status(cache));
        }
        headers.insert(SERVER_TIMING, outcome.timing(report, took));
        response.extensions_mut().insert(outcome);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use neverstale::backend::dummy::Dummy;
    use neverstale::version::{Lost, VersionSource, Versions};
    use neverstale::{CacheOptions, Ttl};

    use super::*;
    use crate::entry::Validity;

    fn response(headers: &[(&'static str, &'static str)]) -> Response {
        let mut response = Response::new(Body::from("page"));
        let common = [
            ("cache-control", "no-cache"),
            ("cache-status", "example; hit"),
            ("vary", "Cookie, accept-encoding, X-Named"),
        ];
        for (name, value) in common.iter().chain(headers) {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        response
    }

    #[test]
    fn only_a_whole_page_for_everybody_is_kept() {
        let may_be_kept = |response| may_be_kept(&response, &[HeaderName::from_static("x-named")]);
        assert!(may_be_kept(response(&[])));
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
            assert!(!may_be_kept(response(&[header])), "{header:?}");
        }
        for status in [304, 404, 206] {
            let mut response = response(&[]);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            assert!(!may_be_kept(response), "{status}");
        }
        let stream = Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("page")]));
        assert!(!may_be_kept(response(&[]).map(|_| stream)));
    }

    fn shown() -> Shown {
        let source = VersionSource::<u64, Lost>::new(async || Ok(1));
        let versions = Versions::of(&source, |_| Response::new(Body::empty()));
        Shown {
            source: Source::Versions(versions),
            validity: Validity::new("1".into(), Ttl::Never),
            cache: "example",
        }
    }

    async fn keep(responses: &Responses, key: &str, mut response: Response) {
        response.extensions_mut().insert(Stored::new(Some(shown())));
        let named = [HeaderName::from_static("x-named")];
        responses.keep(key.into(), &named, response).await;
        responses.kept.run_pending_tasks();
    }

    #[tokio::test]
    async fn a_kept_response_weighs_what_it_takes_and_holds_no_larger_buffer() {
        let responses = Responses::new(&Cache::new(Dummy, CacheOptions::default()), 1 << 20);
        let weight = async |key: &str, header: &'static str, body: Bytes| {
            responses.clear();
            keep(&responses, key, response(&[("link", header)]).map(|_| body.into())).await;
            responses.kept.weighted_size()
        };
        let page = Bytes::from(vec![b'x'; 64 * 1024]);
        let least = weight("k", "a", page.slice(..100)).await;
        assert_eq!(weight("kkkkkkkkkkk", "a", page.slice(..100)).await, least + 10);
        assert_eq!(weight("k", "aaaaaaaaaaa", page.slice(..100)).await, least + 10);
        assert_eq!(weight("k", "a", page.slice(1..111)).await, least + 10);
        assert_eq!(responses.get(b"k").unwrap().body, page[1..111]);
        assert!(page.is_unique(), "what is kept does not hold the buffer");
    }
}
