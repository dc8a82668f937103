//! A cache server in other hands: what they can do, and what they cannot where what is cached is signed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::{STRATEGIES, settings, unreadable};
use crate::support::app::Settings;
use crate::support::visitor::Visitor;
use testkit::memcached::Memcached;
use testkit::rogue::{Answer, Question, Rogue};
use testkit::within_reason;

const SCRIPT: &str = "<script>alert(1)</script>";

/// As long as the script, which takes its place.
const TASK: &str = "twenty-five-letters-there";

pub const GET: u8 = 0x00;
const ADD: u8 = 0x02;
pub const GET_QUIET: u8 = 0x09;
const VERSION: u8 = 0x0b;

const MISSING: u8 = 1;
const EXISTS: u8 = 2;

type Values = Vec<(String, Vec<u8>)>;

type Tampering = fn(&[u8]) -> Vec<u8>;

/// Returns the values of the keys that contain `mark`.
fn values(memcached: &Memcached, mark: &str) -> Values {
    let mut keys: Vec<_> = memcached.keys().into_iter().filter(|key| key.contains(mark)).collect();
    keys.sort();
    let client = memcached.client();
    let found = keys.into_iter().filter_map(|key| Some((key.clone(), client.get(&key).unwrap()?)));
    found.collect()
}

fn put(memcached: &Memcached, values: Values) {
    let client = memcached.client();
    for (key, value) in values {
        client.set(&key, &value[..], 600).unwrap();
    }
}

fn change(memcached: &Memcached, mark: &str, change: impl Fn(&[u8]) -> Vec<u8>) {
    let values = values(memcached, mark);
    assert!(!values.is_empty(), "there is something with {mark}");
    put(memcached, values.into_iter().map(|(key, value)| (key, change(&value))).collect());
}

/// Returns an envelope with another text in it, unsigned and with the right checksum.
fn forged(envelope: &[u8], from: &str, to: &str) -> Vec<u8> {
    let body = if envelope[0] == 3 { &envelope[10..envelope.len() - 32] } else { &envelope[14..] };
    let mut head = envelope[..10].to_vec();
    head[0] = 2;
    let body = altered(body, from, to);
    let checksum = crc32fast::hash(&[&head[..], &body].concat());
    [&head[..], &checksum.to_be_bytes(), &body].concat()
}

/// Bytes with another text in them, and otherwise as they are.
fn altered(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    for place in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[place..].starts_with(from.as_bytes()) {
            bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}

#[tokio::test]
async fn a_writer_to_the_server_changes_unsigned_pages() {
    let memcached = Memcached::start();
    let settings = settings(&memcached, false);
    let one = settings.serve();
    one.add(TASK).await;
    one.get_from("localhost", "/").await;
    change(&memcached, "view.page", |page| forged(page, TASK, SCRIPT));
    let page = settings.serve().get_from("localhost", "/").await;
    assert!(page.body.contains(SCRIPT));
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'self'"), "it does not run");
}

#[tokio::test]
async fn signed_values_cannot_be_changed_with_any_strategy() {
    let tamperings: [(&str, Tampering); 5] = [
        ("forged", |value| forged(value, TASK, SCRIPT)),
        ("altered", |value| altered(value, TASK, SCRIPT)),
        ("one bit", |value| [&value[..20], &[value[20] ^ 1], &value[21..]].concat()),
        ("cut", |value| value[..value.len() / 2].to_vec()),
        ("emptied", |_| vec![]),
    ];
    for strategy in STRATEGIES {
        let memcached = Memcached::start();
        let settings = settings(&memcached, true).with("CACHE_STRATEGY", strategy).with("CACHE_LOCAL", "off");
        let app = settings.serve();
        app.add(TASK).await;
        for (kind, tampering) in tamperings {
            app.get("/").await.assert_lists([TASK]);
            change(&memcached, "", tampering);
            let before = unreadable(&app).await;
            let page = app.get("/").await;
            page.assert_lists([TASK]);
            assert!(!page.body.contains(SCRIPT), "{kind}, {strategy}");
            assert!(unreadable(&app).await > before, "{kind}, {strategy}");
        }
        assert!(app.get("/").await.header("cache-status").unwrap().contains("hit"), "{strategy}");
    }
}

/// Puts the rows of two tasks under each other's keys, and returns which are shown.
async fn shown_with_rows_exchanged(signed: bool) -> Vec<String> {
    let memcached = Memcached::start();
    let app = settings(&memcached, signed).with("CACHE_LOCAL", "off").serve();
    app.add("first").await;
    app.add("second").await.assert_lists(["first", "second"]);
    let rows = values(&memcached, "task-fragment");
    let [(one, first), (other, second)] = <[_; 2]>::try_from(rows).unwrap();
    put(&memcached, vec![(one, second), (other, first)]);
    assert!(memcached.evict("view.page") > 0);
    app.get("/").await.tasks()
}

#[tokio::test]
async fn a_signed_value_is_not_shown_for_another() {
    assert_eq!(shown_with_rows_exchanged(false).await, ["second", "first"]);
    assert_eq!(shown_with_rows_exchanged(true).await, ["first", "second"]);
}

/// Stores the session of one visitor for another, and returns whether the other sees the message of the first.
async fn is_shown_anothers_session(engine: &str, signed: bool) -> bool {
    let memcached = Memcached::start();
    let app = settings(&memcached, signed).with("SESSION_ENGINE", engine).serve();
    let (one, other) = (Visitor::new(), Visitor::new());
    // The second change puts the session into the cache as well.
    for name in ["first", "second"] {
        one.post(&app, "/add", &[("name", &format!("{name} of the one"))]).await;
    }
    let theirs = values(&memcached, "session.");
    for name in ["first", "second"] {
        other.post(&app, "/add", &[("name", &format!("{name} of the other"))]).await;
    }
    let [(from, session)] = &theirs[..] else { panic!("{} sessions", theirs.len()) };
    let all = values(&memcached, "session.");
    let (to, _) = all.iter().find(|(key, _)| key != from).unwrap();
    let name = |key: &str| key.rsplit('.').next().unwrap().to_owned();
    let cookie = other.cookie().unwrap();
    let is_shown = async |session: Vec<u8>| {
        put(&memcached, vec![(to.clone(), session)]);
        // Each time as before, since a visitor without a session loses the cookie.
        let messages = Visitor::expecting(&cookie).get(&app, "/").await.messages();
        messages.iter().any(|message| message.contains("of the one"))
    };
    assert!(!is_shown(session.clone()).await, "its name is in it");
    assert!(!is_shown(altered(session, &name(from), &name(to))).await, "its seal is that of another");
    is_shown(forged(session, &name(from), &name(to))).await
}

#[tokio::test]
async fn a_session_is_its_visitors_own_whether_the_cache_is_signed_or_not() {
    for engine in ["cache", "cached_db"] {
        for signed in [false, true] {
            assert!(!is_shown_anothers_session(engine, signed).await, "{engine}, {signed}");
        }
    }
}

/// Brings back all that was cached before a change, and returns what is shown after it.
async fn shown_after_replay(strategy: &str) -> Vec<String> {
    let memcached = Memcached::start();
    let settings = settings(&memcached, true).with("CACHE_STRATEGY", strategy).with("CACHE_LOCAL", "off");
    let app = settings.serve();
    app.add("old").await;
    app.get("/").await;
    let past = values(&memcached, "");
    app.add("new").await.assert_lists(["old", "new"]);
    put(&memcached, past);
    app.get("/").await.tasks()
}

#[tokio::test]
async fn with_versions_an_older_page_is_not_shown_again() {
    assert_eq!(shown_after_replay("versioned").await, ["old", "new"]);
}

#[tokio::test]
async fn without_versions_a_server_can_bring_back_an_older_page() {
    for strategy in ["delete", "rotate", "update"] {
        assert_eq!(shown_after_replay(strategy).await, ["old"], "{strategy}");
    }
}

pub async fn serve_from(
    behaviour: impl Fn(&Question) -> Answer + Send + Sync + 'static,
) -> (Rogue, Settings) {
    let rogue = Rogue::start(behaviour).await;
    let settings = Settings::new().with("MEMCACHIER_SERVERS", &rogue.address.to_string());
    (rogue, settings)
}

/// The responses of a server to everything that a test is not about.
pub fn agree(question: &Question) -> Answer {
    match question.opcode {
        GET => Answer::Bytes(question.failure(MISSING)),
        // Quiet commands are answered only where there is something to say.
        opcode @ 0x09..0x20 if ![VERSION, 0x0a, 0x10, 0x1c].contains(&opcode) => Answer::Nothing,
        _ => Answer::Bytes(question.bytes(b"", b"", b"1.6.0")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_gives_no_lock_costs_one_wait() {
    let asked: Arc<Mutex<HashMap<Vec<u8>, usize>>> = Arc::default();
    let counted = asked.clone();
    let (_rogue, settings) = serve_from(move |question| match question.opcode {
        ADD => {
            *counted.lock().unwrap().entry(question.key.clone()).or_default() += 1;
            Answer::Bytes(question.failure(EXISTS))
        }
        _ => agree(question),
    })
    .await;
    let app = settings.serve();
    within_reason("the list is shown", app.get("/")).await.assert_lists([]);
    let asked = asked.lock().unwrap().clone();
    assert!(asked.values().all(|times| *times <= 4), "no lock is asked for again and again: {asked:?}");
    let copied = app.get("/").await;
    assert!(copied.header("cache-status").unwrap().contains("hit"), "its own copy");
}
