//! What many miss at once is rendered once; and who waits for whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use futures_util::future::join_all;
use neverstale::{Cache, CacheOptions};
use neverstale_axum::PageContext;

use super::site::{Pending, Site, View, echoing, numbered, with};
use testkit::eventually;
use testkit::stores::Store;

pub async fn fifty_misses_at_once_run_the_view_once(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let mut held = site.hold();
    let first = site.begin("/", &[]);
    held.begun().await;
    let others: Vec<_> = (0..49).map(|_| site.begin("/", &[])).collect();
    held.end(50);
    first.answer().await.is_stored().says("run 1");
    for answer in join_all(others.into_iter().map(Pending::answer)).await {
        answer.says("run 1");
    }
    assert_eq!(site.runs(), 1);
}

pub async fn two_processes_run_the_view_once(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let other = site.elsewhere(store);
    let mut held = site.hold();
    let first = site.begin("/", &[]);
    held.begun().await;
    let second = other.begin("/", &[]);
    eventually("the other has looked", async || !other.cache.stats().is_empty()).await;
    held.end(2);
    first.answer().await.is_stored();
    second.answer().await.says("run 1");
    assert_eq!(site.runs(), 1);
}

pub async fn who_may_not_share_is_not_kept_waiting_in_line(store: &Store) {
    let site = Site::new(store, numbered(&[("set-cookie", "a=b")]));
    let mut held = site.hold();
    let asked: Vec<_> = (0..5).map(|_| site.begin("/", &[])).collect();
    held.begun().await;
    held.end(1);
    // All others at once: none waits until another is let go.
    for _ in 0..4 {
        held.begun().await;
    }
    held.end(4);
    for answer in join_all(asked.into_iter().map(Pending::answer)).await {
        answer.is("fwd=miss; detail=\"set-cookie\"");
    }
    assert_eq!(site.runs(), 5);
}

pub async fn what_cannot_be_shared_is_not_waited_for_again(store: &Store) {
    let site = Site::new(store, numbered(&[("cache-control", "private")]));
    site.get("/").await;
    let mut held = site.hold();
    let asked: Vec<_> = (0..3).map(|_| site.begin("/", &[])).collect();
    for _ in 0..3 {
        held.begun().await;
    }
    held.end(3);
    join_all(asked.into_iter().map(Pending::answer)).await;
}

pub async fn waiting_for_another_variant_ends_in_ones_own(store: &Store) {
    let site = Site::new(store, echoing("x-a", &[("vary", "X-A")]));
    let mut held = site.hold();
    let one = site.begin("/", &[("x-a", "1")]);
    held.begun().await;
    let [two, same] = [site.begin("/", &[("x-a", "2")]), site.begin("/", &[("x-a", "1")])];
    held.end(3);
    one.answer().await.says("run 1 for 1");
    two.answer().await.says("run 2 for 2");
    same.answer().await.says("run 1 for 1");
    site.let_go();
    for (value, body) in [("1", "run 1 for 1"), ("2", "run 2 for 2")] {
        site.get_with("/", &[("x-a", value)]).await.is_hit().says(body);
    }
}

pub async fn a_view_that_panics_lets_the_next_one_build(store: &Store) {
    let view = View::new(|run, _| {
        assert_ne!(run, 1, "as the test wants it");
        with(&[], format!("run {run}"))
    });
    let site = Site::new(store, view);
    assert!(site.begin("/", &[]).0.await.unwrap_err().is_panic());
    site.begin("/", &[]).answer().await.is_stored().says("run 2");
}

pub async fn a_visitor_who_leaves_lets_the_next_one_build(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let mut held = site.hold();
    let leaving = site.begin("/", &[]);
    held.begun().await;
    let next = site.begin("/", &[]);
    leaving.0.abort();
    held.begun().await;
    held.end(1);
    next.answer().await.is_stored().says("run 2");
}

pub async fn an_error_is_followed_by_a_page(store: &Store) {
    let errors = Arc::new(AtomicUsize::new(1));
    let left = errors.clone();
    let view = View::new(move |run, _| {
        let mut response = with(&[], format!("run {run}"));
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        response
    });
    let site = Site::new(store, view);
    site.get("/").await.is("fwd=miss; detail=\"status-500\"");
    // Who comes after it builds for all again.
    let (held, next) = site.begin_held("/").await;
    let other = site.begin_in_line("/").await;
    held.end(1);
    next.answer().await.is_stored().says("run 2");
    other.answer().await.is("fwd=uri-miss; collapsed").says("run 2");
    site.get("/").await.is_hit().says("run 2");
}

pub async fn other_methods_do_not_wait(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let (held, first) = site.begin_held("/").await;
    site.ask(Method::POST, "/", &[]).await.is("fwd=method").says("run 2");
    held.end(1);
    first.answer().await.is_stored();
}

pub async fn a_view_knows_since_when_its_visitor_waits(store: &Store) {
    let view = View::new(|run, request| {
        let PageContext { arrival, .. } = request.extensions().get().expect("the layer says so");
        let status = if run == 1 { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        (status, arrival.elapsed().as_millis().to_string()).into_response()
    });
    let site = Site::new(store, view);
    let (held, first) = site.begin_held("/").await;
    let second = site.begin_in_line("/").await;
    let waited = Duration::from_millis(100);
    tokio::time::sleep(waited).await;
    held.end(1);
    assert_eq!(first.answer().await.status, StatusCode::BAD_GATEWAY);
    let second = second.answer().await;
    assert!(second.body.parse::<u128>().unwrap() >= waited.as_millis(), "{second:?}");
}

pub async fn another_process_is_waited_for_as_long_as_the_route_says(store: &Store) {
    let view = numbered(&[]);
    let [site, other] = [&store.backend, &store.other].map(|backend| {
        let cache = Cache::new(backend.clone(), CacheOptions::default());
        Site::over(cache, view.clone(), |layer| layer.max_wait(Duration::from_millis(200)))
    });
    let (held, first) = site.begin_held("/").await;
    other.get("/").await.is_stored().says("run 2");
    held.end(1);
    first.answer().await.is_stored().says("run 1");
}
