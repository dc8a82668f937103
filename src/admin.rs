//! Access to `/cache` and `/metrics`.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine as _};
use ring::hmac;
use secrecy::ExposeSecret;

use crate::config::ServerConfig;
use neverstale_axum::Privacy;

/// Proof that a request may see the site's internals.
///
/// With `DEBUG` every request may; otherwise it needs `ADMIN_PASSWORD`. Without a password there is no such page.
#[derive(Clone, Copy, Debug)]
pub struct Admin;

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such page without a password.
    NotFound,
    /// The password is missing or wrong.
    Unauthorized,
}

impl<S: Sync> FromRequestParts<S> for Admin
where
    Arc<ServerConfig>: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Privacy::of(&mut parts.extensions).mark();
        check(&Arc::from_ref(state), &parts.headers)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let challenge = HeaderValue::from_static("Basic realm=\"tasklist\", charset=\"UTF-8\"");
        match self {
            Self::NotFound => StatusCode::NOT_FOUND.into_response(),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
            }
        }
    }
}

fn check(config: &ServerConfig, headers: &HeaderMap) -> Result<Admin, Refusal> {
    if config.debug() {
        return Ok(Admin);
    }
    let expected = config.admin_password.as_ref().ok_or(Refusal::NotFound)?;
    let (user, password) = credentials(headers).ok_or(Refusal::Unauthorized)?;
    // Digests are compared, so that it takes the same time whatever is wrong with the password.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"admin");
    let expected = hmac::sign(&key, expected.expose_secret().as_bytes());
    let is_right = hmac::verify(&key, password.as_bytes(), expected.as_ref()).is_ok();
    if is_right && user == "admin" { Ok(Admin) } else { Err(Refusal::Unauthorized) }
}

/// Some clients leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns user and password (RFC 7617, section 2).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (_, encoded) = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))?;
    let decoded = String::from_utf8(BASE64.decode(encoded.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[track_caller]
    fn assert_refused<const N: usize>(
        variables: [(&str, &str); N],
        authorization: Option<&str>,
        expected: Option<Refusal>,
    ) {
        let config = Config::from_variables(variables).unwrap().server;
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        assert_eq!(check(&config, &headers).err(), expected, "{variables:?} {authorization:?}");
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    #[test]
    fn without_a_password_there_is_no_such_page() {
        assert_refused([("DEBUG", "True")], None, None);
        assert_refused([("DEBUG", "False")], None, Some(Refusal::NotFound));
        assert_refused([("DEBUG", "False")], Some(&basic("admin:")), Some(Refusal::NotFound));
    }

    #[test]
    fn a_request_with_the_password_is_let_in() {
        let closed = [("DEBUG", "False"), ("ADMIN_PASSWORD", "se:same")];
        assert_refused(closed, Some(&basic("admin:se:same")), None);
        assert_refused(closed, Some(&basic("admin:se:same").replace("Basic", "basic")), None);
        assert_refused(closed, Some(basic("admin:se:same").trim_end_matches('=')), None);
        let wrong = ["admin:sesame", "root:se:same", "admin:", ":", "admin", "admin:se:same "].map(basic);
        let odd = ["Bearer x", "Basic", "Basic ???", "Basic /w==", &BASE64.encode("admin:se:same")];
        for value in wrong.iter().map(String::as_str).chain(odd) {
            assert_refused(closed, Some(value), Some(Refusal::Unauthorized));
        }
        assert_refused(closed, None, Some(Refusal::Unauthorized));
    }
}
