//! What a server refuses is as uncertain as what it never answered: its old value must not be read afterwards.

use bytes::Bytes;
use tasklist::cache::backend::Backend;
use tasklist::cache::backend::memcached::Memcached;
use tasklist::memcached::{Credentials, Options};

use super::{AT_ONCE, MINUTE};
use crate::support::eventually;
use crate::support::fake::{DELETE, DELETE_QUIET, Fake, REFUSALS, WRITES};

/// A backend over one server, which asks for credentials.
fn backend_of(fake: &Fake) -> Memcached {
    let mut options = Options::new(vec![fake.address().parse().unwrap()]);
    options.credentials = Some(Credentials { username: "user".into(), password: "pass".to_owned().into() });
    options.retry_interval = std::time::Duration::from_millis(50);
    Memcached::new(options)
}

const VERBS: [&str; 6] = ["set", "set_many", "replace", "delete", "delete_many", "touch"];

/// Overwrites or removes a key, which must fail.
async fn write(backend: &dyn Backend, verb: &str, key: &str) {
    let (value, one) = (Bytes::from_static(b"new"), [key.to_owned()]);
    let failed = match verb {
        "set" => backend.set(key, value, MINUTE).await.is_err(),
        "set_many" => backend.set_many(&[(key.into(), value)], MINUTE).await.remove(0).is_err(),
        "replace" => backend.replace(key, value, MINUTE).await.is_err(),
        "delete" => backend.delete(key).await.is_err(),
        "delete_many" => backend.delete_many(&one).await.remove(0).is_err(),
        "touch" => backend.touch(key, AT_ONCE).await.is_err(),
        _ => unreachable!("{verb}"),
    };
    assert!(failed, "{verb}");
}

/// Asserts that the older value is not read, one by one and among many.
async fn assert_unread(backend: &dyn Backend, key: &str, what: &str) {
    let is_old = |value: Option<Bytes>| value.is_some_and(|value| value == "old");
    assert!(!backend.get(key).await.is_ok_and(is_old), "{what}: get");
    let many = backend.get_many(&[key.to_owned(), "other".into()]).await.remove(0);
    assert!(!many.is_ok_and(is_old), "{what}: get_many");
    let (_, read) = backend.add_then_get("lock", "v".into(), MINUTE, key).await.unwrap_or_default();
    assert!(!is_old(read), "{what}: add_then_get");
}

#[tokio::test]
async fn what_a_server_refused_to_overwrite_or_delete_is_not_read() {
    let mut old = vec![];
    for status in REFUSALS {
        for verb in VERBS {
            let what = format!("{verb} refused with {status:#04x}");
            let fake = Fake::start().await;
            let backend = backend_of(&fake);
            backend.set("k", "old".into(), MINUTE).await.unwrap();
            fake.refuse(&WRITES, status);
            write(&backend, verb, "k").await;
            if backend.get("k").await.is_ok_and(|value| value.is_some()) {
                old.push(what);
                continue;
            }
            assert_unread(&backend, "k", &what).await;
            fake.refuse_nothing();
            eventually("the key is deleted", async || {
                backend.get("k").await.is_ok_and(|value| value.is_none())
            })
            .await;
            assert!(!fake.has("k"), "{what}");
        }
    }
    assert!(old.is_empty(), "{old:?} left the old value");
}

/// The case of a server that comes back and refuses quiet deletes, of which only the last command of a batch, a `noop`,
/// is answered well.
#[tokio::test]
async fn a_pending_delete_that_is_refused_stays_pending() {
    for status in REFUSALS {
        let fake = Fake::start().await;
        let backend = backend_of(&fake);
        backend.set("k", "old".into(), MINUTE).await.unwrap();
        fake.refuse(&WRITES, status);
        write(&backend, "delete", "k").await;
        fake.refuse(&[DELETE, DELETE_QUIET], status);
        let before = fake.asked(DELETE_QUIET, "k");
        eventually("it is tried again", async || fake.asked(DELETE_QUIET, "k") > before + 2).await;
        assert_unread(&backend, "k", &format!("{status:#04x}")).await;
        fake.refuse_nothing();
        eventually("the key is deleted", async || !fake.has("k")).await;
        eventually("and is read again", async || backend.get("k").await.is_ok()).await;
    }
}
