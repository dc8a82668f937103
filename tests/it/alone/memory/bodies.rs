//! Bodies by the thousand.

use super::MIB;
use crate::clients::{Client, GET, post, post_head};
use crate::support::app::App;
use testkit::eventually;

const LENGTH: usize = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_by_the_thousand_take_no_more_memory_than_they_may() {
    rlimit::increase_nofile_limit(8_192).unwrap();
    let app = App::start();
    let memory = app.memory();
    let body = format!("name={}", "x".repeat(LENGTH - 5));
    let mut slow = vec![];
    for _ in 0..1_500 {
        let mut client = Client::connect(&app).await;
        client.send(post_head(LENGTH)).await;
        client.send(&body[..LENGTH - 1]).await;
        slow.push(client);
    }
    assert!(app.memory() < memory + 120 * MIB, "{memory} became {}", app.memory());
    let mut client = Client::connect(&app).await;
    assert_eq!(client.ask(GET).await.status, 200, "who sends nothing is served");
    let mut answers = [0, 0];
    for client in &mut slow {
        client.send("x").await;
        let answer = client.answer().await;
        let is_refused = answer.status == 503;
        // On a busy machine its time is over by now.
        assert!(is_refused || [408, 422].contains(&answer.status), "{}", answer.head);
        assert_eq!(answer.header("retry-after"), is_refused.then_some("5"));
        answers[usize::from(is_refused)] += 1;
    }
    assert!(answers[0] > 100 && answers[1] > 100, "{answers:?}");
    let refused = app.metric("tasklist_http_requests_refused_total{cause=\"bodies\"}").await;
    assert_eq!(refused, answers[1], "each is counted");
    eventually("there is room again", async || client.ask(&post("after")).await.status == 303).await;
    let (_, output) = app.interrupt();
    let said = output.lines().filter(|line| line.contains("too many bodies in memory")).count();
    let said = u64::try_from(said).unwrap();
    // Every few seconds.
    assert!((1..answers[1] / 5).contains(&said) && !output.contains("ERROR"), "{said} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_no_handler_reads_is_not_waited_for() {
    let app = App::start();
    for (method, status) in [("GET", 200), ("PUT", 405)] {
        let mut client = Client::connect(&app).await;
        let head = format!("{method} / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {LENGTH}\r\n\r\n");
        client.send(head + &"x".repeat(LENGTH - 1)).await;
        assert_eq!(client.answer().await.status, status, "{method}");
    }
}
