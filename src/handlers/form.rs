//! The body of a form.

use axum::extract::rejection::FormRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, header};

const FORM: &str = "application/x-www-form-urlencoded";

/// A form as browsers send it. Its media type may be in any case (RFC 9110), where axum's `Form` compares bytes.
pub struct Form<T>(pub T);

impl<T, S> FromRequest<S> for Form<T>
where
    axum::Form<T>: FromRequest<S, Rejection = FormRejection>,
    S: Send + Sync,
{
    type Rejection = FormRejection;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, FormRejection> {
        if is_form(request.headers()) {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FORM));
        } else {
            request.headers_mut().remove(header::CONTENT_TYPE);
        }
        axum::Form::from_request(request, state).await.map(|axum::Form(form)| Self(form))
    }
}

/// Returns whether the media type is that of a form, whatever its case and its parameters.
fn is_form(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(FORM.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_has_parameters_and_no_case() {
        let is_form =
            |value: &str| is_form(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]));
        for form in [
            "application/x-www-form-urlencoded",
            "Application/X-WWW-Form-Urlencoded; Charset=utf-8",
            "application/x-www-form-urlencoded;charset=\"UTF-8\"",
            "application/x-www-form-urlencoded ; q=1",
        ] {
            assert!(is_form(form), "{form}");
        }
        for other in
            ["", "text/plain", "application/x-www-form-urlencodedx", "multipart/form-data; boundary=x"]
        {
            assert!(!is_form(other), "{other}");
        }
    }
}
