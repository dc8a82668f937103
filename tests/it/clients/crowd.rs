//! More requests than can be worked on.

use super::{Client, GET, post};
use crate::support::app::{App, Settings};
use testkit::eventually;
use testkit::postgres::Postgres;
use testkit::upstream::{Reply, Upstream};

const REFUSED: &str = "tasklist_http_requests_refused_total{cause=\"crowd\"}";

/// Connects so many clients, each of which sends a request and waits.
async fn crowd(app: &App, size: usize, request: impl Fn(usize) -> String) -> Vec<Client> {
    let mut clients = vec![];
    for number in 0..size {
        let mut client = Client::connect(app).await;
        client.send(request(number)).await;
        clients.push(client);
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_cannot_be_made_are_refused_at_once_and_pages_served_meanwhile() {
    let database = Postgres::shared().database().await;
    let app = Settings::new().with("DATABASE_URL", &database.url).serve();
    app.add("Before").await.assert_lists(["Before"]);
    let lock = database.lock_tasks().await;
    let mut clients = crowd(&app, 600, |number| post(&format!("task-{number}"))).await;
    eventually("some are refused", async || app.metric(REFUSED).await > 0).await;
    let mut visitor = Client::connect(&app).await;
    for _ in 0..20 {
        let page = visitor.ask(GET).await;
        assert_eq!((page.status, page.body.contains(">Before<")), (200, true), "{}", page.head);
    }
    for path in ["/healthz", "/readyz"] {
        let probe = app.get(path).await;
        assert_eq!(probe.status, 200, "{path}: {}", probe.body);
    }
    drop(lock);
    let mut added = 0;
    for client in &mut clients {
        let answer = client.answer().await;
        match answer.status {
            303 => added += 1,
            503 => assert_eq!(answer.header("retry-after"), Some("5")),
            _ => panic!("{}", answer.head),
        }
    }
    assert_eq!(database.tasks().await.len(), 1 + added, "what is refused is not done");
    let refused = app.metric(REFUSED).await;
    assert!((1..=600 - 256).contains(&refused), "{refused} refused");
    app.add("After").await;
    let (_, output) = app.interrupt();
    let said = output.lines().filter(|line| line.contains("too many requests in work")).count();
    assert!((1..=3).contains(&said), "{said} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_count_until_they_are_done_although_their_clients_have_left() {
    let database = Postgres::shared().database().await;
    let app = Settings::new().with("DATABASE_URL", &database.url).serve();
    app.add("Before").await;
    let lock = database.lock_tasks().await;
    let clients = crowd(&app, 280, |number| post(&format!("task-{number}"))).await;
    eventually("there is no room", async || app.metric(REFUSED).await > 0).await;
    drop(clients);
    eventually("they have left", async || app.metric("tasklist_http_connections_open").await < 5).await;
    let refused = app.metric(REFUSED).await;
    app.post("/add", &[("name", "x")]).await.assert_error(503);
    assert_eq!(app.metric(REFUSED).await, refused + 1, "there is none yet");
    assert_eq!(app.get("/").await.status, 200);
    drop(lock);
    eventually("there is room again", async || app.post("/add", &[("name", "x")]).await.status == 303).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_service_leave_permits_for_others() {
    let upstream = Upstream::start(|_, _| Reply::Nothing).await;
    let app = Settings::new().with("API_URL", &upstream.url()).serve();
    app.add("Before").await;
    let _waiting = crowd(&app, 300, |_| "GET /apicalls HTTP/1.1\r\nhost: localhost\r\n\r\n".into()).await;
    eventually("there is no room", async || app.metric(REFUSED).await > 0).await;
    let page = app.get("/").await;
    page.assert_lists(["Before"]);
    let loaded = [page.attributes("link", "href"), page.attributes("script", "src")].concat();
    assert_eq!(loaded.len(), 3, "{loaded:?}");
    for path in loaded {
        assert_eq!(app.get(&path).await.status, 200, "{path}");
    }
    app.get("/apicalls").await.assert_error(503);
}
