//! From a handler's response to a page: whether it may be stored, in the order of Django's `UpdateCacheMiddleware`.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header, response};
use bytes::Bytes;
use futures_util::future::{FutureExt, join_all};
use futures_util::stream;
use http_body_util::BodyExt;

use super::encoding::{Encoding, is_encodable};
use super::entry::{Page, Validity};
use super::headers::{etag, get_max_age, has_directive, list, patch_cache_control, patch_vary};
use super::key;
use super::policy::{Browser, Policy};
use super::privacy::Privacy;

/// Why a response is not stored.
pub(super) type Reason = Cow<'static, str>;

/// The handler looked at the request's private state.
pub(super) const PRIVATE: &str = "private";

/// The encodings of a page that is stored plain alone.
const NOT_WORTH_IT: [(Encoding, Bytes); Encoding::ALL.len()] =
    [(Encoding::Br, Bytes::new()), (Encoding::Gzip, Bytes::new())];

/// Returns why a response must be left as the handler made it, if so. `length` is that of its body, if it is known.
pub(super) fn refusal(
    response: &response::Parts,
    length: Option<u64>,
    privacy: &Privacy,
    max_size: usize,
) -> Option<Reason> {
    let headers = &response.headers;
    if !matches!(response.status, StatusCode::OK | StatusCode::NOT_MODIFIED) {
        return Some(format!("status-{}", response.status.as_u16()).into());
    }
    let reason = match length {
        _ if privacy.is_marked() => PRIVATE,
        None => "streaming",
        Some(length) if length > max_size as u64 => "too-large",
        // Django refuses only one with `Vary: Cookie` as well, and so shows one visitor's cookie to all.
        _ if headers.contains_key(header::SET_COOKIE) => "set-cookie",
        _ => {
            match ["private", "no-cache", "no-store"].into_iter().find(|name| has_directive(headers, name)) {
                Some(directive) => directive,
                None if list(headers, &header::VARY).iter().any(|name| name == "*") => "vary-star",
                None => return None,
            }
        }
    };
    Some(reason.into())
}

/// Makes a page of a response for which there is no [`refusal`], and gives the response the headers of such a page.
///
/// # Errors
///
/// The body and the reason, if the response is not stored.
pub(super) async fn page_of(
    policy: &Policy,
    privacy: &Privacy,
    request: &HeaderMap,
    parts: &mut response::Parts,
    body: Body,
    generation: String,
    is_keyed: bool,
) -> Result<Page, (Body, Reason)> {
    let mut vary_on = match describe(policy, request, parts) {
        Ok(vary_on) => vary_on,
        Err(reason) => return Err((body, reason)),
    };
    let body = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return Err((broken(error), "body".into())),
    };
    // A body may be made while it is read.
    if privacy.is_marked() {
        return Err((body.into(), PRIVATE.into()));
    }
    let mut encoded = if is_encodable(&parts.headers, &body) {
        // From here on the encoding that is chosen makes a difference, and not how a client asks for it.
        vary_on.retain(|name| **name != header::ACCEPT_ENCODING);
        patch_vary(&mut parts.headers, &["accept-encoding"]);
        if is_keyed && vary_on.is_empty() {
            // The replay keeps each encoding once a client has preferred it, so the others can wait for that.
            encode(&body, Encoding::choose(request, Encoding::ALL)).await
        } else {
            encode(&body, Encoding::ALL).await
        }
    } else {
        NOT_WORTH_IT.to_vec()
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    if !body.is_empty() && !parts.headers.contains_key(header::ETAG) {
        parts.headers.insert(header::ETAG, etag(&body));
    }
    let mut page = Page::new(parts, body.clone(), Validity::new(generation, policy.ttl));
    let encoded_size: usize = encoded.iter().map(|(_, body)| body.len()).sum();
    if page.size() + encoded_size > policy.max_size {
        encoded = NOT_WORTH_IT.to_vec();
    }
    page.add_encoded(&encoded);
    if page.size() > policy.max_size {
        return Err((body.into(), "too-large".into()));
    }
    page.variant = key::variant(&vary_on, request);
    page.vary_on = vary_on;
    Ok(page)
}

/// Adds what browsers and caches are told of a page, and returns the names of the headers that it varies on, sorted.
///
/// # Errors
///
/// The reason, if the response is not stored.
fn describe(
    policy: &Policy,
    request: &HeaderMap,
    response: &mut response::Parts,
) -> Result<Vec<String>, Reason> {
    let headers = &mut response.headers;
    match policy.browser {
        Browser::Revalidate if get_max_age(headers).is_none() && !headers.contains_key(header::EXPIRES) => {
            patch_cache_control(headers, &[("no-cache", None)]);
        }
        Browser::MaxAge(limit) => {
            patch_cache_control(headers, &[("max-age", Some(&limit.as_secs().to_string()))]);
        }
        Browser::Revalidate | Browser::Unsaid => {}
    }
    let has_credentials = request.get_all(header::AUTHORIZATION).iter().any(|value| !value.is_empty());
    if has_credentials && !has_directive(headers, "public") {
        patch_vary(headers, &["Authorization"]);
    }
    let names = list(headers, &header::VARY).into_iter().map(HeaderName::try_from);
    // Nobody could tell what to vary on.
    let names: Vec<_> = names.collect::<Result<_, _>>().map_err(|_| "vary")?;
    if response.status != StatusCode::OK {
        return Err("status-304".into());
    }
    if policy.ttl.is_over() {
        return Err("ttl-zero".into());
    }
    let mut names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Returns the body in each of these encodings; empty where that is no shorter.
async fn encode(body: &Bytes, encodings: impl IntoIterator<Item = Encoding>) -> Vec<(Encoding, Bytes)> {
    let encode = |encoding: Encoding| {
        encoding.encode(body.clone()).map(move |encoded| (encoding, encoded.unwrap_or_default()))
    };
    join_all(encodings.into_iter().map(encode)).await
}

/// Returns a body that ends with an error, so that the client is cut off as it would be without this layer.
pub(super) fn broken(error: axum::Error) -> Body {
    Body::from_stream(stream::iter([Err::<Bytes, _>(error)]))
}
