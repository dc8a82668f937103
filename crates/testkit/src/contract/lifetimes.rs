//! How long a value lives. Nothing here measures a time: what ends is waited for.

use std::time::Duration;

use neverstale::Ttl;
use neverstale::backend::Backend;

use super::{AT_ONCE, MINUTE, SOON, read, until_gone};
use crate::eventually;

pub async fn a_lifetime_of_zero_leaves_nothing(backend: &dyn Backend) {
    backend.set("new", "v".into(), AT_ONCE).await.unwrap();
    backend.set("old", "v".into(), Ttl::Never).await.unwrap();
    backend.set("old", "v".into(), AT_ONCE).await.unwrap();
    backend.set("replaced", "v".into(), Ttl::Never).await.unwrap();
    assert!(backend.replace("replaced", "v".into(), AT_ONCE).await.unwrap());
    for key in ["new", "old", "replaced"] {
        assert_eq!(backend.get(key).await.unwrap(), None, "{key}");
        assert!(!backend.delete(key).await.unwrap(), "{key}");
    }
}

pub async fn what_is_added_without_a_lifetime_is_there_for_nobody(backend: &dyn Backend) {
    for _ in 0..2 {
        assert!(backend.add("k", "v".into(), AT_ONCE).await.unwrap());
        assert_eq!(backend.get("k").await.unwrap(), None);
    }
}

pub async fn touching_with_a_lifetime_of_zero_removes(backend: &dyn Backend) {
    backend.set("k", "v".into(), Ttl::Never).await.unwrap();
    assert!(backend.touch("k", AT_ONCE).await.unwrap());
    assert_eq!(backend.get("k").await.unwrap(), None);
    assert!(!backend.touch("k", MINUTE).await.unwrap());
    assert!(backend.add("k", "v".into(), MINUTE).await.unwrap());
}

pub async fn a_long_lifetime_is_not_a_short_one(backend: &dyn Backend) {
    const DAY: u64 = 24 * 60 * 60;
    let days = [30, 31, 365, 100 * 365, 1_000_000].map(|days| Duration::from_secs(days * DAY));
    let long = days.into_iter().chain([Duration::MAX]).map(Ttl::After).chain([Ttl::Never]);
    for ttl in long {
        backend.set("set", "v".into(), ttl).await.unwrap();
        assert!(backend.replace("set", "v".into(), ttl).await.unwrap(), "{ttl:?}");
        assert!(backend.touch("set", ttl).await.unwrap(), "{ttl:?}");
        assert!(backend.add("added", "v".into(), ttl).await.unwrap(), "{ttl:?}");
        for key in ["set", "added"] {
            assert!(backend.delete(key).await.unwrap(), "{key} {ttl:?}");
        }
    }
}

pub async fn a_value_is_gone_when_its_lifetime_is_over(backend: &dyn Backend) {
    backend.set("set", "v".into(), SOON).await.unwrap();
    backend.set_many(&[("many".into(), "v".into())], SOON).await.remove(0).unwrap();
    assert!(backend.add("added", "v".into(), SOON).await.unwrap());
    for key in ["overwritten", "replaced", "touched"] {
        backend.set(key, "v".into(), Ttl::Never).await.unwrap();
    }
    backend.set("overwritten", "v".into(), SOON).await.unwrap();
    assert!(backend.replace("replaced", "v".into(), SOON).await.unwrap());
    assert!(backend.touch("touched", SOON).await.unwrap());
    for key in ["set", "many", "added", "overwritten", "replaced", "touched"] {
        until_gone(backend, key).await;
    }
}

/// The keys are not read before, since a store may remove what it finds expired.
pub async fn what_has_expired_is_missing_to_every_verb(backend: &dyn Backend) {
    for key in ["deleted", "one of many", "touched", "replaced", "counted", "added", "last"] {
        backend.set(&key.replace(' ', "."), "1".into(), SOON).await.unwrap();
    }
    until_gone(backend, "last").await;
    assert!(!backend.delete("deleted").await.unwrap());
    assert!(!backend.delete_many(&["one.of.many".into()]).await.remove(0).unwrap());
    assert!(!backend.touch("touched", MINUTE).await.unwrap());
    assert!(!backend.replace("replaced", "2".into(), MINUTE).await.unwrap());
    assert_eq!(backend.incr("counted", 1).await.unwrap(), None);
    assert!(backend.add("added", "2".into(), MINUTE).await.unwrap());
    for key in ["touched", "replaced", "counted"] {
        assert_eq!(backend.get(key).await.unwrap(), None, "{key}");
    }
    assert_eq!(read(backend, "added").await.as_deref(), Some("2"));
}

pub async fn a_new_lifetime_takes_the_place_of_the_old_one(backend: &dyn Backend) {
    for (number, ttl) in [MINUTE, Ttl::Never].into_iter().enumerate() {
        // On a busy machine a value may be gone before it can be given more time.
        let [set, replaced, touched] = ["set", "replaced", "touched"].map(|key| format!("{key}{number}"));
        eventually("there is a value to replace", async || {
            backend.set(&replaced, "old".into(), SOON).await.unwrap();
            backend.replace(&replaced, "new".into(), ttl).await.unwrap()
        })
        .await;
        eventually("there is a value to touch", async || {
            backend.set(&touched, "new".into(), SOON).await.unwrap();
            backend.touch(&touched, ttl).await.unwrap()
        })
        .await;
        backend.set(&set, "old".into(), SOON).await.unwrap();
        backend.set(&set, "new".into(), ttl).await.unwrap();
    }
    backend.set("last", "v".into(), SOON).await.unwrap();
    until_gone(backend, "last").await;
    for key in ["set0", "set1", "replaced0", "replaced1", "touched0", "touched1"] {
        assert_eq!(read(backend, key).await.as_deref(), Some("new"), "{key}");
    }
}

pub async fn touching_what_is_missing_creates_nothing(backend: &dyn Backend) {
    for ttl in [MINUTE, Ttl::Never, AT_ONCE] {
        assert!(!backend.touch("k", ttl).await.unwrap());
        assert_eq!(backend.get("k").await.unwrap(), None);
    }
}

pub async fn counting_keeps_the_lifetime(backend: &dyn Backend) {
    // On a busy machine a number may be gone before it can be counted.
    eventually("there is a number to add to", async || {
        backend.set("grown", "9".into(), SOON).await.unwrap();
        backend.incr("grown", 1).await.unwrap().is_some()
    })
    .await;
    eventually("there is a number to subtract from", async || {
        backend.set("shrunk", "10".into(), SOON).await.unwrap();
        backend.decr("shrunk", 1).await.unwrap().is_some()
    })
    .await;
    for (key, ttl) in [("minute", MINUTE), ("never", Ttl::Never)] {
        backend.set(key, "1".into(), ttl).await.unwrap();
        assert_eq!(backend.incr(key, 1).await.unwrap(), Some(2));
    }
    for key in ["grown", "shrunk"] {
        until_gone(backend, key).await;
    }
    for key in ["minute", "never"] {
        assert_eq!(read(backend, key).await.as_deref(), Some("2"), "{key}");
    }
}
