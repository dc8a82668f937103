//! Callers who come in crowds, give up, or leave.

use futures_util::future::join_all;
use tokio_memcached::Client;

use super::{MINUTE, client_of, data, options, stats};
use testkit::abandon;
use testkit::memcached::Memcached;
use testkit::rogue::{Question, Rogue, value_of};

#[tokio::test]
async fn a_future_may_be_dropped_wherever_it_waits() {
    let memcached = Memcached::start();
    for polls in 0..8 {
        // Also while there is no connection yet, and all the steps of making one are ahead.
        let client = client_of(&memcached);
        let keys: Vec<_> = (0..100).map(|number| format!("key-{number}")).collect();
        for _ in 0..3 {
            abandon(client.get("key-0"), polls).await;
            abandon(client.set("abandoned", "v", MINUTE), polls).await;
            abandon(client.get_many(&keys), polls).await;
            abandon(client.stats(), polls).await;
        }
        for key in &keys {
            client.set(key, key.clone(), MINUTE).await.unwrap();
        }
        for _ in 0..3 {
            abandon(client.get_many(&keys), polls).await;
            abandon(client.get("key-1"), polls).await;
        }
        for key in &keys {
            assert_eq!(data(client.get(key).await), Some(key.as_bytes().to_vec()), "after {polls} polls");
        }
        assert_eq!(stats(&client).connections, 1);
    }
}

#[tokio::test]
async fn ten_thousand_callers_at_once_share_a_connection_and_get_their_own_values() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    for number in 0..100 {
        client.set(format!("key-{number}"), format!("value {number}"), MINUTE).await.unwrap();
    }
    let callers = (0..10_000).map(|caller| {
        let (client, number) = (client.clone(), caller % 100);
        tokio::spawn(async move { (number, data(client.get(format!("key-{number}")).await)) })
    });
    for answer in join_all(callers).await {
        let (number, value) = answer.unwrap();
        assert_eq!(value, Some(format!("value {number}").into_bytes()));
    }
    assert_eq!(stats(&client).connections, 1);
}

#[tokio::test]
async fn long_values_and_short_ones_at_once_keep_their_bytes() {
    let memcached = Memcached::start();
    let client = client_of(&memcached);
    let value = |number: u8| vec![number; 1 + 4000 * usize::from(number)];
    let stored = (0..200).map(|number| client.set(format!("key-{number}"), value(number), MINUTE));
    for stored in join_all(stored).await {
        stored.unwrap();
    }
    let keys: Vec<_> = (0..200).map(|number| format!("key-{number}")).collect();
    let (one_by_one, many) =
        tokio::join!(join_all(keys.iter().map(|key| client.get(key))), client.get_many(&keys));
    for values in [one_by_one, many] {
        for (number, stored) in (0..200).zip(values) {
            // Not `assert_eq`, which would print the megabyte. The first may be evicted: the server has 64 MB.
            assert!(data(stored).is_none_or(|stored| stored == value(number)), "value {number}");
        }
    }
}

#[tokio::test]
async fn an_address_may_be_ipv6_or_a_name() {
    let six = Rogue::listen("[::1]:0", Question::well).await;
    // A name may have an address of each kind; here nobody listens on the other.
    let four = Rogue::start(Question::well).await;
    for address in [six.address.to_string(), format!("localhost:{}", four.address.port())] {
        let client = Client::new(options(&[address]));
        assert_eq!(data(client.get("k").await), Some(value_of(b"k")));
    }
}
