//! The memcached client, against real servers and against one that does what no server should.

#![expect(clippy::unwrap_used, reason = "a test that finds something missing ends there")]

mod callers;
mod closing;
mod limits;
mod outages;
mod rogues;
mod safety;
mod verbs;

use std::time::Duration;

use tokio_memcached::{Client, Error, ErrorKind, Expiration, Options, ServerStats, Value};

use testkit::eventually;
use testkit::memcached::Memcached;

const MINUTE: Expiration = Expiration::After(Duration::from_secs(60));

/// Options for servers that are expected to answer.
fn options(servers: &[String]) -> Options {
    Options::new(servers.iter().map(|address| address.parse().unwrap()))
        .unwrap()
        .operation_timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(10))
        .retry_interval(Duration::from_millis(50))
}

/// Options for a server that is not.
fn impatient(server: &str) -> Options {
    let options = options(&[server.to_owned()]);
    options.operation_timeout(Duration::from_millis(200)).connect_timeout(Duration::from_millis(400))
}

fn client_of(server: &Memcached) -> Client {
    Client::new(options(&[server.address()]))
}

fn stats(client: &Client) -> ServerStats {
    client.servers().remove(0)
}

fn data(value: Result<Option<Value>, Error>) -> Option<Vec<u8>> {
    value.unwrap().map(|value| value.data.to_vec())
}

#[track_caller]
fn assert_kind<T>(result: Result<T, Error>, matches: impl Fn(ErrorKind) -> bool) {
    let Err(error) = result else { panic!("an error was expected") };
    assert!(matches(error.kind()), "{error}: {error:?}");
}

async fn until_left_out(client: &Client) {
    eventually("the server is left out", async || stats(client).is_down).await;
}

/// Asks for a key until the server answers.
async fn until_answered(client: &Client, key: &str) -> Option<Vec<u8>> {
    let mut answer = None;
    eventually("the server is used again", async || {
        answer = client.get(key).await.ok();
        answer.is_some()
    })
    .await;
    answer.flatten().map(|value| value.data.to_vec())
}
