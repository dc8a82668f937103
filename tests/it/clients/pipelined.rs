//! Requests that are sent before the answers to those before them.

use super::{Client, GET, post};
use crate::support::app::App;

#[tokio::test]
async fn a_hundred_requests_at_once_are_answered_in_their_order() {
    let app = App::start();
    let mut client = Client::connect(&app).await;
    let requests: String = (0..50).map(|number| post(&format!("task-{number}")) + GET).collect();
    client.send(&requests).await;
    for number in 0..50 {
        assert_eq!(client.answer().await.status, 303, "{number}");
        let listed = client.answer().await;
        assert_eq!(listed.status, 200);
        let (this, next) = (format!(">task-{number}<"), format!(">task-{}<", number + 1));
        assert!(listed.body.contains(&this) && !listed.body.contains(&next), "{number}: {}", listed.body);
    }
    assert_eq!(client.ask(GET).await.status, 200);
}

#[tokio::test]
async fn a_refused_request_ends_the_requests_sent_behind_it() {
    let app = App::start();
    let mut client = Client::connect(&app).await;
    client.send(format!("{GET}BAD REQUEST\r\n\r\n{GET}")).await;
    assert_eq!(client.answer().await.status, 200);
    let refused = client.answer().await;
    assert_eq!((refused.status, refused.header("connection")), (400, Some("close")));
    assert_eq!(client.rest().await, "");
}
