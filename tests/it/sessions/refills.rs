//! Copies that are late, and a database that refuses: the cache never says what the database does not.

use neverstale_sessions::Error;
use tokio::task::JoinHandle;
use tower_sessions::SessionStore;
use tower_sessions::session::Record;

use super::outages::Rig;
use super::places::patient;
use super::{assert_gone, assert_has, change, copy, create, explain, key, load, save, seen};
use testkit::eventually;

/// What a copy contains on its way to memcached, and nothing else that is sent there.
const COPY: &str = "\"Session\"";

/// Begins a load that has read the session, and whose copy is on its way until the proxy lets it go.
async fn load_late(rig: &Rig, session: &Record) -> JoinHandle<Option<Record>> {
    rig.proxy.hold(COPY);
    let (here, id, seen) = (rig.here.clone(), session.id, Some(seen(session)));
    let late = tokio::spawn(async move { load(&here, id, seen).await });
    rig.proxy.wait_for_held().await;
    late
}

/// Also if memcached has forgotten by then that there is no such session.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_what_was_deleted_meanwhile_is_taken_back() {
    let rig = Rig::start(patient).await;
    let session = create(&rig.there, &[("user", "anna")]).await;
    let (id, late) = (session.id, load_late(&rig, &session).await);
    rig.there.request(None).delete(&id).await.unwrap();
    rig.memcached.client().delete(&key(&id).to_string()).unwrap();
    rig.proxy.release();
    assert_eq!(late.await.unwrap().as_ref(), Some(&session), "it was there when it was asked for");
    for process in [&rig.there, &rig.here] {
        assert_eq!(load(process, id, Some(seen(&session))).await, None);
    }
}

/// Its reader has left, and can take nothing back.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_on_its_way_when_its_session_is_deleted_is_not_stored() {
    let rig = Rig::start(patient).await;
    let session = create(&rig.there, &[("user", "anna")]).await;
    let (id, late) = (session.id, load_late(&rig, &session).await);
    late.abort();
    assert!(late.await.unwrap_err().is_cancelled());
    rig.there.request(None).delete(&id).await.unwrap();
    let stored = rig.memcached.stat("cmd_set");
    rig.proxy.release();
    eventually("the copy arrives", async || rig.memcached.stat("cmd_set") > stored).await;
    for process in [&rig.there, &rig.here] {
        assert_eq!(load(process, id, Some(seen(&session))).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_made_before_a_change_does_not_take_the_place_of_what_came_then() {
    let rig = Rig::start(patient).await;
    let session = create(&rig.there, &[("theme", "light")]).await;
    let (id, late) = (session.id, load_late(&rig, &session).await);
    let told = change(&rig.there, id, "theme", "dark").await.unwrap();
    rig.proxy.release();
    assert_has(late.await.unwrap().as_ref(), "theme", "light");
    for seen in [seen(&session), told] {
        assert_has(load(&rig.here, id, Some(seen)).await.as_ref(), "theme", "dark");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_and_then_deleted_by_another_process_is_taken_back_too() {
    let rig = Rig::start(patient).await;
    let session = create(&rig.there, &[("user", "anna")]).await;
    rig.proxy.hold(COPY);
    let (here, id) = (rig.here.clone(), session.id);
    let late = tokio::spawn(async move { change(&here, id, "theme", "dark").await });
    rig.proxy.wait_for_held().await;
    rig.there.request(None).delete(&id).await.unwrap();
    rig.proxy.release();
    let seen = late.await.unwrap().unwrap();
    for seen in [Some(seen), None] {
        assert_eq!(load(&rig.there, id, seen).await, None, "{seen:?}");
    }
    assert_eq!(rig.table.rows().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_deleted_by_hand_is_known_to_be_gone_once_a_save_has_seen_it() {
    let rig = Rig::start(patient).await;
    let session = create(&rig.there, &[("user", "anna")]).await;
    copy(&rig.there, &session).await;
    let request = rig.here.request(None);
    let loaded = request.load(&session.id).await.unwrap().unwrap();
    rig.table.execute("delete from sessions").await;
    assert_gone(save(&request, loaded, "theme", "dark").await);
    assert_eq!(load(&rig.there, session.id, Some(seen(&session))).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_deleted_by_hand_is_known_to_be_gone_once_a_reader_has_asked_the_database() {
    let rig = Rig::start(patient).await;
    let session = create(&rig.there, &[("user", "anna")]).await;
    copy(&rig.there, &session).await;
    rig.table.execute("delete from sessions").await;
    assert_eq!(load(&rig.here, session.id, Some("0".parse().unwrap())).await, None);
    assert_eq!(load(&rig.there, session.id, Some(seen(&session))).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_no_cache_has() {
    let rig = Rig::start(patient).await;
    let session = create(&rig.there, &[("theme", "light")]).await;
    copy(&rig.there, &session).await;
    for event in ["update", "delete"] {
        let refuse = format!(
            "create trigger no_{event} before {event} on sessions begin select raise(abort, 'no'); end"
        );
        rig.table.execute(&refuse).await;
    }
    let error = change(&rig.here, session.id, "theme", "dark").await.unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    let request = rig.here.request(None);
    let error = explain(&request, request.delete(&session.id).await.unwrap_err());
    assert!(matches!(error, Error::Store(_)), "{error}");
    for process in [&rig.there, &rig.here] {
        for seen in [Some(seen(&session)), None] {
            assert_eq!(load(process, session.id, seen).await.as_ref(), Some(&session), "{seen:?}");
        }
    }
}
