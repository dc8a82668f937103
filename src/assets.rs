//! Style sheet, script and icon, embedded in the binary.
//!
//! Their names hold a hash of their content: browsers keep them for good, and a new build shows at once.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use rust_embed::Embed;

#[derive(Embed)]
#[folder = "static/"]
struct Files;

struct Asset {
    name: String,
    hashed_name: String,
    content_type: &'static str,
    content: Bytes,
}

static ASSETS: LazyLock<Vec<Asset>> =
    LazyLock::new(|| Files::iter().filter_map(|name| Asset::load(&name)).collect());

impl Asset {
    fn load(name: &str) -> Option<Self> {
        let file = Files::get(name)?;
        let hash: String =
            file.metadata.sha256_hash()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let (stem, extension) = name.rsplit_once('.')?;
        let content = match file.data {
            std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
        };
        Some(Self {
            name: name.to_owned(),
            hashed_name: format!("{stem}.{hash}.{extension}"),
            content_type: content_type(extension),
            content,
        })
    }
}

fn content_type(extension: &str) -> &'static str {
    match extension {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// Returns the path of a file in `static/`, such as `/static/app.1a2b3c4d5e6f.css`.
///
/// # Panics
///
/// If there is no such file, which means that a template names a file that is not in `static/`.
#[must_use]
pub fn path(name: &str) -> String {
    let asset = ASSETS.iter().find(|asset| asset.name == name).expect("templates name files of static/");
    format!("/static/{}", asset.hashed_name)
}

/// Serves a file under its hashed name only: a file that browsers keep for a year must never change.
pub async fn serve(Path(hashed_name): Path<String>) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.hashed_name == hashed_name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, asset.content.clone()).into_response()
}
