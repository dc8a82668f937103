//! What memcached's outages do to sessions: nothing, where a database has them; and where it has not, one kind of
//! error.

use std::time::Duration;

use neverstale::backend::memcached;
use neverstale::{Cache, CacheOptions, Ttl};
use neverstale_sessions::{Error, Seen, Sessions};
use tasklist::db::Database;
use tasklist::db::sessions::DatabaseStore;
use tower_sessions::SessionStore;
use tower_sessions::session::Record;

use super::places::{Table, patient, signed};
use super::{assert_has, change, copy, create, explain, key, load, record, save, secret, seen};
use crate::support::backends::options;
use testkit::eventually;
use testkit::memcached::Memcached;
use testkit::proxy::Proxy;

/// A memcached, and two processes of which one reaches it through a proxy.
pub struct Rig {
    pub memcached: Memcached,
    pub proxy: Proxy,
    pub table: Table,
    pub here: Sessions,
    pub there: Sessions,
}

/// What happens to memcached, or on the way to it.
#[derive(Clone, Copy, Debug)]
enum Outage {
    Hung,
    Killed,
    KilledWhenAsked,
    RequestLost,
    AnswerLost,
}

const OUTAGES: [Outage; 5] =
    [Outage::Hung, Outage::Killed, Outage::KilledWhenAsked, Outage::RequestLost, Outage::AnswerLost];

impl Rig {
    /// With processes that wait as long as it takes, or not for long.
    pub async fn start(cache: fn(&str) -> Cache) -> Self {
        let (memcached, table) = (Memcached::start(), Table::on_sqlite().await);
        let proxy = Proxy::start(memcached.address()).await;
        let here = cached_db(&table.db, &cache(&proxy.address.to_string()));
        let there = cached_db(&table.other(), &patient(&memcached.address()));
        Self { memcached, proxy, table, here, there }
    }

    /// A process of which nobody has heard yet.
    fn newcomer(&self) -> Sessions {
        cached_db(&self.table.other(), &patient(&self.memcached.address()))
    }

    /// Does something during an outage, which is over afterwards.
    async fn during<T>(&mut self, outage: Outage, work: impl Future<Output = T>) -> T {
        match outage {
            Outage::Hung => {
                self.memcached.stop();
                let done = work.await;
                self.memcached.go_on();
                done
            }
            Outage::Killed => {
                self.memcached.kill();
                let done = work.await;
                self.memcached.restart();
                done
            }
            Outage::KilledWhenAsked => {
                self.proxy.hold("session.");
                let killed = async {
                    self.proxy.wait_for_held().await;
                    self.memcached.kill();
                    self.proxy.release();
                };
                let (done, ()) = tokio::join!(work, killed);
                self.memcached.restart();
                done
            }
            Outage::RequestLost => {
                self.proxy.hold("session.");
                let done = work.await;
                self.proxy.lose();
                done
            }
            Outage::AnswerLost => {
                self.proxy.lose_answer_to("session.");
                let done = work.await;
                self.proxy.lose();
                done
            }
        }
    }
}

fn cached_db(db: &Database, cache: &Cache) -> Sessions {
    Sessions::write_through(DatabaseStore::new(db), cache, &secret())
}

/// A handle on a memcached that is not expected to answer.
fn impatient(address: &str) -> Cache {
    let options = options(address, false)
        .operation_timeout(Duration::from_millis(200))
        .connect_timeout(Duration::from_millis(400))
        .retry_interval(Duration::from_millis(50));
    Cache::new(memcached::Memcached::new(options), CacheOptions::default())
}

/// Does something in each outage with a session of which memcached has a copy. What its visitor has seen then is what
/// both processes have, and one that comes later.
async fn check(work: impl AsyncFn(Sessions, Record) -> Seen, theme: &str) {
    for outage in OUTAGES {
        let mut rig = Rig::start(impatient).await;
        let session = create(&rig.here, &[("user", "anna"), ("theme", "light")]).await;
        copy(&rig.there, &session).await;
        let here = rig.here.clone();
        let seen = rig.during(outage, work(here, session.clone())).await;
        for process in [rig.newcomer(), rig.there.clone(), rig.here.clone()] {
            for seen in [Some(seen), None, Some(seen)] {
                let found = load(&process, session.id, seen).await;
                assert_has(found.as_ref(), "user", "anna");
                assert_has(found.as_ref(), "theme", theme);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_while_a_session_is_loaded_is_not_noticed() {
    let work = async |sessions, session: Record| {
        let seen = seen(&session);
        let found = load(&sessions, session.id, Some(seen)).await;
        assert_eq!(found.as_ref(), Some(&session));
        seen
    };
    check(work, "light").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_while_a_session_is_saved_loses_nothing() {
    let work =
        async |sessions, session: Record| change(&sessions, session.id, "theme", "dark").await.unwrap();
    check(work, "dark").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_while_a_session_is_saved_twice_leaves_the_second() {
    let work = async |sessions, session: Record| {
        change(&sessions, session.id, "theme", "blue").await.unwrap();
        change(&sessions, session.id, "theme", "dark").await.unwrap()
    };
    check(work, "dark").await;
}

/// The other process may have an old copy, but not for those who want to change something.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_while_a_session_is_deleted_leaves_none() {
    for outage in OUTAGES {
        let mut rig = Rig::start(impatient).await;
        let session = create(&rig.here, &[("user", "anna")]).await;
        copy(&rig.there, &session).await;
        let late = rig.there.request(None);
        let loaded = late.load(&session.id).await.unwrap().unwrap();
        let here = rig.here.clone();
        rig.during(outage, async { here.request(None).delete(&session.id).await.unwrap() }).await;
        for process in [rig.newcomer(), rig.there.clone(), rig.here.clone()] {
            assert_eq!(load(&process, session.id, None).await, None, "{outage:?}");
            assert!(change(&process, session.id, "theme", "dark").await.is_err(), "{outage:?}");
        }
        let told = Some(seen(&session));
        assert_eq!(load(&rig.here, session.id, told).await, None, "{outage:?}");
        super::assert_gone(save(&late, loaded, "theme", "dark").await);
        let found = load(&rig.newcomer(), session.id, told).await;
        assert_eq!(found, None, "{outage:?}: it is known to be gone now");
        assert_eq!(rig.table.rows().await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_older_than_what_the_visitor_has_seen_is_not_taken() {
    let rig = Rig::start(impatient).await;
    let session = create(&rig.there, &[("theme", "light")]).await;
    copy(&rig.there, &session).await;
    rig.proxy.hold("session.");
    let told = change(&rig.here, session.id, "theme", "dark").await.unwrap();
    rig.proxy.lose();
    copy(&rig.there, &session).await;
    for process in [&rig.there, &rig.newcomer()] {
        let found = load(process, session.id, Some(told)).await;
        assert_has(found.as_ref(), "theme", "dark");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_key_is_nobodys() {
    let rig = Rig::start(patient).await;
    let cache = signed(&patient(&rig.memcached.address()));
    let anna = create(&rig.there, &[("user", "anna")]).await;
    let ben = create(&rig.there, &[("user", "ben")]).await;
    let gone = create(&rig.there, &[("user", "carla")]).await;
    for session in [&anna, &ben] {
        copy(&rig.there, session).await;
    }
    rig.there.request(None).delete(&gone.id).await.unwrap();
    for other in [&anna, &gone] {
        let copy = cache.backend().get(&cache.name(&key(&other.id))).await.unwrap().unwrap();
        for seen in [&ben, &anna].map(seen) {
            cache.backend().set(&cache.name(&key(&ben.id)), copy.clone(), Ttl::Never).await.unwrap();
            assert_eq!(load(&rig.here, ben.id, Some(seen)).await.as_ref(), Some(&ben));
        }
    }
    let alone = Sessions::in_cache(&cache, &secret());
    let (dora, emil) = (create(&alone, &[("user", "dora")]).await, create(&alone, &[]).await);
    let copy = cache.backend().get(&cache.name(&key(&dora.id))).await.unwrap().unwrap();
    cache.backend().set(&cache.name(&key(&emil.id)), copy, Ttl::Never).await.unwrap();
    assert_eq!(load(&alone, emil.id, None).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_a_cache_has_sessions_its_outage_is_told_and_passes() {
    let memcached = Memcached::start();
    let alone = Sessions::in_cache(&impatient(&memcached.address()), &secret());
    let mut read = None;
    eventually("there is a session", async || {
        let mut session = record(super::HOUR, &[("user", "anna")]);
        let is_created = alone.request(None).create(&mut session).await.is_ok();
        read = Some(session);
        is_created
    })
    .await;
    let read = read.unwrap();
    memcached.stop();
    for _ in 0..2 {
        let request = alone.request(None);
        let error = explain(&request, request.load(&read.id).await.unwrap_err());
        assert!(matches!(error, Error::Cache), "{error}");
        let error = explain(&request, request.create(&mut record(super::HOUR, &[])).await.unwrap_err());
        assert!(matches!(error, Error::Cache), "{error}");
        let other = record(super::HOUR, &[]);
        let error = save(&request, other, "theme", "dark").await.unwrap_err();
        assert!(matches!(error, Error::Cache), "{error}");
        assert!(!request.is_missing(), "nobody knows");
    }
    memcached.go_on();
    eventually("the session is there again", async || {
        alone.request(None).load(&read.id).await.is_ok_and(|found| found.as_ref() == Some(&read))
    })
    .await;
}
