//! Clients that send requests and read no response.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::MIB;
use crate::clients::{Client, GET, post};
use crate::support::app::App;

/// Who takes nothing for so long is taken for one who takes nothing more.
const QUIET: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_read_no_further() {
    let app = App::start();
    for _ in 0..100 {
        app.post("/add", &[("name", &"x".repeat(100))]).await;
    }
    let memory = app.memory();
    let requests = GET.repeat(5_000);
    let send = async || {
        let mut client = Client::connect(&app).await;
        let mut sent = 0;
        // Until neither the server nor the kernel takes more.
        while let Ok(Ok(taken)) = timeout(QUIET, client.stream.write(requests.as_bytes())).await {
            sent += taken;
            assert!(sent < 100 * MIB, "the server reads and reads");
        }
        client
    };
    let deaf = join_all((0..20).map(|_| send())).await;
    assert!(app.memory() < memory + 64 * MIB, "{memory} became {}", app.memory());
    let mut client = Client::connect(&app).await;
    assert_eq!(client.ask(&post("served")).await.status, 303);
    assert_eq!(client.ask(GET).await.status, 200);
    drop(deaf);
}
