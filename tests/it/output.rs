//! A server whose log cannot be written works all the same, and counts lost lines.

mod panics;

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use futures_util::future::join_all;

use crate::support::app::{BINARY, Settings};
use crate::support::disk::Disk;
use testkit::page::Page;
use testkit::port::on_free_port;
use testkit::process::{Process, find, require_file};
use testkit::{eventually, http, wait_until};

/// A server whose output the test does not read.
struct Server {
    process: Process,
    port: u16,
    /// Holds its directory.
    _settings: Settings,
}

/// Writes where its copies do.
fn copy(output: &impl AsFd) -> OwnedFd {
    output.as_fd().try_clone_to_owned().unwrap()
}

/// Returns a pipe that holds no byte more.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    // As many as a pipe holds on Linux.
    let fill = Command::new(find("head")).args(["-c", "65536", "/dev/zero"]).stdout(copy(&writer)).status();
    assert!(fill.unwrap().success());
    (reader, writer)
}

impl Server {
    /// Starts a server with other standard streams, and waits until it listens.
    fn start(
        settings: &Settings,
        line: &str,
        output: Option<BorrowedFd>,
        errors: Option<BorrowedFd>,
    ) -> Self {
        let start = |port: u16| {
            let mut command = settings.clone().with("PORT", &port.to_string()).shell(line);
            if let Some(output) = output {
                command.stdout(copy(&output));
            }
            if let Some(errors) = errors {
                command.stderr(copy(&errors));
            }
            Process::start(&mut command, settings.directory())
        };
        let listens = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let (process, port) = on_free_port("the server", start, listens);
        Self { process, port, _settings: settings.clone() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn get(&self, path: &str) -> Page {
        Page::read(http().get(self.url(path))).await
    }

    /// Visits pages and probes, adds a task and sees it.
    async fn is_used(&self, name: &str) {
        for path in ["/", "/?page=2", "/healthz", "/readyz", "/cache", "/"] {
            assert_eq!(self.get(path).await.status, 200, "{path}");
        }
        let added = Page::read(http().post(self.url("/add")).form(&[("name", name)])).await;
        assert_eq!(added.status, 303, "{}", added.body);
        assert!(self.get("/").await.body.contains(name));
    }

    async fn lost(&self) -> u64 {
        let metrics = self.get("/metrics").await.body;
        let lost = metrics.lines().find_map(|line| line.strip_prefix("tasklist_log_lines_lost_total "));
        lost.expect("it is counted").parse().unwrap()
    }

    /// Asks it to stop as Ctrl-C does, and waits.
    fn interrupt(mut self) {
        self.process.signal("INT");
        assert!(self.process.wait().success());
    }
}

fn serve() -> String {
    format!("exec {BINARY} serve")
}

/// Every form of the log, with all there is to be logged.
fn forms() -> [Settings; 2] {
    ["text", "json"].map(|form| Settings::new().with("LOG_FORMAT", form).with("RUST_LOG", "trace"))
}

#[tokio::test]
async fn a_closed_log_costs_nothing_but_lines() {
    for settings in forms() {
        let (reader, writer) = io::pipe().unwrap();
        let server = Server::start(&settings, &serve(), Some(writer.as_fd()), Some(writer.as_fd()));
        server.is_used("Before").await;
        drop((reader, writer));
        server.is_used("After").await;
        eventually("lines are lost", async || server.lost().await > 0).await;
        server.interrupt();
    }
}

#[tokio::test]
async fn a_stalled_log_costs_nothing_but_lines() {
    for settings in forms() {
        let (_reader, writer) = full_pipe();
        let server = Server::start(&settings, &serve(), Some(writer.as_fd()), Some(writer.as_fd()));
        server.is_used("First").await;
        let fill = async || {
            join_all((0..50).map(|_| server.get("/nowhere"))).await;
            server.lost().await > 0
        };
        eventually("the queue is full", fill).await;
        server.is_used("Last").await;
        server.interrupt();
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_from_the_start_costs_nothing_but_lines() {
    require_file("/dev/full");
    for redirected in [">/dev/full", ">/dev/full 2>&1", ">&- 2>&-", "1</dev/null"] {
        let server = Server::start(&Settings::new(), &format!("{} {redirected}", serve()), None, None);
        server.is_used("Kept").await;
        // A closed stream becomes /dev/null when a program starts, and never fails.
        let can_fail = !redirected.contains("&-");
        eventually("lines are lost", async || (server.lost().await > 0) == can_fail).await;
        server.interrupt();
    }
}

#[tokio::test]
async fn a_disk_that_has_room_again_gets_the_log_again() {
    let settings = Settings::new();
    let disk = Disk::mount(&settings, 1 << 20);
    let file = disk.inside("log");
    let log = File::options().append(true).create(true).open(&file).unwrap();
    let server = Server::start(&settings, &serve(), Some(log.as_fd()), None);
    server.is_used("Before").await;
    disk.fill();
    server.is_used("Meanwhile").await;
    let fill = async || {
        server.get("/nowhere").await;
        server.lost().await > 0
    };
    eventually("there is no room", fill).await;
    disk.free();
    let said = || std::fs::read_to_string(&file).unwrap();
    eventually("there is a line", async || {
        server.get("/found-again").await;
        said().contains("found-again")
    })
    .await;
    let whole = said();
    let line = whole.lines().find(|line| line.contains("found-again")).unwrap();
    assert!(line.starts_with("20") && line.contains("INFO request{id="), "{line}");
    server.interrupt();
    assert!(said().trim_end().ends_with("stopped"));
}

#[test]
fn a_server_that_cannot_start_ends_although_its_output_is_full() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (_reader, writer) = full_pipe();
    let settings = Settings::new().with("PORT", &port);
    let mut command = settings.shell(&serve());
    let command = command.stdout(Stdio::from(copy(&writer))).stderr(Stdio::from(copy(&writer)));
    let mut process = Process::start(command, settings.directory());
    wait_until("it ends", || process.child().try_wait().unwrap().is_some());
    assert_eq!(process.wait().code(), Some(1));
}
