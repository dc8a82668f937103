//! Cookies that announce messages: they tell from the request alone whether a page may have a message to show.
//!
//! Each change sets a cookie with a name of its own. A page clears the cookies that its request brought and no others,
//! so that a change made meanwhile in another tab keeps its announcement.

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::AppendHeaders;
use neverstale_axum::target::is_https;
use neverstale_sessions::Cookie;
use tower_sessions::cookie::SameSite;
use tower_sessions::cookie::time::Duration;

const PREFIX: &str = "message-";
const SUFFIX_LENGTH: usize = 4;

/// A change whose request brings so many announcements sets one of them again, so that they do not pile up.
const MOST: usize = 4;

/// One page clears so many at most. A client may bring as many as it likes.
const MOST_CLEARED: usize = 16;

/// `Set-Cookie` headers, which add to those that the response has.
pub type SetCookies = AppendHeaders<Vec<(HeaderName, HeaderValue)>>;

/// The announcements that a request brought.
#[derive(Clone, Debug)]
pub(super) struct Announcements {
    names: Vec<String>,
    is_https: bool,
}

/// Returns whether the page for a request may show messages.
///
/// The request must bring an announcement, and be no prefetch, whose page may never be seen.
#[must_use]
pub fn may_show_messages(headers: &HeaderMap) -> bool {
    names(headers).next().is_some() && !headers.contains_key("sec-purpose")
}

fn names(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(COOKIE).iter();
    // Bytes, since other cookies may not be text.
    let cookies = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b';'));
    cookies.filter_map(|cookie| {
        let name = cookie.split(|byte| *byte == b'=').next()?.trim_ascii();
        let suffix = name.strip_prefix(PREFIX.as_bytes())?;
        let is_ours = suffix.len() == SUFFIX_LENGTH && suffix.iter().all(u8::is_ascii_alphanumeric);
        str::from_utf8(name).ok().filter(|_| is_ours)
    })
}

impl Announcements {
    pub(super) fn of(request: &Parts) -> Self {
        let names = names(&request.headers).take(MOST_CLEARED).map(str::to_owned).collect();
        Self { names, is_https: is_https(&request.uri, &request.headers) }
    }

    /// Returns the cookie that announces one more message.
    pub(super) fn announce(&self, lifetime: Option<Duration>) -> SetCookies {
        let again = self.names.get(MOST - 1).cloned();
        let name = again.unwrap_or_else(|| {
            let suffix = std::iter::repeat_with(fastrand::alphanumeric).take(SUFFIX_LENGTH);
            PREFIX.chars().chain(suffix).collect()
        });
        AppendHeaders(vec![self.cookie(name, "1", lifetime)])
    }

    /// Returns the cookies that clear the announcements.
    pub(super) fn clear(&self) -> SetCookies {
        let names = self.names.iter().cloned();
        AppendHeaders(names.map(|name| self.cookie(name, "", Some(Duration::ZERO))).collect())
    }

    fn cookie(
        &self,
        name: String,
        value: &'static str,
        lifetime: Option<Duration>,
    ) -> (HeaderName, HeaderValue) {
        let cookie = Cookie::build((name, value)).path("/").http_only(true).same_site(SameSite::Lax);
        let mut cookie = cookie.secure(self.is_https).build();
        cookie.set_max_age(lifetime);
        (SET_COOKIE, HeaderValue::try_from(cookie.to_string()).expect("names and values are plain letters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cookies: &[&'static [u8]], expected: &[&str]) {
        let cookies = cookies.iter().map(|list| (COOKIE, HeaderValue::from_bytes(list).unwrap()));
        assert_eq!(names(&cookies.collect()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn announcements_are_found_among_other_cookies() {
        check(&[b"message-aB3d=1"], &["message-aB3d"]);
        check(
            &[b"a=b;message-aaaa = 1; c=\xff; message-bbbb=", b"message-cccc=1"],
            &["message-aaaa", "message-bbbb", "message-cccc"],
        );
        check(
            &[b"message-aaa=1; message-aaaaa=1; message-a a=1; message-=1; Message-aaaa=1; x=message-aaaa"],
            &[],
        );
    }

    #[test]
    fn no_page_shows_messages_before_a_visitor_sees_it() {
        let announced = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("message-aaaa=1"))]);
        let mut prefetch = announced.clone();
        prefetch.insert("sec-purpose", HeaderValue::from_static("prefetch"));
        assert!(may_show_messages(&announced));
        assert!(!may_show_messages(&prefetch) && !may_show_messages(&HeaderMap::new()));
    }

    #[test]
    fn a_change_takes_a_new_name_until_there_are_many() {
        let brought = |count: usize| Announcements {
            names: (0..count).map(|number| format!("message-000{number}")).collect(),
            is_https: false,
        };
        for (count, again) in [(0, false), (3, false), (4, true), (5, true)] {
            let AppendHeaders(cookies) = brought(count).announce(Some(Duration::WEEK));
            let (name, rest) = cookies[0].1.to_str().unwrap().split_once('=').unwrap();
            assert_eq!(rest, "1; HttpOnly; SameSite=Lax; Path=/; Max-Age=604800");
            assert_eq!((cookies.len(), name == "message-0003"), (1, again), "{name}");
        }
        let AppendHeaders(cleared) = brought(2).clear();
        let expected = "message-0001=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0";
        assert_eq!((cleared.len(), &cleared[1].1), (2, &HeaderValue::from_static(expected)));
    }
}
