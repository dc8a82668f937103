//! The stores of sessions below HTTP: what all of them do, on real servers; what an outage does to the one that reads
//! through the cache; and thousands of orders in which visitors, processes and faults can meet.
//!
//! # How to add a store
//!
//! Give it a function in `sessions/places.rs` and name it in the lists below, as in [`backends`](crate::backends).

mod hostile;
mod interleavings;
mod outages;
mod places;
mod refills;
mod stores;
mod visitors;

use std::time::Duration;

use neverstale::Key;
use neverstale::Secret;
use neverstale_sessions::{Error, RequestSession, Seen, Sessions, Stored};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tower_sessions::SessionStore;
use tower_sessions::session::{self, Id, Record};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Makes a test of each behaviour of each store, as in [`backends`](crate::backends).
macro_rules! contract {
    ($($place:ident)* : $behaviours:tt) => {
        $(mod $place { contract!(@on $place $behaviours); })*
    };
    (@on $place:ident { $($behaviour:ident)* }) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let place = crate::sessions::places::$place().await;
                crate::sessions::stores::$behaviour(&place).await;
            }
        )*
    };
}

mod contract {
    contract! {
        cache_over_locmem cache_over_memcached cache_over_memcache_crate cache_over_database cache_over_files
        database_on_sqlite database_on_postgres
        through_memcached_on_sqlite through_memcached_on_postgres through_locmem through_nothing: {
            what_is_created_is_loaded
            a_session_whose_id_is_taken_gets_another
            a_save_replaces_what_was_there
            a_save_of_what_was_deleted_brings_nothing_back
            a_save_of_what_was_never_there_creates_nothing
            deleting_twice_is_fine
            a_session_that_has_expired_was_never_there
            a_session_lives_as_long_as_it_was_saved_for
            unusual_data_survives
            sessions_never_mix
            what_cannot_be_decoded_is_no_session
            ids_are_nowhere_to_be_found
        }
    }

    mod kept_in_a_database {
        contract! {
            database_on_sqlite database_on_postgres
            through_memcached_on_sqlite through_memcached_on_postgres through_locmem through_nothing: {
                changes_of_different_keys_are_all_kept
                of_changes_of_the_same_key_the_later_wins
                a_key_that_was_removed_stays_removed
                what_has_expired_is_cleared_in_rounds
            }
        }
    }

    mod kept_on_memcached {
        contract! {
            cache_over_memcached through_memcached_on_sqlite through_memcached_on_postgres: {
                memcached_forgets_a_session_when_it_expires
            }
        }
    }
}

/// Returns a session that expires after so long, in whole milliseconds, as stores keep it.
fn record(lifetime: Duration, pairs: &[(&str, &str)]) -> Record {
    let expiry_date = OffsetDateTime::now_utc() + lifetime;
    let expiry_date = expiry_date.replace_millisecond(expiry_date.millisecond()).unwrap();
    let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    Record { id: Id::default(), data, expiry_date }
}

/// Creates a session and returns it.
async fn create(sessions: &Sessions, pairs: &[(&str, &str)]) -> Record {
    let mut record = record(HOUR, pairs);
    sessions.request(None).create(&mut record).await.unwrap();
    record
}

fn secret() -> Secret {
    b"a secret of thirty-two bytes or more"[..].try_into().unwrap()
}

/// The digest of a session's state.
fn seen(session: &Record) -> Seen {
    Stored::of(session).unwrap().seen()
}

/// Returns where a session is in a cache.
fn key(id: &Id) -> Key {
    Key::as_stored(format!("~session.{}", Stored::name_of(id))).unwrap()
}

/// Loads a session, for a visitor who may have seen a state of it.
#[track_caller]
fn load(sessions: &Sessions, id: Id, seen: Option<Seen>) -> impl Future<Output = Option<Record>> {
    let caller = std::panic::Location::caller();
    let request = sessions.request(seen);
    async move { request.load(&id).await.unwrap_or_else(|error| panic!("{error} ({caller})")) }
}

/// Leaves a copy of a session in the cache.
async fn copy(sessions: &Sessions, session: &Record) {
    assert_eq!(load(sessions, session.id, Some(seen(session))).await.as_ref(), Some(session));
}

/// Loads a session and sets a key, as one request does, and returns what its visitor is told.
async fn change(sessions: &Sessions, id: Id, key: &str, value: &str) -> Result<Seen, Error> {
    let request = sessions.request(None);
    let record = request.load(&id).await.map_err(|error| explain(&request, error))?.ok_or(Error::Gone)?;
    save(&request, record, key, value).await?;
    Ok(request.seen().unwrap())
}

/// Sets a key of the session that a request has loaded.
async fn save(request: &RequestSession, mut record: Record, key: &str, value: &str) -> Result<(), Error> {
    record.data.insert(key.into(), json!(value));
    request.save(&record).await.map_err(|error| explain(request, error))
}

fn explain(request: &RequestSession, error: tower_sessions::session_store::Error) -> Error {
    request.explain(session::Error::Store(error))
}

#[track_caller]
fn assert_gone<T>(result: Result<T, Error>) {
    let Err(error) = result else { panic!("an error was expected") };
    assert!(matches!(error, Error::Gone), "{error}");
}

/// Whether a session has a key with this value.
#[track_caller]
fn assert_has(session: Option<&Record>, key: &str, value: &str) {
    let session = session.expect("there is a session");
    assert_eq!(session.data.get(key), Some(&Value::from(value)), "{:?}", session.data);
}
