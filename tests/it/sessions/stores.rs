//! What every store of sessions does.

use std::time::Duration;

use neverstale::Ttl;
use neverstale_sessions::Stored;
use serde_json::json;
use time::OffsetDateTime;
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};

use super::places::Place;
use super::{HOUR, assert_gone, assert_has, change, copy, create, key, load, record, save, seen};
use testkit::eventually;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Loads a session in both processes, twice: what is read first may leave a copy for the second.
#[track_caller]
fn check<'a>(place: &'a Place, id: Id, expected: Option<&'a Record>) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let told = expected.map_or("0".parse().unwrap(), seen);
        for sessions in [&place.there, &place.here, &place.there] {
            for seen in [Some(told), None] {
                let found = load(sessions, id, seen).await;
                assert_eq!(found.as_ref(), expected, "{seen:?} ({caller})");
            }
        }
    }
}

pub async fn what_is_created_is_loaded(place: &Place) {
    let record = create(&place.here, &[("user", "anna")]).await;
    check(place, record.id, Some(&record)).await;
    check(place, Id::default(), None).await;
}

pub async fn a_session_whose_id_is_taken_gets_another(place: &Place) {
    let first = create(&place.here, &[("user", "anna")]).await;
    let mut second = Record { id: first.id, ..record(HOUR, &[("user", "ben")]) };
    place.there.request(None).create(&mut second).await.unwrap();
    assert_ne!(second.id, first.id);
    check(place, first.id, Some(&first)).await;
    check(place, second.id, Some(&second)).await;
}

pub async fn a_save_replaces_what_was_there(place: &Place) {
    let first = create(&place.here, &[("user", "anna"), ("basket", "full")]).await;
    check(place, first.id, Some(&first)).await;
    let mut second = Record { id: first.id, ..record(HOUR + HOUR, &[("user", "anna"), ("theme", "dark")]) };
    place.there.request(None).save(&second).await.unwrap();
    check(place, first.id, Some(&second)).await;
    second.data.clear();
    place.here.request(None).save(&second).await.unwrap();
    check(place, first.id, Some(&second)).await;
}

pub async fn a_save_of_what_was_deleted_brings_nothing_back(place: &Place) {
    let session = create(&place.here, &[("user", "anna")]).await;
    let (late, later) = (place.here.request(None), place.there.request(None));
    let loaded = late.load(&session.id).await.unwrap().unwrap();
    let also = later.load(&session.id).await.unwrap().unwrap();
    place.there.request(None).delete(&session.id).await.unwrap();
    assert_gone(save(&late, loaded, "theme", "dark").await);
    check(place, session.id, None).await;
    assert_gone(save(&later, also, "theme", "dark").await);
    place.here.request(None).save(&session).await.unwrap_err();
    check(place, session.id, None).await;
}

pub async fn a_save_of_what_was_never_there_creates_nothing(place: &Place) {
    let session = record(HOUR, &[("user", "anna")]);
    place.here.request(None).save(&session).await.unwrap_err();
    let request = place.here.request(None);
    assert_gone(save(&request, session.clone(), "theme", "dark").await);
    check(place, session.id, None).await;
}

pub async fn deleting_twice_is_fine(place: &Place) {
    let (deleted, kept) = (create(&place.here, &[]).await, create(&place.here, &[]).await);
    check(place, deleted.id, Some(&deleted)).await;
    for sessions in [&place.here, &place.there, &place.here] {
        sessions.request(None).delete(&deleted.id).await.unwrap();
        check(place, deleted.id, None).await;
    }
    place.here.request(None).delete(&Id::default()).await.unwrap();
    check(place, kept.id, Some(&kept)).await;
}

pub async fn a_session_that_has_expired_was_never_there(place: &Place) {
    let mut over =
        Record { expiry_date: OffsetDateTime::now_utc() - HOUR, ..record(HOUR, &[("user", "anna")]) };
    place.here.request(None).create(&mut over).await.unwrap();
    check(place, over.id, None).await;
    let (ends, lasts) = (create(&place.here, &[("user", "anna")]).await, create(&place.here, &[]).await);
    let request = place.here.request(None);
    let mut loaded = request.load(&ends.id).await.unwrap().unwrap();
    loaded.expiry_date = OffsetDateTime::now_utc() + Duration::from_millis(300);
    save(&request, loaded.clone(), "theme", "light").await.unwrap();
    for seen in [request.seen(), None] {
        eventually("the session has expired", async || load(&place.there, ends.id, seen).await.is_none())
            .await;
    }
    loaded.expiry_date += HOUR;
    assert_gone(save(&request, loaded, "theme", "dark").await);
    check(place, ends.id, None).await;
    check(place, lasts.id, Some(&lasts)).await;
}

/// Longer than the thirty days from which on memcached takes a lifetime for a date.
pub async fn a_session_lives_as_long_as_it_was_saved_for(place: &Place) {
    let short = create(&place.here, &[]).await;
    let ends = Record { id: short.id, ..record(Duration::from_millis(300), &[]) };
    place.here.request(None).save(&ends).await.unwrap();
    let mut sessions = vec![];
    for lifetime in [HOUR, 29 * DAY, 31 * DAY, 400 * DAY] {
        let mut created = record(lifetime, &[]);
        place.here.request(None).create(&mut created).await.unwrap();
        let first = create(&place.here, &[]).await;
        let saved = Record { id: first.id, ..record(lifetime, &[]) };
        place.here.request(None).save(&saved).await.unwrap();
        sessions.extend([created, saved]);
    }
    let told = Some(seen(&ends));
    eventually("the first has expired", async || load(&place.there, ends.id, told).await.is_none()).await;
    for session in sessions {
        check(place, session.id, Some(&session)).await;
    }
}

pub async fn unusual_data_survives(place: &Place) {
    let mut random = fastrand::Rng::with_seed(1);
    let noise: String = (0..100_000).map(|_| random.char(' '..'\u{3000}')).collect();
    let values = [
        ("text", json!("grüße 日本 🍰 \u{202e}\u{feff}")),
        ("characters", json!("\0 \u{1} \r\n \t \" \\ ' $1 %s </script>")),
        ("\0", json!("a key")),
        ("", json!("")),
        ("nested", json!({"list": [[], {}, [null, true, 1.5]], "": {"\0": {"deep": [-1, u64::MAX]}}})),
        ("nothing", json!(null)),
        ("long", json!(noise)),
    ];
    let mut one = record(HOUR, &[]);
    one.data = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    for data in [one.data, Default::default()] {
        let mut session = Record { data: data.clone(), ..record(HOUR, &[]) };
        place.here.request(None).create(&mut session).await.unwrap();
        check(place, session.id, Some(&session)).await;
        let mut saved = create(&place.here, &[("user", "anna")]).await;
        saved.data = data;
        place.here.request(None).save(&saved).await.unwrap();
        check(place, saved.id, Some(&saved)).await;
    }
}

pub async fn sessions_never_mix(place: &Place) {
    let names: Vec<_> = (0..20).map(|number| format!("visitor {number}")).collect();
    let mut ids = vec![];
    for name in &names {
        ids.push(create(&place.here, &[("user", name)]).await.id);
    }
    let changes = ids.iter().zip(&names).enumerate().map(async |(number, (id, name))| {
        let sessions = if number % 2 == 0 { &place.here } else { &place.there };
        change(sessions, *id, "again", name).await.unwrap()
    });
    let told = futures_util::future::join_all(changes).await;
    place.here.request(None).delete(&ids[0]).await.unwrap();
    check(place, ids[0], None).await;
    for ((id, name), seen) in ids.iter().zip(&names).zip(told).skip(1) {
        for sessions in [&place.here, &place.there] {
            let found = load(sessions, *id, Some(seen)).await;
            assert_has(found.as_ref(), "user", name);
            assert_has(found.as_ref(), "again", name);
        }
    }
}

pub async fn what_cannot_be_decoded_is_no_session(place: &Place) {
    for damage in ["[1]", "{\"user\":", ""] {
        let session = create(&place.here, &[("user", "anna")]).await;
        let stored = Stored { data: damage.into(), ..Stored::of(&session).unwrap() };
        match (&place.table, &place.cache) {
            (Some(table), _) => {
                let sql = format!("update sessions set data = '{damage}' where id = '{}'", stored.name);
                table.execute(&sql).await;
            }
            (None, Some(cache)) => cache.set(&key(&session.id), &stored, Ttl::Never).await,
            (None, None) => unreachable!("a store keeps sessions somewhere"),
        }
        check(place, session.id, None).await;
        let request = place.here.request(None);
        assert_eq!(request.load(&session.id).await.unwrap(), None);
        assert!(request.is_missing() && request.seen().is_none());
        if let (None, Some(cache)) = (&place.table, &place.cache) {
            cache
                .backend()
                .set(&cache.name(&key(&session.id)), "set by hand".into(), Ttl::Never)
                .await
                .unwrap();
            check(place, session.id, None).await;
        }
    }
}

/// Where there is nothing to look through, that the name is not the id has to do.
pub async fn ids_are_nowhere_to_be_found(place: &Place) {
    let session = create(&place.here, &[("user", "anna")]).await;
    change(&place.here, session.id, "theme", "dark").await.unwrap();
    let changed = load(&place.there, session.id, None).await.unwrap();
    copy(&place.there, &changed).await;
    let gone = create(&place.here, &[]).await;
    copy(&place.here, &gone).await;
    place.here.request(None).delete(&gone.id).await.unwrap();
    let mut texts = vec![key(&session.id).to_string(), key(&gone.id).to_string()];
    if let Some(memcached) = &place.memcached {
        let mut keys = vec![];
        eventually("memcached lists the session", async || {
            keys = memcached.keys();
            keys.contains(&key(&session.id).to_string())
        })
        .await;
        for key in keys {
            let value: Option<Vec<u8>> = memcached.client().get(&key).unwrap();
            texts.extend([key, String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()]);
        }
    }
    if let Some(table) = &place.table {
        let rows = table.rows().await;
        assert_eq!(rows.len(), 1);
        texts.extend(rows.into_iter().flat_map(|(id, data)| [id, data]));
    }
    for Id(id) in [session.id, gone.id] {
        let hex = |bytes: [u8; 16]| bytes.map(|byte| format!("{byte:02x}")).concat();
        let shapes = [Id(id).to_string(), id.to_string(), hex(id.to_le_bytes()), hex(id.to_be_bytes())];
        for text in &texts {
            assert!(shapes.iter().all(|shape| !text.contains(shape)), "{text}");
        }
    }
}

pub async fn changes_of_different_keys_are_all_kept(place: &Place) {
    let session = create(&place.here, &[("user", "anna")]).await;
    let requests = [&place.here, &place.there, &place.here].map(|sessions| sessions.request(None));
    let mut loaded = vec![];
    for request in &requests {
        loaded.push(request.load(&session.id).await.unwrap().unwrap());
    }
    let saves = requests.iter().zip(loaded).zip(["a", "b", "c"]);
    let saves =
        saves.map(async |((request, record), key)| save(request, record, key, "changed").await.unwrap());
    futures_util::future::join_all(saves).await;
    let stored = load(&place.there, session.id, None).await.unwrap();
    // Visitors who were told this last may find a copy, and that is of the same state.
    let last = seen(&stored);
    assert!(
        requests.iter().any(|request| request.seen() == Some(last)),
        "nobody is told what was stored last"
    );
    for found in [Some(stored), load(&place.there, session.id, Some(last)).await] {
        for (key, value) in [("user", "anna"), ("a", "changed"), ("b", "changed"), ("c", "changed")] {
            assert_has(found.as_ref(), key, value);
        }
    }
}

pub async fn of_changes_of_the_same_key_the_later_wins(place: &Place) {
    let session = create(&place.here, &[("theme", "light")]).await;
    let [first, second] = [&place.here, &place.there].map(|sessions| sessions.request(None));
    let in_first = first.load(&session.id).await.unwrap().unwrap();
    let in_second = second.load(&session.id).await.unwrap().unwrap();
    save(&second, in_second, "theme", "dark").await.unwrap();
    save(&first, in_first, "theme", "blue").await.unwrap();
    for sessions in [&place.here, &place.there] {
        assert_has(load(sessions, session.id, first.seen()).await.as_ref(), "theme", "blue");
    }
}

pub async fn a_key_that_was_removed_stays_removed(place: &Place) {
    let session = create(&place.here, &[("theme", "light"), ("user", "anna")]).await;
    let [first, second] = [&place.here, &place.there].map(|sessions| sessions.request(None));
    let mut in_first = first.load(&session.id).await.unwrap().unwrap();
    let in_second = second.load(&session.id).await.unwrap().unwrap();
    in_first.data.remove("theme");
    first.save(&in_first).await.unwrap();
    save(&second, in_second, "a", "changed").await.unwrap();
    let found = load(&place.here, session.id, second.seen()).await;
    assert_has(found.as_ref(), "a", "changed");
    assert!(!found.unwrap().data.contains_key("theme"));
}

pub async fn what_has_expired_is_cleared_in_rounds(place: &Place) {
    let table = place.table.as_ref().unwrap();
    let session = create(&place.here, &[("user", "anna")]).await;
    let many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2500) \
                insert into sessions select 'old' || i, '{}', i from n";
    table.execute(many).await;
    for (rounds, cleared, left) in [(0, 0, 2501), (1, 1000, 1501), (1, 1000, 501), (5, 500, 1), (5, 0, 1)] {
        assert_eq!(place.there.clear_expired(rounds).await.unwrap(), cleared);
        assert_eq!(table.rows().await.len(), left);
    }
    check(place, session.id, Some(&session)).await;
}

/// Where a copy is made when the session is read, it lives no longer than the session has left.
pub async fn memcached_forgets_a_session_when_it_expires(place: &Place) {
    let memcached = place.memcached.as_ref().unwrap();
    let check = async |session: &Record| {
        let mut end = None;
        // Its list leaves out what is in use just then.
        eventually("memcached lists the session", async || {
            end = memcached.end_of(&key(&session.id).to_string());
            end.is_some()
        })
        .await;
        // Its clock ticks in seconds, and so does what it is told.
        let difference = (end.unwrap() - session.expiry_date.unix_timestamp()).abs();
        assert!(difference <= 3, "{difference} seconds beside the session's end");
    };
    for lifetime in [HOUR, 60 * DAY] {
        let mut session = record(lifetime, &[("user", "anna")]);
        place.here.request(None).create(&mut session).await.unwrap();
        copy(&place.here, &session).await;
        check(&session).await;
        let saved = Record { id: session.id, ..record(lifetime / 2, &[("user", "anna")]) };
        place.there.request(None).save(&saved).await.unwrap();
        check(&saved).await;
    }
    if place.table.is_some() {
        let session = create(&place.here, &[]).await;
        place.here.request(None).delete(&session.id).await.unwrap();
        check(&Record { expiry_date: OffsetDateTime::now_utc() + time::Duration::weeks(2), ..session }).await;
    }
}
