//! The promises of docs/security.md: against a hostile cache server, visitors that poison pages for others, and readers
//! of the output.

pub mod document;
pub mod hostile;
mod injection;
mod poisoning;
mod secrets;
mod signed;
mod supply;

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::app::{App, Settings};
use testkit::memcached::Memcached;

const SECRET: &str = "a-key-that-is-long-enough-for-this-site";

/// The strategies of which a server could make what it likes.
const STRATEGIES: [&str; 5] = ["versioned", "delete", "rotate", "update", "expire"];

fn settings(memcached: &Memcached, signed: bool) -> Settings {
    let settings = Settings::new().with_memcached(memcached).with("SECRET_KEY", SECRET);
    settings.with("CACHE_SIGNED", if signed { "on" } else { "off" })
}

/// Returns how many values were unreadable.
async fn unreadable(app: &App) -> u64 {
    let metrics = app.get("/metrics").await.body;
    let lines = metrics.lines().filter(|line| line.starts_with("tasklist_cache_unreadable_total"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Sends a head as it is, and returns the answer; an empty one, if there is none.
fn raw(app: &App, head: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.address()).unwrap();
    let mut answer = vec![];
    // Whoever is refused may be hung up on.
    let _ = stream.write_all(&[head, b"connection: close\r\n\r\n"].concat());
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
