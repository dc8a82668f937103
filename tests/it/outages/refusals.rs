//! A memcached that refuses the operations of a change.

use crate::support::app::{App, Settings};
use testkit::fake::{DELETE, DELETE_QUIET, Fake, UNAUTHENTICATED, WRITES};
use testkit::{eventually, wait_until};

fn serve(fake: &Fake, strategy: &str) -> App {
    let settings = Settings::new().with("MEMCACHIER_SERVERS", &fake.address());
    let settings = settings.with("MEMCACHIER_USERNAME", "u").with("MEMCACHIER_PASSWORD", "p");
    settings.with("CACHE_LOCAL", "off").with("CACHE_STRATEGY", strategy).serve()
}

async fn add(app: &App, name: &str) {
    let response = app.request("POST", "/add").form(&[("name", name)]).send().await.unwrap();
    assert_eq!(response.status(), 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_although_the_cache_refused_to_hear_of_it() {
    for status in [0x86, UNAUTHENTICATED, 0x82] {
        for strategy in ["delete", "rotate", "update"] {
            let fake = Fake::start().await;
            let app = serve(&fake, strategy);
            add(&app, "one").await;
            assert_eq!(app.get("/").await.tasks(), ["one"]);
            assert_eq!(app.get("/").await.tasks(), ["one"]);
            fake.refuse(&WRITES, status);
            add(&app, "two").await;
            assert_eq!(app.get("/").await.tasks(), ["one", "two"], "{strategy}, {status:#04x}, refused");
            // It accepts values again, and goes on refusing the deletes of those before.
            fake.refuse(&[DELETE, DELETE_QUIET], status);
            assert_eq!(
                app.get("/").await.tasks(),
                ["one", "two"],
                "{strategy}, {status:#04x}, deletes refused"
            );
            fake.refuse_nothing();
            assert_eq!(app.get("/").await.tasks(), ["one", "two"], "{strategy}, {status:#04x}, accepted");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_login_costs_one_reconnect() {
    let fake = Fake::start().await;
    let app = serve(&fake, "versioned");
    add(&app, "one").await;
    let is_hit =
        async || app.get("/").await.header("cache-status").is_some_and(|status| status.contains("hit"));
    eventually("the page is a hit", is_hit).await;
    fake.forget_logins();
    eventually("the page is a hit again", is_hit).await;
    wait_until("it is in the log", || app.output().contains("WARN"));
    let output = app.output();
    assert_eq!(output.matches("WARN").count(), 1, "{output}");
    let servers = app.get("/cache.json").await.body;
    let errors =
        serde_json::from_str::<serde_json::Value>(&servers).unwrap()["servers"][0]["errors"].as_u64();
    assert!(errors > Some(0), "{servers}");
}
