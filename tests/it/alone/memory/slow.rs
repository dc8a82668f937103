//! Senders by the byte.

use std::time::Duration;

use super::MIB;
use crate::clients::{Client, GET, post};
use crate::support::app::App;

const MANY: usize = 400;

/// Sends a request so slowly that it is not there before the test is over.
async fn dribble(client: Client, request: String) {
    for byte in request.bytes() {
        if client.stream.try_write(&[byte]).is_err() {
            client.stream.writable().await.unwrap();
        }
        // Slowness is the subject.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_by_the_byte_delay_no_request() {
    let app = App::start();
    app.add("Before").await;
    let memory = app.memory();
    let long = format!("GET / HTTP/1.1\r\nx-long: {}", "x".repeat(1000));
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..MANY {
        slow.spawn(dribble(Client::connect(&app).await, long.clone()));
        let mut client = Client::connect(&app).await;
        let form = post(&"x".repeat(1000));
        let (head, body) = form.split_once("name=").unwrap();
        client.send(head).await;
        slow.spawn(dribble(client, body.to_owned()));
    }
    let mut client = Client::connect(&app).await;
    for number in 0..50 {
        assert_eq!(client.ask(GET).await.status, 200);
        assert_eq!(client.ask(&post(&format!("task-{number}"))).await.status, 303);
    }
    assert!(app.memory() < memory + 64 * MIB, "{memory} became {}", app.memory());
    assert!(slow.try_join_next().is_none(), "they are still at it");
    slow.shutdown().await;
    assert_eq!(app.get("/").await.tasks().len(), 51);
}
