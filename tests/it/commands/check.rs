//! `tasklist check`: what a cache must do, tried, and told apart when it does not.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{assert_fails, text};
use crate::support::app::Settings;
use testkit::memcached::Memcached;
use testkit::rogue::{Answer, Question, Rogue};

const GET: u8 = 0x00;
const SET: u8 = 0x01;
const DELETE_QUIET: u8 = 0x14;

#[track_caller]
fn json(settings: &Settings) -> Value {
    serde_json::from_slice(&settings.run(&["check", "--json"]).stdout).unwrap()
}

/// The keys that a server has.
fn keys(memcached: &Memcached) -> String {
    let stats = memcached.client().stats().unwrap();
    stats[0].1["curr_items"].clone()
}

#[test]
fn every_server_is_tried_through_a_key_of_its_own_that_is_removed() {
    let servers = [Memcached::start_with_sasl(), Memcached::start_with_sasl(), Memcached::start_with_sasl()];
    let list: Vec<_> = servers.iter().map(Memcached::address).collect();
    for client in ["native", "memcache"] {
        let settings = Settings::new().with_login(&servers[0]).with("MEMCACHE_CLIENT", client);
        let output = settings.with("MEMCACHIER_SERVERS", &list.join(",")).run(&["check"]);
        let said = text(&output.stdout);
        assert!(output.status.success(), "{said}");
        for server in &list {
            for tried in [
                "round trip: a value comes back as it was stored (",
                "clock: a value that is to live for 31 days is kept (",
                "value limit: takes 1000000 bytes (",
            ] {
                assert!(
                    said.contains(&format!("ok      cache {server} {tried}")),
                    "{server} {tried}:\n{said}"
                );
            }
        }
    }
    for server in &servers {
        assert_eq!(keys(server), "0");
        let sets = server.client().stats().unwrap()[0].1["cmd_set"].clone();
        assert_eq!(sets, "6", "three a run");
    }
}

#[test]
fn the_cache_of_this_process_is_tried_as_well() {
    let output = Settings::new().run(&["check"]);
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("ok      cache value limit: takes 1000000"), "{said}");
}

#[test]
fn a_server_that_takes_no_large_values_is_said_with_the_reason() {
    let memcached = Memcached::start_with(&["-I", "512k"]);
    for client in ["native", "memcache"] {
        let settings = Settings::new().with_memcached(&memcached).with("MEMCACHE_CLIENT", client);
        let output = settings.run(&["check"]);
        let limit =
            format!("FAILED  cache {} value limit: 1000000 bytes: did not store", memcached.address());
        assert_fails(&output, &[&limit, "(memcached -I 2m)", "provider's plan", "1 of 6 checks failed"]);
    }
    assert_eq!(keys(&memcached), "0");
}

#[test]
fn a_server_without_room_is_said_to_be_full() {
    let memcached = Memcached::start_with(&["-M", "-m", "2"]);
    let client = memcached.client();
    let mut number = 0;
    // As long as what the check stores: memory is kept apart by length.
    while client.set(&format!("filling-:check:{number:016x}"), &[0; 34][..], 0).is_ok() {
        number += 1;
    }
    let output = Settings::new().with_memcached(&memcached).run(&["check"]);
    assert_fails(&output, &["round trip: did not store the value (out of memory)", "remedy: it is full"]);
}

#[test]
fn a_hung_server_costs_one_timeout_and_the_others_are_tried() {
    let (memcached, hung) = (Memcached::start(), Memcached::start());
    hung.stop();
    let settings = Settings::new();
    let servers = format!("{},{}", hung.address(), memcached.address());
    let settings = settings.with("MEMCACHIER_SERVERS", &servers);
    let checks = json(&settings)["checks"].as_array().unwrap().clone();
    let of = |server: &Memcached| -> Vec<_> {
        let is_its = |check: &&Value| check["what"].as_str().unwrap().contains(&server.address());
        checks.iter().filter(is_its).map(|check| check["ok"].as_bool().unwrap()).collect()
    };
    assert_eq!((of(&hung), of(&memcached)), (vec![false], vec![true; 4]), "{checks:?}");
    hung.go_on();
    assert!(settings.run(&["check"]).status.success());
}

#[test]
fn what_is_no_memcached_is_told_from_one_that_is_not_there() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = web.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in web.incoming().flatten() {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let text_only = Memcached::start_with(&["-B", "ascii"]);
    for server in [address, text_only.address()] {
        let told = json(&Settings::new().with("MEMCACHIER_SERVERS", &server));
        let check = told["checks"].as_array().unwrap().last().unwrap();
        assert_eq!((&told["ok"], &check["ok"]), (&Value::Bool(false), &Value::Bool(false)), "{told}");
        let remedy = check["remedy"].as_str().unwrap();
        assert!(remedy.contains("a memcached that speaks the binary protocol"), "{server}: {told}");
    }
}

/// A memcached whose clock is a year ahead.
fn ahead(values: &Mutex<HashMap<Vec<u8>, Vec<u8>>>, question: &Question) -> Answer {
    let mut values = values.lock().unwrap();
    match question.opcode {
        SET => {
            let expires = u64::from(u32::from_be_bytes(question.extras[4..8].try_into().unwrap()));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 365 * 24 * 60 * 60;
            if expires <= 30 * 24 * 60 * 60 || expires > now {
                values.insert(question.key.clone(), question.value.clone());
            } else {
                values.remove(&question.key);
            }
            Answer::Bytes(question.bytes(b"", b"", b""))
        }
        GET => Answer::Bytes(match values.get(&question.key) {
            Some(value) => question.bytes(&[0; 4], b"", value),
            None => question.failure(1),
        }),
        DELETE_QUIET => Answer::Nothing,
        _ => Answer::Bytes(question.bytes(b"", b"", b"1.6.0")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_wrong_is_said_with_what_follows() {
    let values = Mutex::default();
    let rogue = Rogue::start(move |question| ahead(&values, question)).await;
    let settings = Settings::new().with("MEMCACHIER_SERVERS", &rogue.address.to_string());
    let output = settings.run(&["check"]);
    let cause = format!("FAILED  cache {} clock: a value that is to live for 31 days is gone", rogue.address);
    assert_fails(&output, &["round trip: a value comes back", &cause, "remedy: set the clocks"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_halfway_costs_one_timeout() {
    let rogue =
        Rogue::start(|question| if question.opcode == SET { Answer::Nothing } else { question.well() });
    let settings = Settings::new().with("MEMCACHIER_SERVERS", &rogue.await.address.to_string());
    let told = json(&settings);
    let checks = told["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 4, "what follows is not tried: {told}");
    assert!(checks[3]["cause"].as_str().unwrap().starts_with("no answer within 750 ms"), "{told}");
}

#[test]
fn json_says_what_text_says() {
    let memcached = Memcached::start();
    let told = json(&Settings::new().with_memcached(&memcached));
    assert_eq!(told["ok"], true);
    for check in told["checks"].as_array().unwrap() {
        assert!(check["ok"] == true && check["what"].is_string() && check["found"].is_string(), "{check}");
    }
    let told = json(&Settings::new().with("MEMCACHIER_SERVERS", "127.0.0.1:1"));
    let check = told["checks"].as_array().unwrap().last().unwrap();
    assert!(told["ok"] == false && check["cause"].is_string() && check["remedy"].is_string(), "{told}");
    assert!(check["took_ms"].is_f64() && check.get("found").is_none(), "{check}");
}
