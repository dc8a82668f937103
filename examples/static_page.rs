//! The limit that `scripts/bench` holds the cached page against: a plain axum server that fetches a page of a running
//! tasklist once, and hands out the same bytes under the same headers ever after, from memory.
//!
//! `static_page http://127.0.0.1:8000/ ['accept-encoding: br']...` asks with these headers, serves on a free port of
//! this machine, and prints where. What differs from answer to answer, such as `x-request-id`, stays as it was in that
//! one. A request whose `If-None-Match` is the page's tag gets the 304 that tasklist gives.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    TRANSFER_ENCODING,
};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

/// Headers of one connection or one answer, which the server that sends it makes itself.
const OF_ONE_ANSWER: [HeaderName; 5] =
    [CONNECTION, HeaderName::from_static("keep-alive"), TRANSFER_ENCODING, CONTENT_LENGTH, DATE];

struct Page {
    headers: HeaderMap,
    body: Bytes,
    /// Those of the answer to who has the page already.
    headers_if_same: HeaderMap,
    tag: HeaderValue,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("usage: static_page URL ['name: value']...")?.parse()?;
    let asked: Vec<_> = arguments.collect();
    let page = Arc::new(Page::fetch(&url, &asked).await?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", get(show)).with_state(page)).await?;
    Ok(())
}

async fn show(State(page): State<Arc<Page>>, request: Request) -> Response {
    if request.headers().get(IF_NONE_MATCH) == Some(&page.tag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.headers_mut() = page.headers_if_same.clone();
        return response;
    }
    let mut response = Response::new(Body::from(page.body.clone()));
    *response.headers_mut() = page.headers.clone();
    response
}

impl Page {
    async fn fetch(url: &Uri, asked: &[String]) -> Result<Self> {
        let mut asked = asked.iter().map(|line| header(line)).collect::<Result<HeaderMap>>()?;
        let (headers, body) = ask(url, &asked, StatusCode::OK).await?;
        let tag = headers.get(ETAG).context("the page has no tag")?.clone();
        asked.insert(IF_NONE_MATCH, tag.clone());
        let (headers_if_same, _) = ask(url, &asked, StatusCode::NOT_MODIFIED).await?;
        Ok(Self { headers, body, headers_if_same, tag })
    }
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':').context("a header is written 'name: value'")?;
    Ok((name.parse()?, value.trim().parse()?))
}

async fn ask(url: &Uri, headers: &HeaderMap, expected: StatusCode) -> Result<(HeaderMap, Bytes)> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let mut request = Request::get(url).body(Body::empty())?;
    *request.headers_mut() = headers.clone();
    let (mut head, body) = client.request(request).await?.into_parts();
    ensure!(head.status == expected, "{url} answers {}, not {expected}", head.status);
    for name in OF_ONE_ANSWER {
        head.headers.remove(name);
    }
    Ok((head.headers, body.collect().await?.to_bytes()))
}
