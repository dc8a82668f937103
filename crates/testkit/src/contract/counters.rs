//! Numbers.

use neverstale::backend::{Backend, ErrorKind};

use super::{MINUTE, read};

pub async fn counting_up_and_down_returns_the_sum(backend: &dyn Backend) {
    backend.set("n", "40".into(), MINUTE).await.unwrap();
    assert_eq!(backend.incr("n", 2).await.unwrap(), Some(42));
    assert_eq!(read(backend, "n").await.as_deref(), Some("42"), "any client can read it");
    assert_eq!(backend.decr("n", 20).await.unwrap(), Some(22));
    assert_eq!(backend.incr("n", 0).await.unwrap(), Some(22));
    assert_eq!(backend.decr("n", 0).await.unwrap(), Some(22));
    assert_eq!(backend.incr("n", 99_978).await.unwrap(), Some(100_000));
    assert_eq!(read(backend, "n").await.as_deref(), Some("100000"));
}

pub async fn counting_what_is_missing_creates_nothing(backend: &dyn Backend) {
    assert_eq!(backend.incr("n", 1).await.unwrap(), None);
    assert_eq!(backend.decr("n", 1).await.unwrap(), None);
    assert_eq!(backend.get("n").await.unwrap(), None);
    backend.set("n", "1".into(), MINUTE).await.unwrap();
    backend.delete("n").await.unwrap();
    assert_eq!(backend.incr("n", 1).await.unwrap(), None);
    assert_eq!(backend.get("n").await.unwrap(), None);
}

pub async fn counting_up_wraps_and_counting_down_stops_at_zero(backend: &dyn Backend) {
    backend.set("n", u64::MAX.to_string().into(), MINUTE).await.unwrap();
    assert_eq!(backend.decr("n", 1).await.unwrap(), Some(u64::MAX - 1));
    assert_eq!(backend.incr("n", 1).await.unwrap(), Some(u64::MAX));
    assert_eq!(backend.incr("n", 3).await.unwrap(), Some(2));
    assert_eq!(backend.incr("n", u64::MAX).await.unwrap(), Some(1), "a delta may be as large");
    assert_eq!(backend.decr("n", 5).await.unwrap(), Some(0));
    assert_eq!(backend.decr("n", u64::MAX).await.unwrap(), Some(0));
    assert_eq!(backend.incr("n", 1).await.unwrap(), Some(1));
}

pub async fn a_number_that_grows_shorter_is_still_that_number(backend: &dyn Backend) {
    backend.set("n", "10".into(), MINUTE).await.unwrap();
    assert_eq!(backend.decr("n", 1).await.unwrap(), Some(9));
    assert_eq!(read(backend, "n").await.unwrap().trim_end_matches(' '), "9");
    assert_eq!(backend.incr("n", 1).await.unwrap(), Some(10));
    assert_eq!(read(backend, "n").await.as_deref(), Some("10"));
    backend.set("n", "41  ".into(), MINUTE).await.unwrap();
    assert_eq!(backend.incr("n", 1).await.unwrap(), Some(42), "as another store left it");
}

pub async fn what_is_no_number_is_not_counted_and_stays(backend: &dyn Backend) {
    for value in ["", "many", "1.5", "-1", "0x10", "18446744073709551616", "1".repeat(100).as_str()] {
        backend.set("n", value.to_owned().into(), MINUTE).await.unwrap();
        for counted in [backend.incr("n", 1).await, backend.decr("n", 1).await] {
            assert_eq!(counted.unwrap_err().kind, ErrorKind::NotANumber, "{value:?}");
        }
        assert_eq!(read(backend, "n").await.as_deref(), Some(value));
    }
}
