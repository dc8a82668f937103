//! What a purge promises: nobody who asks after it sees what was begun before it.

use neverstale::{Cache, CacheOptions, Key};

use super::site::{Site, View, echoing, numbered, with};
use testkit::stores::Store;

pub async fn a_purged_page_is_rendered_anew(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    site.get("/x").await.is_stored();
    site.pages.purge("/x").await;
    site.get("/x").await.is_stored().says("run 2");
    site.get("/x").await.is_hit().says("run 2");
}

pub async fn a_purge_covers_hosts_schemes_queries_and_variants(store: &Store) {
    let site = Site::new(store, echoing("x-a", &[("vary", "X-A")]));
    let asked: [(&str, &[(&str, &str)]); 5] = [
        ("/x", &[("host", "one.example")]),
        ("/x", &[("host", "two.example")]),
        ("/x", &[("host", "one.example"), ("x-forwarded-proto", "https")]),
        ("/x?page=2", &[("host", "one.example")]),
        ("/x", &[("host", "one.example"), ("x-a", "1")]),
    ];
    for (target, headers) in asked {
        site.get_with(target, headers).await.is_stored();
        site.get_with(target, headers).await.is_hit();
    }
    site.pages.purge("/x?page=2").await;
    for (target, headers) in asked {
        site.get_with(target, headers).await.is_stored();
    }
}

pub async fn a_purge_leaves_other_paths(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    for path in ["/x", "/x/", "/y"] {
        site.get(path).await;
    }
    site.pages.purge("/x").await;
    site.get("/x/").await.is_hit();
    site.get("/y").await.is_hit();
}

pub async fn a_purge_covers_a_path_however_it_is_written(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    site.get("/tasks/%31").await.is_stored();
    site.pages.purge("/tasks/1").await;
    site.get("/tasks/%31").await.is_stored();
}

pub async fn a_purge_leaves_other_prefixes(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let other = Site::prefixed(store, numbered(&[]), "other");
    other.get("/").await;
    site.pages.purge("/").await;
    other.get("/").await.is_hit();
    other.pages.purge("/").await;
    other.get("/").await.is_stored();
}

pub async fn a_purge_in_one_process_is_seen_by_the_other(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let other = site.elsewhere(store);
    site.get("/").await.is_stored();
    other.pages.purge("/").await;
    site.get("/").await.is_stored().says("run 2");
    other.get("/").await.is_hit().says("run 2");
}

pub async fn a_copy_is_shown_until_its_path_is_purged(store: &Store) {
    let site = Site::with_copies(Cache::new(store.backend.clone(), CacheOptions::default()), numbered(&[]));
    let copy = "hit; ttl=59; detail=\"local\"";
    for (run, other) in [("run 1", "run 2"), ("run 3", "run 4")] {
        site.get("/x").await.is_stored().says(run);
        site.get("/y").await.is_stored().says(other);
        site.get("/x").await.is(copy).says(run);
        site.elsewhere(store).pages.purge("/x").await;
        site.get("/y").await.is(copy).says(other);
        site.pages.purge("/y").await;
    }
    let answer = site.get("/x").await;
    assert!(!answer.is_stored().header("server-timing").contains("gate"), "{answer:?}");
}

pub async fn a_page_rendered_before_a_purge_is_not_served_after_it(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let (held, late) = site.begin_held("/").await;
    site.pages.purge("/").await;
    held.end(1);
    late.answer().await.is_stored().says("run 1");
    site.get("/").await.is_stored().says("run 2");
}

pub async fn a_late_page_does_not_harm_a_newer_one_for_long(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let (held, late) = site.begin_held("/").await;
    site.pages.purge("/").await;
    site.get("/").await.is_stored().says("run 2");
    held.end(1);
    late.answer().await.says("run 1");
    let after = site.get("/").await;
    assert_ne!(after.body, "run 1");
    site.get("/").await.is_hit().says(&after.body);
}

pub async fn after_a_purge_nobody_waits_for_a_build_that_began_before_it(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    let (held, old) = site.begin_held("/").await;
    site.pages.purge("/").await;
    site.begin("/", &[]).answer().await.is_stored().says("run 2");
    let other = site.elsewhere(store);
    other.begin("/", &[]).answer().await.is_hit().says("run 2");
    held.end(1);
    old.answer().await.says("run 1");
}

pub async fn a_purge_of_nothing_is_no_error(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    for path in ["", "/", "no path", "/never\r\nasked"] {
        site.pages.purge(path).await;
    }
    site.get("/").await.is_stored();
}

pub async fn a_lost_generation_costs_misses_only(store: &Store) {
    let site = Site::new(store, View::new(|run, _| with(&[], format!("run {run}"))));
    site.get("/x").await.is_stored();
    site.cache.delete(&Key::as_stored("~view.generation:/x#").unwrap()).await;
    site.get("/x").await.is_stored().says("run 2");
    site.get("/x").await.is_hit().says("run 2");
}

pub async fn a_lost_page_is_rendered_anew(store: &Store) {
    let site = Site::new(store, numbered(&[]));
    site.get_with("/x", &[("host", "h")]).await.is_stored();
    site.cache.delete(&Key::as_stored("~view.page:GET:http://h/x#").unwrap()).await;
    site.get_with("/x", &[("host", "h")]).await.is_stored().says("run 2");
}

pub async fn clearing_the_cache_forgets_everything(store: &Store) {
    let site = Site::new(store, numbered(&[("vary", "X-A")]));
    site.get("/").await.is_stored();
    site.cache.clear().await;
    site.get("/").await.is_stored().says("run 2");
}

pub async fn a_purge_covers_the_pages_of_another_build(store: &Store) {
    let view = numbered(&[]);
    let [old, new] = ["1f", "2e"].map(|digest| Site::with(store, view.clone(), |layer| layer.digest(digest)));
    old.get("/").await.is_stored();
    new.pages.purge("/").await;
    old.get("/").await.is_stored().says("run 2");
}
