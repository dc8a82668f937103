//! Several who share a store, and who leave it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use neverstale::backend::Backend;

use super::{MINUTE, SOON, read, until_gone};
use crate::stores::Store;
use crate::{abandon, eventually};

const CALLERS: usize = 50;

pub async fn what_one_handle_does_the_other_sees(Store { backend, other, .. }: &Store) {
    let (one, other) = (&**backend, &**other);
    for (here, there) in [(one, other), (other, one)] {
        here.set("k", "1".into(), MINUTE).await.unwrap();
        assert_eq!(read(there, "k").await.as_deref(), Some("1"));
        assert!(!there.add("k", "v".into(), MINUTE).await.unwrap());
        assert_eq!(here.incr("k", 1).await.unwrap(), Some(2));
        assert_eq!(there.incr("k", 1).await.unwrap(), Some(3));
        assert!(here.replace("k", "v".into(), MINUTE).await.unwrap());
        assert_eq!(read(there, "k").await.as_deref(), Some("v"));
        assert!(here.touch("k", SOON).await.unwrap());
        until_gone(there, "k").await;
        here.set("k", "v".into(), MINUTE).await.unwrap();
        assert!(there.delete("k").await.unwrap());
        assert_eq!(read(here, "k").await, None);
        here.set("k", "v".into(), MINUTE).await.unwrap();
        there.clear().await.unwrap();
        assert_eq!(read(here, "k").await, None);
        assert_eq!(here.server_of("k"), there.server_of("k"));
    }
}

pub async fn of_those_who_add_at_once_one_succeeds(store: &Store) {
    for round in 0..3 {
        let added = at_once(store, move |backend, caller| async move {
            let key = format!("k{round}");
            backend.add(&key, caller.to_string().into(), MINUTE).await.unwrap().then_some(caller)
        });
        let winners: Vec<_> = added.await.into_iter().flatten().collect();
        let stored = read(&*store.backend, &format!("k{round}")).await.unwrap();
        assert_eq!(winners.iter().map(usize::to_string).collect::<Vec<_>>(), [stored]);
    }
}

pub async fn of_those_who_count_at_once_nobody_is_lost(store: &Store) {
    store.backend.set("n", "100".into(), MINUTE).await.unwrap();
    let counted = at_once(store, |backend, _| async move { backend.incr("n", 1).await.unwrap().unwrap() });
    let mut sums = counted.await;
    sums.sort_unstable();
    assert_eq!(sums, (101..=150).collect::<Vec<_>>());
    at_once(store, |backend, _| async move { backend.decr("n", 2).await.unwrap().unwrap() }).await;
    assert_eq!(store.other.incr("n", 0).await.unwrap(), Some(50));
}

pub async fn what_is_set_while_it_is_counted_is_not_lost(Store { backend, other, .. }: &Store) {
    backend.set("n", "0".into(), MINUTE).await.unwrap();
    let (counting, is_over) = (other.clone(), Arc::new(AtomicBool::new(false)));
    let counter = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            while !is_over.load(Ordering::SeqCst) {
                counting.incr("n", 1).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for number in (1..=200).map(|number| number * 1_000_000) {
        backend.set("n", number.to_string().into(), MINUTE).await.unwrap();
        let counted = backend.incr("n", 0).await.unwrap().unwrap();
        assert!(counted >= number, "{counted} instead of {number}");
    }
    is_over.store(true, Ordering::SeqCst);
    counter.await.unwrap();
}

/// Runs a task for each caller, half of them on either handle.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    store: &Store,
    call: impl Fn(Arc<dyn Backend>, usize) -> F,
) -> Vec<T> {
    let handles = [&store.backend, &store.other];
    let tasks = (0..CALLERS).map(|caller| tokio::spawn(call(handles[caller % 2].clone(), caller)));
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

pub async fn a_future_that_is_dropped_leaves_the_store_usable(backend: &dyn Backend) {
    let keys = ["abandoned", "abandoned too"].map(|key| key.replace(' ', "-"));
    let pairs = keys.clone().map(|key| (key, "1".into()));
    for polls in 1..4 {
        abandon(backend.get("abandoned"), polls).await;
        abandon(backend.set("abandoned", "1".into(), MINUTE), polls).await;
        abandon(backend.add("abandoned", "1".into(), MINUTE), polls).await;
        abandon(backend.replace("abandoned", "1".into(), MINUTE), polls).await;
        abandon(backend.touch("abandoned", MINUTE), polls).await;
        abandon(backend.incr("abandoned", 1), polls).await;
        abandon(backend.decr("abandoned", 1), polls).await;
        abandon(backend.delete("abandoned"), polls).await;
        abandon(backend.get_many(&keys), polls).await;
        abandon(backend.set_many(&pairs, MINUTE), polls).await;
        abandon(backend.delete_many(&keys), polls).await;
        abandon(backend.stats(), polls).await;
        abandon(backend.check(), polls).await;
        for number in 0..10 {
            let key = format!("{polls}.{number}");
            assert!(backend.add(&key, "1".into(), MINUTE).await.unwrap());
            assert_eq!(backend.incr(&key, number).await.unwrap(), Some(number + 1));
            assert_eq!(read(backend, &key).await, Some((number + 1).to_string()));
        }
        // Whether and when it is cleared is open, but it comes to an end.
        abandon(backend.clear(), polls).await;
        eventually("what is stored stays", async || {
            backend.set("k", "v".into(), MINUTE).await.unwrap();
            read(backend, "k").await.is_some()
        })
        .await;
    }
}
