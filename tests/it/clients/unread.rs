//! Clients that send requests and read no response.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{Client, GET, MIB, post};
use crate::support::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_read_no_further() {
    let app = App::start();
    for _ in 0..100 {
        app.post("/add", &[("name", &"x".repeat(100))]).await;
    }
    let memory = app.memory();
    let requests = GET.repeat(5_000);
    let mut deaf = vec![];
    for _ in 0..20 {
        let mut client = Client::connect(&app).await;
        let send = async {
            let mut sent = 0;
            while client.stream.write_all(requests.as_bytes()).await.is_ok() {
                sent += requests.len();
                assert!(sent < 100 * MIB, "the server reads and reads");
            }
        };
        // Until neither the server nor the kernel takes more.
        let _ = timeout(Duration::from_millis(300), send).await;
        deaf.push(client);
    }
    assert!(app.memory() < memory + 64 * MIB, "{memory} became {}", app.memory());
    let mut client = Client::connect(&app).await;
    assert_eq!(client.ask(&post("served")).await.status, 303);
    assert_eq!(client.ask(GET).await.status, 200);
}
