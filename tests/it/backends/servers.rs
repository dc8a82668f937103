//! What only backends on memcached servers have: logins, limits, neighbours.

use bytes::Bytes;
use neverstale::backend::ErrorKind;

use super::on_both_clients;
use crate::support::backends::both_clients;
use testkit::contract::MINUTE;
use testkit::contract::values::what_is_read_after_adding_is_what_was_there_by_then;
use testkit::memcached::{Memcached, USER};
use testkit::proxy::Proxy;

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

#[tokio::test(flavor = "multi_thread")]
async fn adding_on_one_server_comes_before_reading_on_another() {
    let [one, other] = [Memcached::start(), Memcached::start()];
    let proxy = Proxy::start(one.address()).await;
    for backend in both_clients(&format!("{},{}", proxy.address, other.address()), false) {
        what_is_read_after_adding_is_what_was_there_by_then(&*backend).await;
        let is_held = |key: &String| backend.server_of(key) == proxy.address.to_string();
        let on_one = |name: &str| (0..).map(|number| format!("{name}:{number}")).find(is_held).unwrap();
        let on_other = (0..).map(|number| format!("v:{number}")).find(|key| !is_held(key)).unwrap();
        // Connected, so that a login is not what is held.
        backend.get(&on_one("any")).await.unwrap();
        proxy.hold("lock:");
        let lock = on_one("lock");
        let both = backend.add_then_get(&lock, "mine".into(), MINUTE, &on_other);
        let meanwhile = async {
            proxy.wait_for_held().await;
            backend.set(&on_other, "built".into(), MINUTE).await.unwrap();
            proxy.release();
        };
        let (found, ()) = tokio::join!(both, meanwhile);
        assert_eq!(found.unwrap(), (true, Some("built".into())));
        backend.clear().await.unwrap();
    }
}
