//! Answers as they have left the site.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use moka::sync::Cache as Memory;

use super::answer::broken;
use super::conditional::{self, has_conditions};
use super::headers::{has_directive, list};
use super::target::X_FORWARDED_PROTO;
use super::{CACHE_STATUS, Current, Privacy, Replay, SERVER_TIMING};

/// The bytes of all answers together. They share their bodies with the pages in the cache's own copies, mostly.
const CAPACITY: u64 = 32 * 1024 * 1024;

/// What the two heads of a response take beside the values in them, about.
const HEADS: usize = 8 * 1024;

/// What a client may choose of a key.
const LONGEST_KEY: usize = 1024;

/// The headers whose values are in the key, one of each at most.
static IN_KEY: [HeaderName; 3] = [header::HOST, header::ACCEPT_ENCODING, X_FORWARDED_PROTO];

/// Headers that nobody else's answer is for.
static OWN: [HeaderName; 2] = [header::AUTHORIZATION, HeaderName::from_static("sec-purpose")];

/// What an answer may vary on and be kept: the one is in the key, and who has a session of the other goes in.
const VARY: [&str; 2] = ["accept-encoding", "cookie"];

/// Answers by all that they depend on, except for the version of what they show.
pub struct Finished {
    answers: Memory<Vec<u8>, Arc<Answer>>,
    added_outside: Vec<HeaderName>,
}

/// One of them. What each that is given out has of its own is there already, to be replaced.
pub struct Answer {
    again: Replay,
    whole: HeaderMap,
    not_modified: HeaderMap,
    body: Bytes,
}

/// Returns what the answer to a request depends on; none if it is not one that is kept.
#[must_use]
pub fn key<B: HttpBody>(request: &Request<B>, is_session: fn(&HeaderValue) -> bool) -> Option<Vec<u8>> {
    let uri = request.uri();
    if request.method() != Method::GET || uri.authority().is_some() || !request.body().is_end_stream() {
        return None;
    }
    let mut values = [None; 3];
    for (name, value) in request.headers() {
        if let Some(place) = IN_KEY.iter().position(|known| known == name) {
            if values[place].replace(value).is_some() {
                return None;
            }
        } else if OWN.contains(name) || (name == header::COOKIE && is_session(value)) {
            return None;
        }
    }
    let target = uri.path_and_query()?.as_str();
    let mut key = Vec::with_capacity(128);
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

impl Finished {
    /// Makes room for answers. `added_outside` names the headers that answers get outside of where conditions are
    /// evaluated.
    #[must_use]
    pub fn new(added_outside: Vec<HeaderName>) -> Self {
        let size = |key: &Vec<u8>, answer: &Arc<Answer>| {
            let headers: usize = answer.whole.iter().map(|(_, value)| value.len()).sum();
            u32::try_from(key.len() + HEADS + 2 * headers + answer.again.size()).unwrap_or(u32::MAX)
        };
        let answers = Memory::builder().max_capacity(CAPACITY).weigher(size).build();
        Self { answers, added_outside }
    }

    /// Returns the answer that is kept under a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Arc<Answer>> {
        self.answers.get(key)
    }

    /// Keeps a response on its way out, if it may be given again.
    pub async fn keep(&self, key: Vec<u8>, privacy: &Privacy, response: Response) -> Response {
        let may_be_kept = !privacy.is_marked() && may_be_kept(&response);
        let Some(again) = response.extensions().get::<Replay>().filter(|_| may_be_kept).cloned() else {
            return response;
        };
        let (parts, body) = response.into_parts();
        let body = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => return Response::from_parts(parts, broken(error)),
        };
        let whole = parts.headers.clone();
        let not_modified = conditional::not_modified(&whole, &self.added_outside);
        self.answers.insert(key, Arc::new(Answer { again, whole, not_modified, body: body.clone() }));
        Response::from_parts(parts, Body::from(body))
    }
}

fn may_be_kept(response: &Response) -> bool {
    let headers = response.headers();
    let is_everybodys = !["private", "no-store"].iter().any(|name| has_directive(headers, name));
    let is_in_key = |name: &String| VARY.iter().any(|known| name.eq_ignore_ascii_case(known));
    response.status() == StatusCode::OK
        && is_everybodys
        && ![header::SET_COOKIE, header::AGE, header::CONNECTION]
            .iter()
            .any(|name| headers.contains_key(name))
        && headers.get_all(CACHE_STATUS).iter().count() == 1
        && list(headers, &header::VARY).iter().all(is_in_key)
        && response.body().size_hint().exact().is_some()
}

impl Answer {
    /// Returns what says whether it may be given again.
    #[must_use]
    pub fn again(&self) -> &Replay {
        &self.again
    }

    /// Returns the status of the answer to a request with these headers, if it is one of those that are given again.
    #[must_use]
    pub fn status(&self, asked: &HeaderMap) -> Option<StatusCode> {
        if !has_conditions(asked) {
            return Some(StatusCode::OK);
        }
        let status = conditional::decide(asked, &self.whole).unwrap_or_default();
        matches!(status, StatusCode::OK | StatusCode::NOT_MODIFIED).then_some(status)
    }

    /// Returns the answer of that status.
    #[must_use]
    pub fn give(&self, status: StatusCode, current: &Current) -> Response {
        let (headers, body) = match status {
            StatusCode::NOT_MODIFIED => (&self.not_modified, Body::empty()),
            _ => (&self.whole, Body::from(self.body.clone())),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers.clone();
        let (cache_status, server_timing) = current.say();
        response.headers_mut().insert(CACHE_STATUS, cache_status);
        response.headers_mut().insert(SERVER_TIMING, server_timing);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&'static str, &'static str)]) -> Response {
        let mut response = Response::new(Body::from("page"));
        let common = [
            ("cache-control", "no-cache"),
            ("cache-status", "tasklist; hit"),
            ("vary", "Cookie, accept-encoding"),
        ];
        for (name, value) in common.iter().chain(headers) {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        response
    }

    fn is_session(cookie: &HeaderValue) -> bool {
        cookie.to_str().unwrap().contains("sessionid=")
    }

    #[track_caller]
    fn check(headers: &[(&str, &str)], body: &'static str, is_kept: bool) {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        assert_eq!(key(&request, is_session).is_some(), is_kept, "{headers:?}");
    }

    #[test]
    fn an_answer_that_is_anybodys_own_is_not_kept() {
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
    }

    #[test]
    fn nor_is_one_that_is_no_page_or_has_no_length() {
        for status in [StatusCode::NOT_FOUND, StatusCode::NOT_MODIFIED, StatusCode::PARTIAL_CONTENT] {
            let mut response = response(&[]);
            *response.status_mut() = status;
            assert!(!may_be_kept(&response), "{status}");
        }
        let stream = Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("page")]));
        assert!(!may_be_kept(&response(&[]).map(|_| stream)));
    }

    #[test]
    fn what_is_somebodys_own_or_said_twice_has_no_key() {
        check(&[], "", true);
        check(&[("cookie", "theme=dark"), ("accept", "a"), ("accept", "b")], "", true);
        for header in [("authorization", ""), ("sec-purpose", "prefetch"), ("cookie", "a=b; sessionid=")] {
            check(&[header], "", false);
        }
        for name in ["host", "accept-encoding", "x-forwarded-proto"] {
            check(&[(name, "a")], "", true);
            check(&[(name, "a"), (name, "a")], "", false);
            check(&[(name, ""), (name, "a")], "", false);
        }
        check(&[("host", &"a".repeat(LONGEST_KEY))], "", false);
        check(&[], "something", false);
    }

    #[test]
    fn a_value_counts_where_it_stands() {
        let key = |headers: [(&str, &str); 2]| {
            let [one, other] = headers;
            let request = Request::builder().header(one.0, one.1).header(other.0, other.1);
            key(&request.body(Body::empty()).unwrap(), is_session).unwrap()
        };
        let keys = [
            key([("host", "a"), ("accept-encoding", "b")]),
            key([("host", "b"), ("accept-encoding", "a")]),
            key([("host", "a"), ("x-forwarded-proto", "b")]),
            key([("host", "ab"), ("accept", "c")]),
            key([("host", "ab"), ("accept-encoding", "")]),
        ];
        assert!(keys.iter().enumerate().all(|(place, one)| !keys[place + 1..].contains(one)), "{keys:?}");
    }
}
