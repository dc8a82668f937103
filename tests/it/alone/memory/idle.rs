//! Connections on which nothing comes.

use super::MIB;
use crate::clients::{Client, GET, post};
use crate::support::app::{App, Settings};
use testkit::eventually;
use testkit::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_idle_connections_delay_no_request() {
    let files = rlimit::increase_nofile_limit(8_192).unwrap();
    assert!(files > 6_000, "this test needs 6,000 files, `ulimit -Hn` is {files}");
    let app = App::start();
    let memory = app.memory();
    let mut idle = vec![];
    for _ in 0..5_000 {
        idle.push(Client::connect(&app).await);
    }
    app.add("Served").await.assert_lists(["Served"]);
    let open = "tasklist_http_connections_open";
    eventually("all are accepted", async || app.metric(open).await > 5_000).await;
    app.get("/").await.assert_lists(["Served"]);
    assert!(app.memory() < memory + 200 * MIB, "{memory} became {}", app.memory());
    drop(idle);
    eventually("they are let go", async || app.metric(open).await < 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_few_files_connections_leave_enough_for_requests() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url).with_files(256);
    let files = format!("file://{}", settings.directory().display());
    let app = settings.with("CACHE_URL", &files).serve();
    let mut known = vec![];
    for _ in 0..8 {
        let mut client = Client::connect(&app).await;
        assert_eq!(client.ask(GET).await.status, 200);
        known.push(client);
    }
    // More than can be accepted; the others wait, and cost nothing. A kernel may let no more than 128 wait.
    let mut idle = vec![];
    for _ in 0..260 {
        idle.push(Client::connect(&app).await);
    }
    for number in 0..5 {
        // All at once, so that all connections to the database are used.
        for client in &mut known {
            client.send(post(&format!("task-{number}"))).await;
        }
        for client in &mut known {
            assert_eq!(client.answer().await.status, 303);
            assert_eq!(client.ask(GET).await.status, 200);
        }
    }
    drop(idle);
    assert_eq!(app.get("/").await.tasks().len(), 40);
    assert_eq!(app.get("/readyz").await.status, 200);
    let (status, output) = app.interrupt();
    let warnings: Vec<_> = output.lines().filter(|line| line.contains("WARN")).collect();
    let [told] = warnings[..] else { panic!("{warnings:?}") };
    assert!(told.contains("few connections can be served at once") && told.contains("files=256"), "{told}");
    assert!(status.success() && !output.contains("ERROR"), "{output}");
}
