//! New versions that nobody notices: two processes behind nginx, restarted one after the other under load.
//!
//! What could fail a request, each of which was seen to:
//!
//! - The listener closes while connections wait before it, which the kernel has accepted, or begin: they are reset.
//! - A kept connection is closed just as a request is sent on it.
//! - nginx leaves the process that has just restarted out for 10 s, while the other restarts.
//! - A change fails on a kept connection, and may not be sent again, for it might have been made.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use crate::support::app::{App, Settings};
use crate::support::nginx::Nginx;
use testkit::postgres::{Postgres, TestDatabase};
use testkit::{free_port, wait_until};

/// Rounds in which each process restarts once.
const ROUNDS: usize = 2;
const READERS: usize = 4;
const WRITERS: usize = 4;

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    pages: AtomicUsize,
    added: Mutex<Vec<String>>,
    failed: Mutex<Vec<String>>,
}

async fn processes(database: &TestDatabase, ports: [u16; 2]) -> [Settings; 2] {
    let settings = Settings::new().with("DATABASE_URL", &database.url).in_production();
    assert!(settings.run(&["migrate"]).status.success());
    ports.map(|port| settings.clone().with("PORT", &port.to_string()))
}

/// Asks for pages until it is over.
async fn read(client: reqwest::Client, url: String, seen: Arc<Seen>) {
    while !seen.is_over.load(Ordering::Relaxed) {
        match ask_for(client.get(&url)).await {
            Ok(200) => _ = seen.pages.fetch_add(1, Ordering::Relaxed),
            other => seen.failed.lock().unwrap().push(format!("GET: {other:?}")),
        }
    }
}

/// Adds tasks until it is over.
async fn write(client: reqwest::Client, url: String, seen: Arc<Seen>, writer: usize) {
    for number in 0.. {
        if seen.is_over.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("{writer}/{number}");
        match ask_for(client.post(&url).form(&[("name", &name)])).await {
            Ok(303) => seen.added.lock().unwrap().push(name),
            other => seen.failed.lock().unwrap().push(format!("POST: {other:?}")),
        }
    }
}

/// Sends a request, reads all of its answer, and returns the status.
async fn ask_for(request: reqwest::RequestBuilder) -> reqwest::Result<u16> {
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    answer.bytes().await.map(|_| status)
}

// Clients go on while a process is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_or_is_made_twice_while_both_processes_restart() {
    let database = Postgres::shared().database().await;
    let ports = [free_port(), free_port()];
    let settings = processes(&database, ports).await;
    let mut running = [settings[0].serve(), settings[1].serve()].map(Some);
    let nginx = Nginx::start(ports, |site| site);

    let (seen, mut clients) = (Arc::new(Seen::default()), JoinSet::new());
    for _ in 0..READERS {
        clients.spawn(read(nginx.client(), nginx.url("/"), seen.clone()));
    }
    for writer in 0..WRITERS {
        clients.spawn(write(nginx.client(), nginx.url("/add"), seen.clone(), writer));
    }
    for _ in 0..ROUNDS {
        for (process, settings) in running.iter_mut().zip(&settings) {
            let (pages, added) = (seen.pages.load(Ordering::Relaxed), seen.added.lock().unwrap().len());
            wait_until("clients are served", || {
                seen.pages.load(Ordering::Relaxed) > pages + 10
                    && seen.added.lock().unwrap().len() > added + 10
            });
            let (status, said) = process.take().unwrap().terminate();
            assert!(status.success() && !said.contains("are cut"), "{said}");
            *process = Some(settings.serve());
        }
    }
    seen.is_over.store(true, Ordering::Relaxed);
    clients.join_all().await;

    assert_eq!(*seen.failed.lock().unwrap(), Vec::<String>::new());
    let mut added = std::mem::take(&mut *seen.added.lock().unwrap());
    let mut tasks: Vec<_> = database.tasks().await.into_iter().map(|(_, name)| name).collect();
    added.sort();
    tasks.sort();
    assert!(tasks == added, "{} tasks of {} that were added", tasks.len(), added.len());
}

/// A request on a connection that may be kept, with its answer.
fn ask(stream: &mut TcpStream, head: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    // At once, as clients do.
    stream.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (vec![], [0; 4096]);
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).expect("it is answered");
        assert!(read > 0, "the connection was closed without an answer");
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Routers send requests on connections they have kept, also to a process that was told to stop a moment ago.
#[test]
fn a_process_told_to_stop_serves_once_more_whoever_has_a_connection_or_makes_one() {
    let app = App::start();
    let mut kept = TcpStream::connect(app.address()).unwrap();
    assert!(ask(&mut kept, "GET /readyz", "").starts_with("HTTP/1.1 200 "));
    app.signal("TERM");
    let is_ready = || {
        let mut new = TcpStream::connect(app.address()).expect("a new connection is accepted");
        let answer = ask(&mut new, "GET /readyz", "");
        if answer.starts_with("HTTP/1.1 503 ") {
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
        answer.starts_with("HTTP/1.1 200 ")
    };
    wait_until("it says that it stops", || !is_ready());
    let answer = ask(&mut kept, "POST /add", "name=Late");
    assert!(answer.starts_with("HTTP/1.1 303 ") && answer.contains("connection: close\r\n"), "{answer}");
    let (status, said) = app.terminate();
    assert!(status.success() && !said.contains("are cut"), "{said}");
}

/// The kernel accepts connections for a process that has not come to it yet.
#[test]
fn whoever_waits_for_a_process_that_is_told_to_stop_is_served() {
    let app = App::start();
    app.signal("STOP");
    let mut waiting: Vec<_> = (0..50).map(|_| TcpStream::connect(app.address()).unwrap()).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    }
    app.signal("INT");
    app.signal("CONT");
    for mut stream in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is answered, and then closed");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
    assert!(app.terminate().0.success());
}

/// A router connects, and sends its request a moment later.
#[test]
fn whoever_was_accepted_may_still_say_a_first_word_and_who_says_none_keeps_nobody() {
    let app = App::start();
    let [mut fresh, _silent, mut later] = [(); 3].map(|()| TcpStream::connect(app.address()).unwrap());
    // They are accepted in order.
    assert!(ask(&mut later, "GET /healthz", "").starts_with("HTTP/1.1 200 "));
    app.signal("INT");
    wait_until("it stops", || app.output().contains("stopping"));
    let answer = ask(&mut fresh, "POST /add", "name=Late");
    assert!(answer.starts_with("HTTP/1.1 303 ") && answer.contains("connection: close\r\n"), "{answer}");
    let (status, said) = app.terminate();
    assert!(status.success() && !said.contains("are cut"), "{said}");
}
