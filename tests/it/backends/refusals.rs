//! What a server refuses is as uncertain as what it never answered: its old value must not be read afterwards.

use bytes::Bytes;
use neverstale::backend::memcached::Memcached;
use neverstale::backend::{Backend, ErrorKind};
use tasklist::memcache_crate::MemcacheCrate;
use tokio_memcached::{Credentials, Options};

use testkit::contract::{AT_ONCE, MINUTE};
use testkit::eventually;
use testkit::fake::{ADD, DELETE, DELETE_QUIET, FLUSH, Fake, LOGIN, REFUSALS, SET, UNAUTHENTICATED, WRITES};

/// A backend over one server, which asks for credentials.
fn backend_of(fake: &Fake) -> Memcached {
    let credentials = Credentials { username: "user".into(), password: "pass".to_owned().into() };
    let options = Options::new([fake.address().parse().unwrap()]).unwrap();
    Memcached::new(options.credentials(credentials).retry_interval(std::time::Duration::from_millis(50)))
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

/// It overwrites nothing, so that there is nothing older to delete.
#[tokio::test]
async fn an_add_that_is_refused_deletes_nothing() {
    let fake = Fake::start().await;
    let backend = backend_of(&fake);
    backend.set("there", "v".into(), MINUTE).await.unwrap();
    // A value that was not stored, for no reason that is told, is refused as well.
    for status in REFUSALS.into_iter().chain([0x05]) {
        fake.refuse(&[ADD], status);
        backend.add("k", "v".into(), MINUTE).await.unwrap_err();
        eventually("the server answers", async || backend.get("there").await.is_ok()).await;
    }
    assert_eq!((fake.asked(DELETE_QUIET, "k"), fake.asked(DELETE, "k")), (0, 0));
}

#[tokio::test]
async fn the_error_of_a_refused_set_is_the_sets() {
    let fake = Fake::start().await;
    let backend = backend_of(&fake);
    fake.refuse(&WRITES, 0x86);
    fake.refuse(&[SET], 0x82);
    let error = backend.set("k", "v".into(), MINUTE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused("out of memory".into()));
}

#[tokio::test]
async fn a_caller_that_leaves_a_refused_set_leaves_no_older_value() {
    let fake = Fake::start().await;
    let backend = backend_of(&fake);
    backend.set("k", "old".into(), MINUTE).await.unwrap();
    fake.refuse(&[SET], 0x82);
    {
        let mut set = std::pin::pin!(backend.set("k", "new".into(), MINUTE));
        eventually("the server has refused it", async || {
            let is_pending = futures_util::poll!(set.as_mut()).is_pending();
            assert!(is_pending || fake.asked(SET, "k") == 2);
            fake.asked(SET, "k") == 2
        })
        .await;
    }
    eventually("the older value is deleted", async || !fake.has("k")).await;
}

/// Such credentials authenticate, and are then refused every write.
#[tokio::test]
async fn credentials_that_may_only_read_do_not_reconnect_without_end() {
    let fake = Fake::start().await;
    let options = Options::new([fake.address().parse().unwrap()]).unwrap();
    let backend = Memcached::new(options.retry_interval(std::time::Duration::from_secs(60)));
    backend.set("there", "v".into(), MINUTE).await.unwrap();
    fake.refuse(&WRITES, UNAUTHENTICATED);
    for number in 0..100 {
        let error = backend.set(&format!("k{number}"), "v".into(), MINUTE).await.unwrap_err();
        let is_refusal = |kind: &ErrorKind| *kind == ErrorKind::Unauthenticated;
        let is_down = matches!(&error.kind, ErrorKind::Down(Some(cause)) if is_refusal(cause));
        assert!(is_refusal(&error.kind) || is_down, "{error}");
        eventually("it can be read", async || backend.get("there").await.is_ok()).await;
    }
    assert_eq!(fake.rogue.connections(), 2, "it has authenticated again once");
}

#[tokio::test]
async fn a_server_that_is_down_says_why() {
    let fake = Fake::start().await;
    fake.refuse(&[LOGIN], UNAUTHENTICATED);
    let backend = backend_of(&fake);
    for _ in 0..3 {
        let error = backend.get("k").await.unwrap_err();
        assert!(error.to_string().contains("authentication failed"), "{error}");
        let error = backend.check().await.remove(0).outcome.unwrap_err();
        assert!(error.to_string().contains("authentication failed"), "{error}");
        let stats = backend.stats().await.remove(0);
        let error = stats.stats.unwrap_err();
        assert!(error.to_string().contains("authentication failed"), "{error}");
        assert_eq!(stats.link.unwrap().outage, Some(ErrorKind::Unauthenticated));
    }
}

#[tokio::test]
async fn a_server_that_is_up_says_its_last_error() {
    let fake = Fake::start().await;
    let backend = backend_of(&fake);
    for (opcode, status, what) in
        [(SET, 0x82, "out of memory"), (SET, 0x81, "unknown command"), (FLUSH, 0x86, "temporary failure")]
    {
        fake.refuse(&[opcode], status);
        let failed = match opcode {
            SET => backend.set("k", "v".into(), MINUTE).await,
            _ => backend.clear().await,
        };
        assert!(failed.unwrap_err().to_string().contains(what));
        let (last, _) = backend.stats().await.remove(0).link.unwrap().last_error.unwrap();
        assert!(last.to_string().contains(what), "{last}");
        let outcome = backend.check().await.remove(0).outcome.unwrap();
        assert!(outcome.contains(what), "{outcome}");
    }
}

/// As our own client does: what is wrong with the server is told from what is wrong with the command.
#[tokio::test]
async fn the_memcache_crate_says_what_was_refused_and_why_the_server_is_down() {
    for (status, what) in [
        (0x04, "cannot do it now (status 0x0004)"),
        (UNAUTHENTICATED, "authentication failed"),
        (0x81, "does not carry out this command (unknown command)"),
        (0x83, "does not carry out this command (command not supported)"),
        (0x84, "cannot do it now (internal error)"),
        (0x85, "cannot do it now (busy)"),
        (0x86, "cannot do it now (temporary failure)"),
        (0x99, "cannot do it now (status 0x0099)"),
    ] {
        let fake = Fake::start().await;
        let backend = MemcacheCrate::new(&Options::new([fake.address().parse().unwrap()]).unwrap()).unwrap();
        fake.refuse(&WRITES, status);
        let error = backend.set("k", "v".into(), MINUTE).await.unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        let stats = backend.stats().await.remove(0).stats.unwrap_err();
        let checked = backend.check().await.remove(0).outcome.unwrap_err();
        for error in [backend.get("k").await.unwrap_err(), stats, checked] {
            assert!(matches!(error.kind, ErrorKind::Down(_)), "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
