//! Pages are everybody's, also for those who have a session, but for the one that shows a message.

use super::{ENGINES, STRATEGIES, end_calmly, settings, site};
use crate::support::app::{App, Settings};
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::postgres::Postgres;

/// Each strategy, and the one with copies in the process also without.
fn each_way(settings: &Settings) -> Vec<Settings> {
    let ways = STRATEGIES.map(|strategy| settings.clone().with("CACHE_STRATEGY", strategy));
    ways.into_iter().chain([settings.clone().with("CACHE_LOCAL", "off")]).collect()
}

fn is_hit(page: &Page) -> bool {
    page.header("cache-status").unwrap().contains("; hit")
}

/// A visitor with a session, and no message that waits.
async fn known(app: &App) -> Visitor {
    let visitor = Visitor::new();
    visitor.add(app, "One").await.assert_tells([words::added("One")]);
    visitor
}

async fn conditional(visitor: &Visitor, app: &App, etag: &str) -> Page {
    visitor.send(visitor.request(app, "GET", "/").header("if-none-match", etag)).await
}

#[tokio::test]
async fn a_visitor_without_a_message_gets_everybodys_page() {
    let memcached = Memcached::start();
    for engine in ENGINES {
        for settings in each_way(&settings().with_memcached(&memcached).with("SESSION_ENGINE", engine)) {
            let app = settings.serve();
            let visitor = known(&app).await;
            let stranger = Visitor::new().get(&app, "/").await;
            let page = visitor.get(&app, "/").await;
            assert!(is_hit(&page), "{:?}", page.headers);
            assert_eq!((page.header("etag"), &page.body), (stranger.header("etag"), &stranger.body));
            assert_eq!(page.header("cache-control"), Some("no-cache"));
            let again = conditional(&visitor, &app, page.header("etag").unwrap()).await;
            assert_eq!((again.status, &*again.body), (304, ""));
            end_calmly(app);
        }
    }
}

#[tokio::test]
async fn as_many_hits_are_for_visitors_as_for_strangers() {
    let memcached = Memcached::start();
    for settings in each_way(&settings().with_memcached(&memcached)) {
        // The list does not change, so what expires only makes this slower.
        let app = settings.serve();
        let visitor = known(&app).await;
        Visitor::new().get(&app, "/").await;
        let mut hits = [0, 0];
        for _ in 0..100 {
            for (hits, visitor) in hits.iter_mut().zip([&visitor, &Visitor::new()]) {
                *hits += usize::from(is_hit(&visitor.get(&app, "/").await));
            }
        }
        // What has expired is built by whoever comes next.
        assert!(hits.iter().all(|hits| *hits >= 80), "{hits:?}");
        end_calmly(app);
    }
}

/// Asserts that what the cache has is no page with a message, though it has pages.
async fn assert_keeps_no_message(memcached: &Memcached) {
    let client = memcached.client();
    let mut texts = vec![];
    // The listing leaves out what is being read.
    eventually("the cache lists pages", async || {
        let keys = memcached.keys().into_iter().filter(|key| key.starts_with("~view.page:"));
        let pages = keys.filter_map(|key| client.get::<Vec<u8>>(&key).unwrap());
        texts = pages.map(|page| String::from_utf8_lossy(&page).into_owned()).collect();
        texts.iter().any(|text| text.contains("Current tasks"))
    })
    .await;
    for text in texts {
        assert!(!text.contains("class=\"message\"") && !text.contains("/undo"), "{text}");
    }
}

#[tokio::test]
async fn a_page_with_a_message_is_its_visitors_and_kept_nowhere() {
    for engine in ENGINES {
        let memcached = Memcached::start();
        let database = Postgres::shared().database().await;
        for settings in each_way(&site(&database, &memcached).with("SESSION_ENGINE", engine)) {
            memcached.client().flush().unwrap();
            let [app, other] = [settings.serve(), settings.serve()];
            let visitor = known(&app).await;
            let page = visitor.get(&app, "/").await;
            visitor.post(&app, "/remove", &[("id", &page.id_of("One"))]).await;
            let shared = Visitor::new().get(&app, "/").await;
            // What everybody has seen does not stand in the message's way.
            let personal = conditional(&visitor, &app, shared.header("etag").unwrap()).await;
            personal.assert_tells([words::removed("One")]);
            assert_eq!(personal.header("cache-control"), Some("private, no-store"));
            let expected = "tasklist; fwd=bypass; detail=\"personal\"";
            assert_eq!(personal.header("cache-status"), Some(expected));
            assert_ne!(personal.header("etag"), shared.header("etag"));

            for app in [&app, &other] {
                Visitor::new().get(app, "/").await.assert_tells([]);
            }
            for app in [&app, &other] {
                let next = visitor.get(app, "/").await;
                next.assert_tells([]);
                assert!(is_hit(&next), "{:?}", next.headers);
            }
            assert_keeps_no_message(&memcached).await;
            end_calmly(app);
            end_calmly(other);
        }
    }
}

#[tokio::test]
async fn a_message_on_a_page_that_nobody_has_built_is_kept_nowhere() {
    let memcached = Memcached::start();
    for settings in each_way(&settings().with_memcached(&memcached)) {
        let app = settings.serve();
        for name in ["One", "Two", "Three"] {
            // Nobody has asked for the page since the change.
            Visitor::new().add(&app, name).await.assert_tells([words::added(name)]);
        }
        Visitor::new().get(&app, "/").await.assert_tells([]);
        assert_keeps_no_message(&memcached).await;
        end_calmly(app);
    }
}

#[tokio::test]
async fn head_takes_no_message() {
    for settings in each_way(&settings()) {
        let (app, visitor) = (settings.serve(), Visitor::new());
        visitor.post(&app, "/add", &[("name", "One")]).await;
        for _ in 0..2 {
            let head = visitor.send(visitor.request(&app, "HEAD", "/")).await;
            assert_eq!((head.status, head.header("set-cookie")), (200, None));
        }
        visitor.get(&app, "/").await.assert_tells([words::added("One")]);
        end_calmly(app);
    }
}

#[tokio::test]
async fn nothing_but_the_list_takes_a_message() {
    let (app, visitor) = (App::start(), Visitor::new());
    visitor.post(&app, "/add", &[("name", "One")]).await;
    visitor.get(&app, "/nowhere").await.assert_error(404);
    assert_eq!(visitor.post(&app, "/add", &[("name", "")]).await.status, 422);
    visitor.get(&app, "/?page=7").await.assert_tells([words::added("One")]);
    end_calmly(app);
}
