//! A memcached that is full, or emptied again and again, while visitors work.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use super::assert_logged;
use crate::support::app::{App, Settings};
use crate::support::visitor::Visitor;
use testkit::memcached::Memcached;

/// Sends lines of memcached's text protocol, and waits until they are done.
fn tell(memcached: &Memcached, lines: &[u8]) {
    let mut stream = TcpStream::connect(memcached.address()).unwrap();
    stream.write_all(lines).unwrap();
    stream.write_all(b"version\r\n").unwrap();
    let mut answers = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(answers.any(|line| line.starts_with("VERSION")));
}

/// Stores more values of each length than there is memory for.
fn fill(memcached: &Memcached) {
    let mut bytes = 40;
    while bytes < 500_000 {
        let value = "x".repeat(bytes);
        let lines: String = (0..1_500_000 / bytes)
            .map(|number| format!("set {bytes}-{number} 0 0 {bytes} noreply\r\n{value}\r\n"))
            .collect();
        tell(memcached, lines.as_bytes());
        bytes += bytes / 5;
    }
}

/// Adds, removes and puts back, and asserts each time that the page shows it and the session has kept it.
async fn work(app: &App, name: &str, rounds: usize) {
    let visitor = Visitor::new();
    for round in 0..rounds {
        let task = format!("{name}, {round}");
        let page = visitor.add(app, &task).await;
        assert!(page.tasks().contains(&task) && page.messages().concat().contains(&task), "{}", page.body);
        let page = visitor.remove(app, &page, &task).await;
        assert!(!page.tasks().contains(&task) && page.messages().concat().contains(&task), "{}", page.body);
        let page = visitor.undo(app).await;
        assert!(page.tasks().contains(&task), "{}", page.body);
        let page = visitor.get(app, "/").await;
        visitor.remove(app, &page, &task).await;
        assert!(!app.get("/").await.tasks().contains(&task));
    }
}

async fn work_all(app: &App, rounds: usize) {
    let names = ["a", "b", "c", "d"];
    join_all(names.map(|name| work(app, name, rounds))).await;
    assert_logged(app, 0);
}

/// Lets visitors work while this is done to memcached without end.
async fn work_while(memcached: Memcached, trouble: impl Fn(&Memcached) + Send + 'static) {
    let app = Settings::new().with_memcached(&memcached).serve();
    let is_done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_done);
    let troubling = tokio::task::spawn_blocking(move || {
        while !stop.load(Ordering::Relaxed) {
            trouble(&memcached);
        }
    });
    work_all(&app, 10).await;
    is_done.store(true, Ordering::Relaxed);
    troubling.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memcached_that_is_emptied_again_and_again_loses_nothing() {
    work_while(Memcached::start(), |memcached| tell(memcached, b"flush_all\r\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memcached_that_evicts_all_the_time_loses_nothing() {
    work_while(Memcached::start_with(&["-m", "2"]), fill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memcached_without_memory_left_loses_nothing() {
    let memcached = Memcached::start_with(&["-m", "2", "-M"]);
    fill(&memcached);
    assert!(memcached.client().set("key", "x".repeat(1000), 0).is_err(), "it is full");
    for strategy in ["versioned", "update"] {
        let app = Settings::new().with_memcached(&memcached).with("CACHE_STRATEGY", strategy).serve();
        work_all(&app, 4).await;
    }
    tell(&memcached, b"flush_all\r\n");
}
