//! Real servers that stop, start again, or are not there yet.

use std::error::Error;
use std::io;

use tokio_memcached::{Client, ErrorKind};

use super::{MINUTE, assert_kind, client_of, data, impatient, stats, until_answered, until_left_out};
use testkit::memcached::Memcached;
use testkit::rogue::{Question, Rogue, value_of};
use testkit::{eventually, free_port};

#[tokio::test]
async fn a_server_that_starts_later_is_found_without_being_asked_for() {
    let address = format!("127.0.0.1:{}", free_port());
    let client = Client::new(impatient(&address));
    assert_kind(client.get("k").await, |kind| kind == ErrorKind::Connect);
    until_left_out(&client).await;
    assert_kind(client.get("k").await, |kind| kind == ErrorKind::Down);
    let _rogue = Rogue::listen(&address, Question::well).await;
    eventually("it is found", async || !stats(&client).is_down).await;
    assert_eq!(data(client.get("k").await), Some(value_of(b"k")));
}

#[tokio::test]
async fn an_error_keeps_what_caused_it() {
    let client = Client::new(impatient("127.0.0.1:1"));
    let refused = client.get("k").await.unwrap_err();
    let cause = refused.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!((refused.kind(), cause.kind()), (ErrorKind::Connect, io::ErrorKind::ConnectionRefused));
    assert_eq!(refused.to_string(), "127.0.0.1:1: no connection", "without its cause");
    assert_eq!(format!("{refused:#}"), format!("{refused}: {cause}"));
    until_left_out(&client).await;
    let down = client.get("k").await.unwrap_err();
    assert_eq!((down.kind(), down.outage().unwrap().kind()), (ErrorKind::Down, ErrorKind::Connect));
    assert_eq!(down.source().unwrap().source().unwrap().to_string(), cause.to_string());
}

#[tokio::test]
async fn a_paused_server_answers_late_and_to_nobody_else() {
    let memcached = Memcached::start();
    let (client, patient) = (Client::new(impatient(&memcached.address())), client_of(&memcached));
    for key in ["mine", "yours"] {
        patient.set(key, key, MINUTE).await.unwrap();
    }
    until_answered(&client, "yours").await;
    for _ in 0..3 {
        memcached.stop();
        assert_kind(client.get("mine").await, |kind| matches!(kind, ErrorKind::Timeout(_)));
        memcached.go_on();
        assert_eq!(until_answered(&client, "yours").await, Some(b"yours".to_vec()));
    }
}

/// What to do about it is for those who know what the key is for: it may be another client's by then.
#[tokio::test]
async fn an_uncertain_write_is_reported_and_nothing_else_is_done_about_it() {
    let memcached = Memcached::start();
    let (client, patient) = (Client::new(impatient(&memcached.address())), client_of(&memcached));
    for key in ["set", "cas", "deleted", "not-sent", "many"] {
        patient.set(key, "old", MINUTE).await.unwrap();
    }
    let version = patient.get("cas").await.unwrap().unwrap().cas;
    until_answered(&client, "other").await;
    memcached.stop();
    let (set, cas, deleted) = tokio::join!(
        client.set("set", "new", MINUTE),
        client.cas("cas", "new", MINUTE, version),
        client.delete("deleted")
    );
    for error in [set.unwrap_err(), cas.unwrap_err(), deleted.unwrap_err()] {
        assert!(matches!(error.kind(), ErrorKind::Timeout(_)) && error.was_written(), "{error:?}");
    }
    until_left_out(&client).await;
    let not_sent = client.set("not-sent", "new", MINUTE).await.unwrap_err();
    let many = client.set_many(&[("many", "new")], MINUTE).await.remove(0).unwrap_err();
    for error in [not_sent, many] {
        assert!(error.kind() == ErrorKind::Down && !error.was_written(), "{error:?}");
        assert!(matches!(error.outage().unwrap().kind(), ErrorKind::Timeout(_)), "{error:?}");
    }
    memcached.go_on();
    until_answered(&client, "other").await;
    for key in ["not-sent", "many"] {
        assert_eq!(data(patient.get(key).await), Some(b"old".to_vec()), "{key}");
    }
    assert!(data(patient.get("set").await).is_some(), "it is not deleted");
    assert!(data(patient.get("cas").await).is_some(), "it is not deleted");
}

#[tokio::test]
async fn a_restarted_server_is_no_outage() {
    let mut memcached = Memcached::start();
    let client = client_of(&memcached);
    client.set("k", "v", MINUTE).await.unwrap();
    memcached.restart();
    assert_eq!(until_answered(&client, "k").await, None);
    assert_eq!((stats(&client).connections, stats(&client).is_down), (2, false));
}

#[tokio::test]
async fn a_server_that_fails_costs_its_own_keys_and_no_others() {
    let (mut gone, there) = (Memcached::start(), Memcached::start());
    let client = Client::new(super::options(&[gone.address(), there.address()]));
    let keys: Vec<_> = (0..100).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        client.set(key, key.clone(), MINUTE).await.unwrap();
    }
    let lost = usize::try_from(gone.stat("curr_items")).unwrap();
    assert!(lost > 0 && lost < keys.len());
    gone.kill();
    let mut errors = 0;
    for (key, value) in keys.iter().zip(client.get_many(&keys).await) {
        match value {
            Ok(value) => assert_eq!(value.unwrap().data, key.as_bytes()),
            Err(error) => {
                assert_eq!(error.server(), Some(gone.address().as_str()));
                errors += 1;
            }
        }
    }
    assert_eq!(errors, lost);
    assert_kind(client.flush().await, |kind| matches!(kind, ErrorKind::Connect | ErrorKind::Down));
    let left = client_of(&there).get_many(&keys).await;
    assert!(left.into_iter().all(|value| data(value).is_none()), "the others are flushed");
    let versions = client.version().await;
    assert!(versions[0].1.is_err() && versions[1].1.is_ok());
}
