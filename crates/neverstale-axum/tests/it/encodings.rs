//! Bodies compressed once and sent to whoever can read them, and what must stay as the view made it.

use std::io::Read;

use axum::http::Method;

use super::Answer;
use super::site::{Site, View, echoing, with};
use testkit::stores::Store;

const TEXT: (&str, &str) = ("content-type", "text/plain");

fn long(headers: &'static [(&'static str, &'static str)]) -> View {
    View::new(move |run, _| with(headers, format!("run {run} ").repeat(500)))
}

async fn get(site: &Site, accepted: &'static str) -> Answer {
    site.get_with("/", &[("accept-encoding", accepted)]).await
}

impl Answer {
    pub fn decoded(&self) -> String {
        let mut text = String::new();
        match self.header("content-encoding") {
            "" => self.bytes.as_ref().read_to_string(&mut text),
            "gzip" => flate2::read::GzDecoder::new(&self.bytes[..]).read_to_string(&mut text),
            "br" => brotli::Decompressor::new(&self.bytes[..], 4096).read_to_string(&mut text),
            other => panic!("{other}"),
        }
        .unwrap();
        text
    }
}

pub async fn a_page_is_built_once_for_all_encodings(store: &Store) {
    let site = Site::new(store, long(&[TEXT]));
    get(&site, "gzip").await.is_stored();
    for (accepted, encoding) in [("gzip", "gzip"), ("br", "br"), ("zstd", ""), ("gzip, br", "br")] {
        let hit = get(&site, accepted).await;
        assert_eq!(hit.is_hit().header("content-encoding"), encoding);
        assert_eq!(hit.decoded(), "run 1 ".repeat(500));
        assert_eq!(hit.header("vary"), "accept-encoding", "the plain page as well");
        assert!(encoding.is_empty() || hit.bytes.len() < 300, "{}", hit.bytes.len());
    }
    site.get("/").await.is_hit().says(&"run 1 ".repeat(500));
}

pub async fn the_first_visitor_gets_what_is_stored(store: &Store) {
    for accepted in ["gzip", "br", "identity"] {
        let site = Site::prefixed(store, long(&[TEXT]), accepted);
        let (fresh, hit) = (get(&site, accepted).await, get(&site, accepted).await);
        assert_eq!(fresh.is_stored().bytes, hit.is_hit().bytes);
        assert_eq!(fresh.header("content-encoding"), hit.header("content-encoding"));
        assert_eq!(fresh.header("etag"), hit.header("etag"));
    }
}

pub async fn an_encoding_is_chosen_by_its_weight(store: &Store) {
    let site = Site::new(store, long(&[TEXT]));
    let chosen = [
        ("br;q=0.1, gzip;q=0.9", "gzip"),
        ("gzip;q=0.5, *;q=0.8", "br"),
        ("gzip;q=0", ""),
        ("gzip;q=0.5, identity", ""),
        ("GZIP", "gzip"),
        ("*", "br"),
        ("", ""),
    ];
    for (accepted, encoding) in chosen {
        assert_eq!(get(&site, accepted).await.header("content-encoding"), encoding, "{accepted}");
    }
    assert_eq!(site.runs(), 1);
}

pub async fn those_who_wait_get_the_encoding_they_take(store: &Store) {
    let site = Site::new(store, long(&[TEXT]));
    let (held, first) = site.begin_held("/").await;
    let second = site.begin("/", &[("accept-encoding", "gzip")]);
    held.end(2);
    first.answer().await.says(&"run 1 ".repeat(500));
    let second = second.answer().await;
    assert_eq!((second.header("content-encoding"), second.decoded()), ("gzip", "run 1 ".repeat(500)));
}

pub async fn head_is_as_long_as_get(store: &Store) {
    let site = Site::new(store, long(&[TEXT]));
    site.get("/").await;
    for accepted in ["gzip", "br", "identity"] {
        let headers = [("accept-encoding", accepted)];
        let (get, head) = (site.get_with("/", &headers).await, site.ask(Method::HEAD, "/", &headers).await);
        assert_eq!(head.is_hit().header("content-length"), get.bytes.len().to_string());
        assert_eq!(head.header("content-encoding"), get.header("content-encoding"));
        assert!(head.bytes.is_empty());
    }
}

/// Asserts that a page is stored, and as its view made it.
async fn stays_plain(site: Site) {
    get(&site, "gzip, br").await.is_stored();
    let hit = get(&site, "gzip, br").await;
    assert_eq!(hit.is_hit().header("content-encoding"), "");
    assert_eq!((hit.header("vary"), hit.decoded()), ("", hit.body.clone()));
}

pub async fn what_becomes_no_shorter_stays_plain(store: &Store) {
    stays_plain(Site::new(store, View::new(|_, _| with(&[TEXT], "short")))).await;
}

pub async fn a_picture_stays_as_it_is(store: &Store) {
    stays_plain(Site::new(store, long(&[("content-type", "image/png")]))).await;
}

pub async fn what_must_not_be_transformed_is_not(store: &Store) {
    stays_plain(Site::new(store, long(&[TEXT, ("cache-control", "public, no-transform")]))).await;
}

pub async fn what_the_view_encoded_is_not_encoded_again(store: &Store) {
    let encoded = &[("content-encoding", "zstd"), ("vary", "Accept-Encoding")];
    let site = Site::new(store, echoing("accept-encoding", encoded));
    for (accepted, body) in [("zstd", "run 1 for zstd"), ("gzip", "run 2 for gzip")] {
        get(&site, accepted).await.is_stored();
        let hit = get(&site, accepted).await;
        hit.is_hit().says(body);
        assert_eq!(hit.header("content-encoding"), "zstd", "as the view had it, and for whom");
    }
}

pub async fn what_the_view_would_vary_on_the_encoding_is_one_page(store: &Store) {
    let site = Site::new(store, long(&[TEXT, ("vary", "Accept-Encoding")]));
    get(&site, "gzip").await.is_stored();
    get(&site, "gzip, deflate, br").await.is_hit();
    get(&site, "identity").await.is_hit().says(&"run 1 ".repeat(500));
}

pub async fn variants_have_encodings_of_their_own(store: &Store) {
    let view = View::new(|_, request| {
        let language = request.headers()["accept-language"].to_str().unwrap();
        with(&[TEXT, ("vary", "Accept-Language")], format!("{language} ").repeat(500))
    });
    let site = Site::new(store, view);
    for language in ["de", "fr"] {
        let headers = [("accept-language", language), ("accept-encoding", "gzip")];
        site.get_with("/", &headers).await.is_stored();
        let hit = site.get_with("/", &headers).await;
        assert_eq!(hit.is_hit().decoded(), format!("{language} ").repeat(500));
        assert_eq!(hit.header("vary"), "Accept-Language, accept-encoding");
    }
}

pub async fn a_page_whose_encodings_do_not_fit_is_stored_plain(store: &Store) {
    // Random letters, of which six bits in eight remain: the page fits, but not with both of its encodings.
    let text: String = {
        let mut random = fastrand::Rng::with_seed(1);
        (0..600_000).map(|_| random.alphanumeric()).collect()
    };
    let site = Site::new(store, View::new(move |_, _| with(&[TEXT], text.clone())));
    get(&site, "gzip").await.is_stored();
    assert_eq!(get(&site, "gzip").await.is_hit().header("content-encoding"), "");
}
