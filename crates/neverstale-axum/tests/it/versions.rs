//! Pages that are kept by the version of what they show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use neverstale::version::{Lost, VersionSource};
use neverstale::{Cache, CacheOptions};
use neverstale_axum::{PageCache, PageVersion};

use super::site::{MINUTE, Site, View, with};
use testkit::stores::Store;

/// Data with a version, as everybody sees it at once.
#[derive(Clone, Default)]
pub struct Origin {
    version: Arc<AtomicU64>,
    pub is_down: Arc<AtomicBool>,
}

#[derive(Debug)]
pub struct Down;

impl From<Lost> for Down {
    fn from(_: Lost) -> Self {
        Self
    }
}

impl Down {
    pub fn response(&self) -> Response {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

/// Keeps copies in the process as well.
pub fn with_copies(pages: PageCache) -> PageCache {
    pages.with_local_copies(1 << 20)
}

impl Origin {
    pub fn change(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    pub fn gate(&self) -> VersionSource<u64, Down> {
        let origin = self.clone();
        VersionSource::new(move || {
            let origin = origin.clone();
            async move {
                let is_down = origin.is_down.load(Ordering::SeqCst);
                if is_down { Err(Down) } else { Ok(origin.version.load(Ordering::SeqCst)) }
            }
        })
    }

    /// A view of the data, which says what it has read and when.
    pub fn view(&self, headers: &'static [(&'static str, &'static str)]) -> View {
        let origin = self.clone();
        View::new(move |run, _| {
            let version = origin.version.load(Ordering::SeqCst);
            let mut response = with(headers, format!("run {run} of {version}"));
            response.extensions_mut().insert(PageVersion(version.to_string()));
            response
        })
    }

    /// The view in one process.
    fn site(&self, store: &Store, view: &View) -> Site {
        self.over(Cache::new(store.backend.clone(), CacheOptions::default()), view, |pages| pages)
    }

    /// The same with copies in the process.
    fn site_with_copies(&self, store: &Store, view: &View) -> Site {
        let cache = Cache::new(store.backend.clone(), CacheOptions::default());
        self.over(cache, view, with_copies)
    }

    fn elsewhere(&self, store: &Store, view: &View) -> Site {
        self.over(Cache::new(store.other.clone(), CacheOptions::default()), view, |pages| pages)
    }

    fn over(&self, cache: Cache, view: &View, set: fn(PageCache) -> PageCache) -> Site {
        let pages = set(PageCache::new(&cache));
        let layer = pages.cache_page(MINUTE).versioned(&self.gate(), Down::response);
        Site::over(cache, view.clone(), |_| layer.clone()).replayed(&pages)
    }
}

pub async fn a_page_is_shown_while_its_version_is_the_current_one(store: &Store) {
    let origin = Origin::default();
    let site = origin.site(store, &origin.view(&[]));
    site.get("/").await.is_stored().says("run 1 of 0");
    site.get("/").await.is_hit().says("run 1 of 0");
    origin.change();
    site.get("/").await.is_stored().says("run 2 of 1");
    site.get("/").await.is_hit().says("run 2 of 1");
}

pub async fn another_process_finds_the_page_of_a_version(store: &Store) {
    let origin = Origin::default();
    let view = origin.view(&[]);
    origin.site(store, &view).get("/").await.is_stored();
    origin.elsewhere(store, &view).get("/").await.is_hit().says("run 1 of 0");
}

pub async fn a_page_gets_an_encoding_when_a_client_prefers_it(store: &Store) {
    let origin = Origin::default();
    let view = View::new(|run, _| {
        let mut response = with(&[("content-type", "text/plain")], format!("run {run} ").repeat(500));
        response.extensions_mut().insert(PageVersion("0".into()));
        response
    });
    let cache = Cache::new(store.other.clone(), CacheOptions::default());
    let here = origin.site_with_copies(store, &view);
    let elsewhere = origin.over(cache, &view, with_copies);
    let first = here.get_with("/", &[("accept-encoding", "gzip")]).await;
    assert_eq!(first.is_stored().header("content-encoding"), "gzip");
    for site in [here, elsewhere] {
        for (accepted, encoding) in [("br", "br"), ("gzip", "gzip"), ("identity", ""), ("gzip, br", "br")] {
            let hit = site.get_with("/", &[("accept-encoding", accepted)]).await;
            assert_eq!(hit.is_hit().header("content-encoding"), encoding);
            assert_eq!(hit.decoded(), "run 1 ".repeat(500));
            assert_eq!(hit.header("vary"), "accept-encoding", "the plain page as well");
        }
    }
}

pub async fn a_page_that_varies_is_found_where_there_are_copies(store: &Store) {
    let origin = Origin::default();
    let view = View::new(|run, request| {
        let language = request.headers()["accept-language"].to_str().unwrap();
        let mut response = with(&[("vary", "accept-language")], format!("run {run} in {language}"));
        response.extensions_mut().insert(PageVersion("0".into()));
        response
    });
    let cache = Cache::new(store.other.clone(), CacheOptions::default());
    let here = origin.site_with_copies(store, &view);
    let elsewhere = origin.over(cache, &view, with_copies);
    here.get_with("/", &[("accept-language", "de")]).await.is_stored().says("run 1 in de");
    for _ in 0..2 {
        elsewhere.get_with("/", &[("accept-language", "de")]).await.is_hit().says("run 1 in de");
        here.get_with("/", &[("accept-language", "de")]).await.is_hit().says("run 1 in de");
    }
    elsewhere.get_with("/", &[("accept-language", "fr")]).await.says("run 2 in fr");
    here.get_with("/", &[("accept-language", "fr")]).await.is_hit().says("run 2 in fr");
}

pub async fn a_page_is_kept_under_the_version_that_its_view_has_read(store: &Store) {
    let origin = Origin::default();
    let view = {
        let origin = origin.clone();
        // A change between the gate and the view.
        View::new(move |run, request| {
            if run == 1 {
                origin.change();
            }
            origin.view(&[]).respond(run, request)
        })
    };
    let site = origin.site(store, &view);
    site.get("/").await.is_stored().says("run 1 of 1");
    site.get("/").await.is_hit().says("run 1 of 1");
}

pub async fn an_answer_that_does_not_say_its_version_is_not_stored(store: &Store) {
    let origin = Origin::default();
    let site = origin.site_with_copies(store, &View::new(|run, _| with(&[], format!("run {run}"))));
    for _ in 0..2 {
        site.get("/").await.is("fwd=miss; detail=\"no-label\"");
    }
}

pub async fn without_a_version_there_is_no_page(store: &Store) {
    let origin = Origin::default();
    let site = origin.site_with_copies(store, &origin.view(&[]));
    site.get("/").await.is_stored();
    origin.is_down.store(true, Ordering::SeqCst);
    let answer = site.get("/").await;
    answer.is("fwd=bypass; detail=\"version-unknown\"");
    assert_eq!((answer.status, site.runs()), (StatusCode::SERVICE_UNAVAILABLE, 1));
    origin.is_down.store(false, Ordering::SeqCst);
    site.get("/").await.is_hit();
}

pub async fn a_change_is_made_without_a_version(store: &Store) {
    let origin = Origin::default();
    let site = origin.site(store, &origin.view(&[]));
    origin.is_down.store(true, Ordering::SeqCst);
    site.ask(Method::POST, "/", &[]).await.is("fwd=method");
}

pub async fn those_who_are_told_the_same_version_share_one_build(store: &Store) {
    let origin = Origin::default();
    let site = origin.site(store, &origin.view(&[]));
    let (held, first) = site.begin_held("/").await;
    let second = site.begin_in_line("/").await;
    held.end(1);
    first.answer().await.is_stored().says("run 1 of 0");
    second.answer().await.is("fwd=uri-miss; collapsed").says("run 1 of 0");
}

pub async fn who_is_told_a_newer_version_waits_for_no_older_build(store: &Store) {
    let origin = Origin::default();
    let site = origin.site(store, &origin.view(&[]));
    let (held, first) = site.begin_held("/").await;
    origin.change();
    site.get("/").await.is_stored().says("run 2 of 1");
    held.end(1);
    first.answer().await.is_stored().says("run 1 of 0");
    // What came late is of its own version, and nobody asks for that.
    site.get("/").await.is_hit().says("run 2 of 1");
}

pub async fn who_has_waited_for_another_process_asks_for_the_version_again(store: &Store) {
    let origin = Origin::default();
    let view = origin.view(&[]);
    let (site, other) = (origin.site(store, &view), origin.elsewhere(store, &view));
    let mut held = site.hold();
    let first = site.begin("/", &[]);
    held.begun().await;
    let second = other.begin_in_line("/").await;
    site.let_go();
    origin.change();
    // The second waits for the first, which leaves nothing of what both were told; a third builds what is current.
    site.get("/").await.is_stored().says("run 2 of 1");
    first.0.abort();
    second.answer().await.is_hit().says("run 2 of 1");
}

pub async fn a_copy_is_shown_while_its_version_is_the_current_one(store: &Store) {
    let origin = Origin::default();
    let site = origin.site_with_copies(store, &origin.view(&[]));
    site.get("/").await.is_stored();
    let copy = "hit; ttl=59; detail=\"local\"";
    site.get("/").await.is(copy).says("run 1 of 0");
    site.ask(Method::HEAD, "/", &[]).await.is("hit; ttl=59").says("");
    site.get("/other").await.is_stored().says("run 2 of 0");
    origin.change();
    site.get("/").await.is_stored().says("run 3 of 1");
    site.get("/").await.is(copy).says("run 3 of 1");
}

pub async fn a_page_from_the_cache_is_copied(store: &Store) {
    let origin = Origin::default();
    let view = origin.view(&[]);
    origin.elsewhere(store, &view).get("/").await.is_stored();
    let site = origin.site_with_copies(store, &view);
    site.get("/").await.is("hit; ttl=59");
    site.get("/").await.is("hit; ttl=59; detail=\"local\"");
}

pub async fn a_late_page_does_not_displace_a_newer_copy_for_long(store: &Store) {
    let origin = Origin::default();
    let site = origin.site_with_copies(store, &origin.view(&[]));
    let (held, first) = site.begin_held("/").await;
    origin.change();
    site.get("/").await.is_stored().says("run 2 of 1");
    held.end(1);
    first.answer().await.says("run 1 of 0");
    // The lock of its build may not be released yet, so that the first is no hit.
    site.get("/").await.says("run 2 of 1");
    site.get("/").await.is_hit().says("run 2 of 1");
}

pub async fn a_page_that_varies_on_what_the_site_did_not_see_has_no_copy(store: &Store) {
    let origin = Origin::default();
    let site = origin.site_with_copies(store, &origin.view(&[("vary", "X-A")]));
    site.get_with("/", &[("x-a", "1")]).await.is_stored();
    for value in ["1", "2"] {
        site.get_with("/", &[("x-a", value)]).await.is("hit; ttl=59").says("run 1 of 0");
    }
}

pub async fn a_purge_leaves_pages_that_are_kept_by_version(store: &Store) {
    let origin = Origin::default();
    let site = origin.site(store, &origin.view(&[]));
    site.get("/").await.is_stored();
    site.pages.purge("/").await;
    site.get("/").await.is_hit();
}

pub async fn an_answer_says_how_long_the_version_took(store: &Store) {
    let origin = Origin::default();
    let site = origin.site(store, &origin.view(&[]));
    let built = site.get("/").await;
    let timing = built.header("server-timing");
    assert!(timing.contains(", gate;dur=") && timing.contains(", view;dur="), "{timing}");
    assert!(site.get("/").await.header("server-timing").contains(", gate;dur="));
}
