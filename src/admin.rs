//! Who may look at what is nobody else's business.

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

/// Proof that a request comes from somebody who may: anybody where `DEBUG` is on, else who knows `ADMIN_PASSWORD`.
/// Where there is none, there is no such page.
#[derive(Clone, Copy, Debug)]
pub struct Admin;

/// Who may. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    is_open: bool,
    expected: Option<Arc<Expected>>,
}

/// A digest of the password, so that comparing takes the same time whatever is wrong with the other one.
struct Expected {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Guard {
    /// Lets those in that the configuration allows.
    #[must_use]
    pub fn new(config: &ServerConfig) -> Self {
        let expected = config.admin_password.as_ref().map(|password| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"admin");
            let tag = hmac::sign(&key, password.expose_secret().as_bytes());
            Arc::new(Expected { key, tag })
        });
        Self { is_open: config.debug, expected }
    }

    fn check(&self, headers: &HeaderMap) -> Result<Admin, Refusal> {
        if self.is_open {
            return Ok(Admin);
        }
        let expected = self.expected.as_ref().ok_or(Refusal::NoSuchPage)?;
        let (user, password) = credentials(headers).ok_or(Refusal::Unauthorized)?;
        let is_right = hmac::verify(&expected.key, password.as_bytes(), expected.tag.as_ref()).is_ok();
        if is_right && user == "admin" { Ok(Admin) } else { Err(Refusal::Unauthorized) }
    }
}

/// Some clients leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// RFC 7617, section 2.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = BASE64.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let decoded = String::from_utf8(decoded).ok()?;
    decoded.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// Why somebody may not.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody may.
    NoSuchPage,
    /// Without the password.
    Unauthorized,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NoSuchPage => StatusCode::NOT_FOUND.into_response(),
            Self::Unauthorized => {
                let challenge = HeaderValue::from_static("Basic realm=\"tasklist\", charset=\"UTF-8\"");
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Admin
where
    Guard: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Privacy::of(&mut parts.extensions).mark();
        Guard::from_ref(state).check(&parts.headers)
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Variables};

    #[track_caller]
    fn check<const N: usize>(
        variables: [(&str, &str); N],
        authorization: Option<&str>,
        expected: Option<u16>,
    ) {
        let guard = Guard::new(&Config::from_variables(&Variables::from(variables)).unwrap().server);
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        let refused = guard.check(&headers).err().map(|refusal| refusal.into_response().status().as_u16());
        assert_eq!(refused, expected, "{variables:?} {authorization:?}");
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    #[test]
    fn nobody_may_look_at_a_site_without_a_password() {
        check([("DEBUG", "True")], None, None);
        check([("DEBUG", "False")], None, Some(404));
        check([("DEBUG", "False")], Some(&basic("admin:")), Some(404));
    }

    #[test]
    fn who_knows_the_password_may() {
        let closed = [("DEBUG", "False"), ("ADMIN_PASSWORD", "se:same")];
        check(closed, Some(&basic("admin:se:same")), None);
        check(closed, Some(&basic("admin:se:same").replace("Basic", "basic")), None);
        check(closed, Some(basic("admin:se:same").trim_end_matches('=')), None);
        for wrong in ["admin:sesame", "root:se:same", "admin:", ":", "admin", "admin:se:same "] {
            check(closed, Some(&basic(wrong)), Some(401));
        }
        for wrong in ["Bearer x", "Basic", "Basic ???", "Basic /w==", &BASE64.encode("admin:se:same")] {
            check(closed, Some(wrong), Some(401));
        }
        check(closed, None, Some(401));
    }
}
