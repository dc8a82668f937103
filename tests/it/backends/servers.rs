//! What only backends on memcached servers have: logins, limits, neighbours.

use bytes::Bytes;
use tasklist::cache::backend::ErrorKind;

use super::{MINUTE, on_both_clients};
use crate::support::backends::both_clients;
use crate::support::memcached::{Memcached, USER};

#[tokio::test]
async fn a_value_that_the_server_refuses_leaves_no_older_one_behind() {
    on_both_clients(&mut Memcached::start_with(&["-I", "512k"]), async |backend, _| {
        backend.set("k", Bytes::from_static(b"old"), MINUTE).await.unwrap();
        let error = backend.set("k", vec![b'x'; 700_000].into(), MINUTE).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Refused(_)), "{error}");
        assert_eq!(backend.get("k").await.unwrap(), None, "and the server is asked as before");
    })
    .await;
}

#[tokio::test]
async fn a_server_without_sasl_is_used_without_it() {
    let memcached = Memcached::start();
    for backend in both_clients(&memcached.address(), true) {
        backend.set("k", Bytes::from_static(b"v"), MINUTE).await.unwrap();
        assert!(backend.get("k").await.unwrap().is_some());
        assert!(backend.check().await.remove(0).outcome.unwrap().ends_with("no login"));
    }
}

#[tokio::test]
async fn a_check_names_the_user() {
    let memcached = Memcached::start_with_sasl();
    for backend in both_clients(&memcached.address(), true) {
        let [check] = backend.check().await.try_into().unwrap();
        assert_eq!(check.server, memcached.address());
        assert!(check.outcome.unwrap().ends_with(&format!("logged in as {USER}")));
    }
}

#[tokio::test]
async fn what_one_client_writes_the_other_reads_on_every_server() {
    let servers: Vec<_> = (0..3).map(|_| Memcached::start_with_sasl()).collect();
    let address = servers.iter().map(Memcached::address).collect::<Vec<_>>().join(",");
    let clients = both_clients(&address, true);
    for (one, other) in [(0, 1), (1, 0)] {
        for number in 0..50 {
            let (key, value) = (format!("{one}:{number}"), Bytes::from(format!("value {number}")));
            clients[one].set(&key, value.clone(), MINUTE).await.unwrap();
            assert_eq!(clients[other].get(&key).await.unwrap(), Some(value));
        }
    }
    for server in &servers {
        assert!(server.stat("curr_items") > 0, "each has its share");
    }
}
