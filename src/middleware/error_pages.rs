//! Makes a page of every refusal and failure of any layer or handler, and logs its cause.

use askama::Template;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::csrf::ProtectionError;

use crate::error::Error;
use crate::templates::ErrorPage;

const HTML: &[u8] = b"text/html";

/// Seconds after which a client may repeat a request that was refused with 503.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

pub(super) async fn render(State(debug): State<bool>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_page(&response) {
        return response;
    }
    let cause = cause(&response);
    match &cause {
        Some(cause) if status.is_server_error() => tracing::error!(status = status.as_u16(), "{cause}"),
        Some(cause) => tracing::info!(status = status.as_u16(), "refused: {cause}"),
        None => {}
    }
    page(status, cause.filter(|_| debug), response)
}

/// Returns whether a handler has made a page, such as the form with a message.
fn is_page(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let start = content_type.and_then(|value| value.as_bytes().get(..HTML.len()));
    start.is_some_and(|start| start.eq_ignore_ascii_case(HTML))
}

fn cause(response: &Response) -> Option<String> {
    let extensions = response.extensions();
    let cross_site = || extensions.get::<ProtectionError>().map(ToString::to_string);
    extensions.get::<Error>().map(Error::cause).or_else(cross_site)
}

fn page(status: StatusCode, detail: Option<String>, response: Response) -> Response {
    let own_words = response.extensions().get().and_then(Error::words);
    let (title, advice) = own_words.unwrap_or_else(|| words(status));
    let page = ErrorPage { status: status.as_u16(), title, advice, detail };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        parts.headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    Response::from_parts(parts, Body::from(page.render().unwrap_or_else(|_| title.to_owned())))
}

fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::UNAUTHORIZED => ("Who are you?", "This page asks for the user admin and their password."),
        StatusCode::FORBIDDEN => {
            ("Request refused", "This form was sent from another site. Open the list and try again there.")
        }
        StatusCode::NOT_FOUND => ("Page not found", "There is nothing at this address."),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("Method not allowed", "This address answers to other requests than this.")
        }
        StatusCode::REQUEST_TIMEOUT => {
            ("Too slow", "What you sent did not arrive in time. Please try again on a better connection.")
        }
        StatusCode::PRECONDITION_FAILED => {
            ("The page has changed", "This is not the page that your request expected. Open it again.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("Too much text", "This is more than a task's name can hold."),
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            "Form not understood",
            "This was not sent by the form of the list. Open the list and try again there.",
        ),
        StatusCode::TOO_MANY_REQUESTS => (
            "Too many changes",
            "More were sent from your address than are taken in a minute. Please wait that long.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => {
            ("Back in a moment", "The list cannot be reached right now. Please try again in a few seconds.")
        }
        StatusCode::BAD_GATEWAY => {
            ("No usable answer", "The service that this page asks has failed. Please try again in a moment.")
        }
        StatusCode::GATEWAY_TIMEOUT => (
            "No answer in time",
            "The service that this page asks is too slow. Please try again in a moment.",
        ),
        status if status.is_server_error() => {
            ("Something went wrong", "This is our mistake. Please try again later.")
        }
        _ => ("Bad request", "The server did not understand this request."),
    }
}
