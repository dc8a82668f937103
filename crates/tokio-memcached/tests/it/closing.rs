//! Clients that are closed, dropped, or made where there is no runtime.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::{Builder, Handle};
use tokio_memcached::{Client, ErrorKind};

use super::{MINUTE, assert_kind, client_of, data, impatient, options, stats, until_left_out};
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::proxy::Proxy;
use testkit::rogue::{Answer, Rogue};

fn is_closed(kind: ErrorKind) -> bool {
    kind == ErrorKind::Closed
}

#[test]
fn a_client_may_be_made_before_there_is_a_runtime() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    let without_runtime =
        || assert_kind(client.get("k").now_or_never().unwrap(), |kind| kind == ErrorKind::NoRuntime);
    without_runtime();
    let get = async { data(client.get("k").await) };
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime().block_on(get), None, "the client connects there");
    without_runtime();
    let later = runtime().block_on(client.get("k"));
    assert_kind(later, is_closed);
    runtime().block_on(client.close());
}

#[tokio::test]
async fn a_closed_client_has_no_connection_and_takes_no_command() {
    let servers = [Memcached::start(), Memcached::start()];
    let before = servers.each_ref().map(|server| server.stat("curr_connections"));
    let tasks = Handle::current().metrics().num_alive_tasks();
    let client = Client::new(options(&servers.each_ref().map(Memcached::address)));
    let clone = client.clone();
    client.set_many(&["a", "b", "c", "d", "e"].map(|key| (key, key)), MINUTE).await;
    clone.close().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    eventually("the servers see it", async || {
        servers.each_ref().map(|server| server.stat("curr_connections")) == before
    })
    .await;
    let operations = stats(&client).connections;
    assert_kind(client.get("a").await, is_closed);
    assert_kind(client.set("a", "v", MINUTE).await, is_closed);
    assert_kind(client.get_many(&["a"]).await.remove(0), is_closed);
    assert_kind(client.version().await.remove(0).1, is_closed);
    client.until_up("a").await;
    client.close().await;
    assert_eq!(stats(&client).connections, operations);
}

#[tokio::test]
async fn a_client_that_was_never_used_is_closed_at_once() {
    let client = Client::new(impatient("127.0.0.1:1"));
    client.close().await;
    assert_kind(client.get("k").await, is_closed);
}

/// The commands are in the queue when the client is closed, and their responses are held back.
#[tokio::test]
async fn commands_from_before_are_carried_out() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let client = Client::new(options(&[proxy.address.to_string()]));
    client.set("k", "old", MINUTE).await.unwrap();
    proxy.hold("new");
    let mut set = Box::pin(client.set("k", "new", MINUTE));
    let mut get = Box::pin(client.get("k"));
    assert!(futures_util::poll!(set.as_mut()).is_pending() && futures_util::poll!(get.as_mut()).is_pending());
    let mut close = Box::pin(client.close());
    assert!(futures_util::poll!(close.as_mut()).is_pending(), "it waits for them");
    proxy.wait_for_held().await;
    assert_kind(client.get("k").await, is_closed);
    proxy.release();
    let (set, get, ()) = tokio::join!(set, get, close);
    set.unwrap();
    assert_eq!(data(get), Some(b"new".to_vec()));
}

#[tokio::test]
async fn commands_that_get_no_response_fail_in_their_time_and_close_returns() {
    let rogue =
        Rogue::start(|question| if question.is_greeting() { question.well() } else { Answer::Nothing }).await;
    let client = Client::new(impatient(&rogue.address.to_string()));
    let mut get = Box::pin(client.get("k"));
    assert!(futures_util::poll!(get.as_mut()).is_pending());
    let (get, ()) = tokio::join!(get, client.close());
    assert_kind::<Option<_>>(get, |kind| matches!(kind, ErrorKind::Timeout(_)));
}

/// One server refuses connections, the other accepts them and says nothing.
#[tokio::test]
async fn a_client_whose_server_is_down_is_closed_without_waiting_for_it() {
    let silent = Rogue::start(|_| Answer::Nothing).await;
    for address in ["127.0.0.1:1".to_owned(), silent.address.to_string()] {
        let options = impatient(&address).retry_interval(Duration::from_secs(3600));
        let client = Client::new(options.connect_timeout(Duration::from_secs(3600)));
        client.get("k").await.unwrap_err();
        until_left_out(&client).await;
        client.close().await;
        assert_kind(client.get("k").await, is_closed);
    }
}

#[tokio::test]
async fn a_close_that_is_given_up_closes_all_the_same() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    let mut get = Box::pin(client.get("k"));
    assert!(futures_util::poll!(get.as_mut()).is_pending());
    let mut close = Box::pin(client.close());
    assert!(futures_util::poll!(close.as_mut()).is_pending());
    drop(close);
    assert_kind(client.get("k").await, is_closed);
    assert_eq!(data(get.await), None);
    client.close().await;
}

#[tokio::test]
async fn a_client_that_is_dropped_hangs_up() {
    let memcached = Memcached::start();
    let before = memcached.stat("curr_connections");
    let clients: Vec<_> = (0..5).map(|_| client_of(&memcached)).collect();
    for client in &clients {
        client.get("k").await.unwrap();
    }
    let clone = clients[0].clone();
    assert_eq!(memcached.stat("curr_connections"), before + 5);
    drop(clients);
    eventually("all but one hang up", async || memcached.stat("curr_connections") == before + 1).await;
    clone.get("k").await.unwrap();
    assert_eq!(stats(&clone).connections, 1, "a clone keeps the connection");
    drop(clone);
    eventually("the last hangs up", async || memcached.stat("curr_connections") == before).await;
}

#[tokio::test]
async fn a_client_that_is_dropped_ends_its_tasks() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let memcached = Memcached::start();
    let before = metrics.num_alive_tasks();
    let (used, unused, is_down) =
        (client_of(&memcached), client_of(&memcached), Client::new(impatient("127.0.0.1:1")));
    used.get("k").await.unwrap();
    is_down.set("k", "v", MINUTE).await.unwrap_err();
    let _ = unused.until_up("k").await;
    assert_eq!(metrics.num_alive_tasks(), before + 2, "one is started by its first command");
    drop((used, unused, is_down));
    eventually("the tasks end", async || metrics.num_alive_tasks() == before).await;
}
