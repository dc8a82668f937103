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
use neverstale_sessions::{Acceptable, Error, Name, Seen, Sessions, Signer, Store, Visit};
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
    sessions.create(&mut record).await.unwrap();
    record
}

fn sessions(store: impl Store) -> Sessions {
    Sessions::new(store, Signer::new(&b"a secret of thirty-two bytes or more"[..].try_into().unwrap()))
}

/// Returns where a session is in a cache.
fn key(id: &Id) -> Key {
    Key::as_stored(format!("~session.{}", Name::of(id).as_str())).unwrap()
}

/// Loads a session from whatever copy there is.
#[track_caller]
fn load(sessions: &Sessions, id: Id) -> impl Future<Output = Option<Record>> {
    load_with(sessions, id, Acceptable::Any)
}

#[track_caller]
fn load_with(sessions: &Sessions, id: Id, copy: Acceptable) -> impl Future<Output = Option<Record>> {
    let caller = std::panic::Location::caller();
    let visit = sessions.visit(copy);
    async move { visit.load(&id).await.unwrap_or_else(|error| panic!("{error} ({caller})")) }
}

/// Loads a session and sets a key, as one request does, and returns what its visitor is told.
async fn change(sessions: &Sessions, id: Id, key: &str, value: &str) -> Result<Seen, Error> {
    let visit = sessions.visit(Acceptable::Nothing);
    let record = visit.load(&id).await.map_err(|error| explain(&visit, error))?.ok_or(Error::Gone)?;
    save(&visit, record, key, value).await?;
    Ok(visit.seen().unwrap())
}

/// Sets a key of what a visit has loaded.
async fn save(visit: &Visit, mut record: Record, key: &str, value: &str) -> Result<(), Error> {
    record.data.insert(key.into(), json!(value));
    visit.save(&record).await.map_err(|error| explain(visit, error))
}

fn explain(visit: &Visit, error: tower_sessions::session_store::Error) -> Error {
    visit.explain(session::Error::Store(error))
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
