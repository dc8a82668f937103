//! Servers that are out of order: late, garbled, in pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_memcached::{Client, ErrorKind};

use super::{MINUTE, assert_kind, data, impatient, options, stats, until_answered, until_left_out};
use testkit::eventually;
use testkit::rogue::{Answer, Question, Rogue, value_of};

const GET: u8 = 0x00;
const GET_QUIET: u8 = 0x09;

#[tokio::test]
async fn a_server_that_never_answers_costs_one_wait_and_is_used_again_once_it_does() {
    let answers = Arc::new(AtomicBool::new(false));
    let rogue = Rogue::start({
        let answers = answers.clone();
        move |question| if answers.load(Ordering::SeqCst) { question.well() } else { Answer::Nothing }
    })
    .await;
    let client = Client::new(impatient(&rogue.address.to_string()));
    assert_kind(client.get("k").await, |kind| matches!(kind, ErrorKind::Timeout(_)));
    until_left_out(&client).await;
    for _ in 0..100 {
        assert_kind(client.get("k").await, |kind| kind == ErrorKind::Down);
    }
    assert_eq!(stats(&client).timeouts, 1);
    answers.store(true, Ordering::SeqCst);
    eventually("nobody asks, and it is found all the same", async || !stats(&client).is_down).await;
    assert_eq!(data(client.get("k").await), Some(value_of(b"k")));
}

#[tokio::test]
async fn a_server_that_greets_and_then_never_answers_is_left_out_too() {
    let rogue = Rogue::start(|question| match question {
        Question { connection: 1 | 2, .. } if !question.is_greeting() => Answer::Nothing,
        _ => question.well(),
    })
    .await;
    let client = Client::new(impatient(&rogue.address.to_string()));
    assert_kind(client.get("k").await, |kind| matches!(kind, ErrorKind::Timeout(_)));
    until_left_out(&client).await;
    assert_kind(client.get("k").await, |kind| kind == ErrorKind::Down);
    assert_eq!(until_answered(&client, "k").await, Some(value_of(b"k")));
}

#[tokio::test]
async fn a_late_answer_is_nobody_elses() {
    let rogue = Rogue::start(|question| match question.key.as_slice() {
        b"late" => Answer::Late(Duration::from_millis(300), question.well_bytes()),
        _ => question.well(),
    })
    .await;
    let client = Client::new(impatient(&rogue.address.to_string()));
    for _ in 0..3 {
        assert_kind(client.get("late").await, |kind| matches!(kind, ErrorKind::Timeout(_)));
        assert_eq!(until_answered(&client, "prompt").await, Some(value_of(b"prompt")));
        for number in 0..10 {
            let key = format!("key {number}").replace(' ', "-");
            assert_eq!(data(client.get(&key).await), Some(value_of(key.as_bytes())));
        }
    }
}

#[tokio::test]
async fn an_answer_in_single_bytes_is_put_together() {
    let rogue = Rogue::start(|question| Answer::Dribbled(question.well_bytes())).await;
    let client = Client::new(options(&[rogue.address.to_string()]));
    assert_eq!(data(client.get("one").await), Some(value_of(b"one")));
    let keys: Vec<_> = (0..30).map(|number| format!("key-{number}")).collect();
    for (key, value) in keys.iter().zip(client.get_many(&keys).await) {
        assert_eq!(data(value), Some(value_of(key.as_bytes())));
    }
    assert_eq!(stats(&client).connections, 1);
}

/// What goes wrong with the first answer after the greeting costs that connection; the next is used as usual.
async fn check(wrong: fn(&Question) -> Answer, matches: fn(ErrorKind) -> bool) {
    let rogue = Rogue::start(move |question| match question {
        Question { connection: 1, .. } if !question.is_greeting() => wrong(question),
        _ => question.well(),
    })
    .await;
    let options = options(&[rogue.address.to_string()]);
    let client = Client::new(options.operation_timeout(Duration::from_secs(2)));
    assert_kind(client.get("k").await, matches);
    assert_eq!(until_answered(&client, "k").await, Some(value_of(b"k")));
    assert!(rogue.connections() > 1, "what was out of step is not spoken to again");
}

fn is_protocol(kind: ErrorKind) -> bool {
    kind == ErrorKind::Protocol
}

/// A right answer with some bytes of its header replaced.
fn altered(question: &Question, place: usize, bytes: &[u8]) -> Answer {
    let mut answer = question.well_bytes();
    answer[place..place + bytes.len()].copy_from_slice(bytes);
    Answer::Bytes(answer)
}

#[tokio::test]
async fn an_answer_with_another_magic_byte_ends_the_connection() {
    for magic in [0x80, 0x00, b'E'] {
        let wrong = match magic {
            0x80 => |question: &Question| altered(question, 0, &[0x80]),
            0x00 => |question: &Question| altered(question, 0, &[0x00]),
            _ => |_: &Question| Answer::Bytes(b"ERROR: this is the text protocol\r\n".to_vec()),
        };
        check(wrong, is_protocol).await;
    }
}

#[tokio::test]
async fn an_answer_to_what_was_not_asked_ends_the_connection() {
    check(|question| altered(question, 12, &[0xff; 4]), is_protocol).await;
    check(|question| altered(question, 12, &(question.opaque + 1).to_be_bytes()), is_protocol).await;
}

#[tokio::test]
async fn an_answer_to_another_command_ends_the_connection() {
    check(|question| altered(question, 1, &[0x01]), is_protocol).await;
}

#[tokio::test]
async fn an_answer_that_claims_four_gigabytes_ends_the_connection_at_once() {
    check(|question| altered(question, 8, &[0xff; 4]), is_protocol).await;
}

#[tokio::test]
async fn an_answer_whose_lengths_do_not_fit_ends_the_connection() {
    check(|question| altered(question, 2, &[0xff; 2]), is_protocol).await;
    check(|question| altered(question, 4, &[0xff]), is_protocol).await;
}

#[tokio::test]
async fn a_value_without_flags_is_an_error() {
    let rogue = Rogue::start(|question| match question.opcode {
        GET => Answer::Bytes(question.bytes(b"", b"", b"value")),
        _ => question.well(),
    })
    .await;
    let client = Client::new(options(&[rogue.address.to_string()]));
    assert_kind(client.get("k").await, is_protocol);
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let half = |question: &Question| {
        let mut answer = question.well_bytes();
        answer.truncate(answer.len() - 1);
        Answer::Last(answer)
    };
    check(half, |kind| kind == ErrorKind::Disconnected).await;
}

#[tokio::test]
async fn an_answer_nobody_asked_for_ends_the_connection() {
    let twice = |question: &Question| match (question.connection, question.number) {
        (1, 2) => Answer::Bytes([question.well_bytes(), question.well_bytes()].concat()),
        _ => question.well(),
    };
    let rogue = Rogue::start(twice).await;
    let client = Client::new(options(&[rogue.address.to_string()]));
    assert_eq!(data(client.get("k").await), Some(value_of(b"k")));
    assert_eq!(until_answered(&client, "other").await, Some(value_of(b"other")));
    assert!(rogue.connections() > 1);
}

#[tokio::test]
async fn answers_that_are_too_long_together_end_the_connection() {
    let huge = vec![b'x'; 600 * 1024];
    let rogue = Rogue::start(move |question| match question.opcode {
        GET_QUIET if question.connection == 1 => Answer::Bytes(question.bytes(&[0; 4], b"", &huge)),
        _ => question.well(),
    })
    .await;
    let client = Client::new(options(&[rogue.address.to_string()]).max_response_bytes(1024 * 1024));
    for answer in client.get_many(&["a", "b", "c", "d"]).await {
        assert_kind(answer, is_protocol);
    }
    assert_eq!(until_answered(&client, "k").await, Some(value_of(b"k")));
}

#[tokio::test]
async fn a_pipeline_that_breaks_answers_those_before_and_fails_those_after() {
    let rogue = Rogue::start(|question| match question {
        Question { connection: 1, key, .. } if key == b"key-10" => Answer::Last(vec![]),
        _ => question.well(),
    })
    .await;
    let client = Client::new(options(&[rogue.address.to_string()]));
    let keys: Vec<_> = (0..20).map(|number| format!("key-{number}")).collect();
    let answers = futures_util::future::join_all(keys.iter().map(|key| client.get(key))).await;
    for (number, (key, answer)) in keys.iter().zip(answers).enumerate() {
        if number < 10 {
            assert_eq!(data(answer), Some(value_of(key.as_bytes())));
        } else {
            assert_kind(answer, |kind| kind == ErrorKind::Disconnected);
        }
    }
    assert_eq!(data(client.get("later").await), Some(value_of(b"later")), "a closed connection is no outage");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_reported_as_written_and_not_made_up_for() {
    let rogue = Rogue::start(|question| match question {
        Question { connection: 1, .. } if !question.is_greeting() => Answer::Last(vec![]),
        // A greeting and a get, and nothing between them.
        Question { connection: 2, number: 2, .. } => {
            assert_eq!((question.opcode, &*question.key), (GET, &b"k"[..]));
            question.well()
        }
        _ => question.well(),
    })
    .await;
    let client = Client::new(options(&[rogue.address.to_string()]));
    let error = client.set("k", "v", MINUTE).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Disconnected && error.was_written(), "{error:?}");
    assert_eq!(data(client.get("k").await), Some(value_of(b"k")));
    assert_eq!((rogue.connections(), rogue.requests()), (2, 4));
}
