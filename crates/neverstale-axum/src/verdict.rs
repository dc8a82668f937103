//! Whether a view's answer may be stored, and what the browser is told: Django's `UpdateCacheMiddleware`, in its order.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderName, StatusCode, header, response};

use super::headers::{get_max_age, has_directive, has_vary, list, patch_cache_control, patch_vary};
use super::privacy::Privacy;
use neverstale::backend::LARGEST_VALUE;

/// What the browser is told of a page that the server keeps, unless the view has said it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Browser {
    /// To ask each time whether its copy is still good (`no-cache`): a purge is seen at once.
    #[default]
    Revalidate,
    /// To use its copy for so long, counted from when it got it, whatever happens on the server meanwhile. The view's
    /// own `max-age` is lowered to this.
    MaxAge(Duration),
    /// Nothing.
    Unsaid,
}

/// Why an answer is left as it is.
pub(super) type Reason = Cow<'static, str>;

/// The request's private state was looked at.
pub(super) const PRIVATE: &str = "private";

/// Returns why a response must be left as the handler made it, if so. `length` is that of its body, if it is known.
pub(super) fn left_alone(
    response: &response::Parts,
    length: Option<u64>,
    privacy: &Privacy,
) -> Option<Reason> {
    let headers = &response.headers;
    let too_large = |length| usize::try_from(length).map_or(true, |length: usize| length > LARGEST_VALUE);
    let refusals = ["private", "no-cache", "no-store"];
    if !matches!(response.status, StatusCode::OK | StatusCode::NOT_MODIFIED) {
        return Some(format!("status-{}", response.status.as_u16()).into());
    }
    let reason = match length {
        _ if privacy.is_marked() => PRIVATE,
        None => "streaming",
        Some(length) if too_large(length) => "too-large",
        // Django asks for `Vary: Cookie` as well, and so gives one visitor's cookie to all.
        _ if headers.contains_key(header::SET_COOKIE) => "set-cookie",
        _ => match refusals.into_iter().find(|name| has_directive(headers, name)) {
            Some(refusal) => refusal,
            None if list(headers, &header::VARY).iter().any(|name| name == "*") => "vary-star",
            None => return None,
        },
    };
    Some(reason.into())
}

/// Adds what the browser is told.
pub(super) fn tell(browser: Browser, response: &mut response::Parts) {
    let headers = &mut response.headers;
    match browser {
        Browser::Revalidate if get_max_age(headers).is_none() && !headers.contains_key(header::EXPIRES) => {
            patch_cache_control(headers, &[("no-cache", None)]);
        }
        Browser::MaxAge(limit) => {
            patch_cache_control(headers, &[("max-age", Some(&limit.as_secs().to_string()))]);
        }
        Browser::Revalidate | Browser::Unsaid => {}
    }
}

/// Makes an answer to somebody who is logged in theirs alone, unless it says that it is `public`.
pub(super) fn keep_apart(response: &mut response::Parts, is_authorized: bool) {
    if is_authorized && !has_directive(&response.headers, "public") {
        patch_vary(&mut response.headers, &["Authorization"]);
    }
}

/// Returns the names of the headers that an answer varies on, in lower case and sorted.
///
/// # Errors
///
/// What is in `Vary` and no name of a header: nobody could tell what to vary on.
pub(super) fn vary_on(response: &response::Parts) -> Result<Vec<String>, Reason> {
    let names = list(&response.headers, &header::VARY);
    let names = names.iter().map(|name| Ok(HeaderName::try_from(name)?.as_str().to_owned()));
    let mut names: Vec<_> =
        names.collect::<Result<_, axum::http::Error>>().map_err(|_| Reason::from("vary"))?;
    names.sort();
    names.dedup();
    debug_assert!(!has_vary(&response.headers, "*"), "left alone before");
    Ok(names)
}
