//! A call returns the result of a query that was sent after it began: with queries that the test ends, one by one.

mod interleavings;

use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};

use futures_util::future::{BoxFuture, join_all};
use futures_util::poll;
use neverstale::version::{Lost, VersionSource, VersionStats};
use testkit::within_reason;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{JoinHandle, yield_now};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    Told,
    Lost,
}

impl From<Lost> for Failed {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

type Answer = Result<u32, Failed>;

/// A version source whose queries wait for the test.
struct Origin {
    source: VersionSource<u32, Failed>,
    sent: Mutex<mpsc::UnboundedReceiver<oneshot::Sender<Answer>>>,
}

impl Origin {
    fn new() -> Self {
        Self::with_change_tokens(|| None)
    }

    fn with_change_tokens(read: impl Fn() -> Option<u32> + Send + Sync + 'static) -> Self {
        let (sender, sent) = mpsc::unbounded_channel();
        let query = move || -> BoxFuture<'static, Answer> {
            let (end, told) = oneshot::channel();
            sender.send(end).unwrap();
            Box::pin(async move {
                told.await.unwrap_or_else(|_| resume_unwind(Box::new("the test lets it panic")))
            })
        };
        Self { source: VersionSource::with_change_tokens(query, read), sent: Mutex::new(sent) }
    }

    /// Calls once, and lets the query for that tell the version, after something else was done.
    async fn told(&self, version: u32, meanwhile: impl FnOnce()) {
        let call = self.calls(1).await;
        let query = self.query().await;
        meanwhile();
        query.send(Ok(version)).unwrap();
        assert_eq!(answers(call).await, [Ok(version)]);
    }

    /// Waits until a query is sent.
    async fn query(&self) -> oneshot::Sender<Answer> {
        within_reason("a query is sent", self.sent.lock().await.recv()).await.unwrap()
    }

    /// Calls so many times, each in a task of its own, and waits until all have begun.
    async fn calls(&self, count: usize) -> Vec<JoinHandle<Answer>> {
        let before = self.source.stats().calls;
        let calls = (0..count).map(|_| {
            let source = self.source.clone();
            tokio::spawn(async move { current(&source).await })
        });
        let calls = calls.collect();
        while self.source.stats().calls < before + count as u64 {
            yield_now().await;
        }
        calls
    }
}

async fn current(source: &VersionSource<u32, Failed>) -> Answer {
    source.current().await.map_err(|failed| *failed)
}

async fn answers(calls: Vec<JoinHandle<Answer>>) -> Vec<Answer> {
    let answers = within_reason("all have an answer", join_all(calls)).await;
    answers.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn who_calls_while_a_query_is_under_way_waits_for_the_next() {
    let origin = Origin::new();
    let first = origin.calls(1).await;
    let query = origin.query().await;
    let late = origin.calls(1000).await;
    query.send(Ok(1)).unwrap();
    assert_eq!(answers(first).await, [Ok(1)]);
    let query = origin.query().await;
    assert!(late.iter().all(|call| !call.is_finished()), "the next query has no answer yet");
    let later = origin.calls(3).await;
    query.send(Ok(2)).unwrap();
    assert_eq!(answers(late).await, [Ok(2); 1000]);
    origin.query().await.send(Ok(3)).unwrap();
    assert_eq!(answers(later).await, [Ok(3); 3]);
    assert_eq!(origin.source.stats(), VersionStats { calls: 1004, queries: 3, failures: 0, versions: 3 });
}

/// A waker that does nothing.
struct Silent;

impl Wake for Silent {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test]
async fn callers_that_leave_while_a_query_hangs_leave_nothing_behind() {
    let origin = Origin::new();
    let first = origin.calls(1).await;
    let hanging = origin.query().await;
    let waker = Arc::new(Silent);
    let poll = |call: Pin<&mut dyn Future<Output = Answer>>| {
        assert!(call.poll(&mut Context::from_waker(&Arc::clone(&waker).into())).is_pending());
    };
    {
        let mut stays = pin!(current(&origin.source));
        poll(stays.as_mut());
        for _ in 0..1000 {
            poll(pin!(current(&origin.source)));
        }
        assert_eq!(Arc::strong_count(&waker), 2, "of the one who stays");
        poll(stays.as_mut());
    }
    assert_eq!(Arc::strong_count(&waker), 1);
    hanging.send(Ok(1)).unwrap();
    assert_eq!(answers(first).await, [Ok(1)]);
}

/// A change token for the test to set.
fn token() -> (Arc<AtomicU32>, impl Fn() -> Option<u32> + Send + Sync + 'static) {
    let token = Arc::new(AtomicU32::new(1));
    let seen = Arc::clone(&token);
    (token, move || Some(seen.load(Ordering::SeqCst)))
}

#[tokio::test]
async fn a_token_that_changed_while_a_query_was_under_way_says_nothing_of_its_result() {
    let (token, read) = token();
    let origin = Origin::with_change_tokens(read);
    origin.told(1, || ()).await;
    origin.told(2, || token.store(2, Ordering::SeqCst)).await;
    origin.told(2, || ()).await;
    for _ in 0..9 {
        assert_eq!(within_reason("there is an answer", current(&origin.source)).await, Ok(2));
    }
    token.store(3, Ordering::SeqCst);
    origin.told(3, || token.store(4, Ordering::SeqCst)).await;
    origin.told(4, || ()).await;
    assert_eq!(origin.source.stats(), VersionStats { calls: 14, queries: 5, failures: 0, versions: 4 });
}

#[tokio::test]
async fn a_token_that_did_not_change_with_the_version_is_never_trusted_again() {
    let (token, read) = token();
    let origin = Origin::with_change_tokens(read);
    origin.told(1, || ()).await;
    origin.told(2, || ()).await;
    for version in 3..9 {
        token.store(version, Ordering::SeqCst);
        origin.told(version, || ()).await;
        origin.told(version, || ()).await;
    }
}

#[tokio::test]
async fn an_error_goes_to_those_who_waited_for_that_query() {
    let origin = Origin::new();
    let before = origin.calls(2).await;
    origin.query().await.send(Ok(1)).unwrap();
    assert_eq!(answers(before).await, [Ok(1); 2]);
    let unlucky = origin.calls(5).await;
    let query = origin.query().await;
    let late = origin.calls(5).await;
    query.send(Err(Failed::Told)).unwrap();
    assert_eq!(answers(unlucky).await, [Err(Failed::Told); 5]);
    origin.query().await.send(Ok(2)).unwrap();
    assert_eq!(answers(late).await, [Ok(2); 5]);
    assert_eq!(origin.source.stats(), VersionStats { calls: 12, queries: 3, failures: 1, versions: 2 });
}

#[tokio::test]
async fn a_query_that_panics_is_an_error_and_the_next_is_sent() {
    let origin = Origin::new();
    let unlucky = origin.calls(3).await;
    let query = origin.query().await;
    let late = origin.calls(3).await;
    drop(query);
    assert_eq!(answers(unlucky).await, [Err(Failed::Lost); 3]);
    origin.query().await.send(Ok(2)).unwrap();
    assert_eq!(answers(late).await, [Ok(2); 3]);
}

#[tokio::test]
async fn a_query_that_panics_before_it_is_a_future_is_an_error_too() {
    let count = AtomicUsize::new(0);
    let source = VersionSource::new(move || {
        assert!(count.fetch_add(1, Ordering::SeqCst) > 0, "the first one panics");
        async { Ok::<_, Failed>(1) }
    });
    assert_eq!(within_reason("there is an answer", current(&source)).await, Err(Failed::Lost));
    assert_eq!(within_reason("there is an answer", current(&source)).await, Ok(1));
}

#[tokio::test]
async fn a_caller_who_leaves_takes_no_answer_from_the_others() {
    let origin = Origin::new();
    let [leaves, stays] = <[_; 2]>::try_from(origin.calls(2).await).unwrap();
    let query = origin.query().await;
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    query.send(Ok(1)).unwrap();
    assert_eq!(answers(vec![stays]).await, [Ok(1)]);
}

#[tokio::test]
async fn no_query_is_sent_for_nobody() {
    let origin = Origin::new();
    let first = origin.calls(1).await;
    let query = origin.query().await;
    for call in origin.calls(10).await {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    query.send(Ok(1)).unwrap();
    assert_eq!(answers(first).await, [Ok(1)]);
    let last = origin.calls(1).await;
    origin.query().await.send(Ok(2)).unwrap();
    assert_eq!(answers(last).await, [Ok(2)]);
    assert_eq!(origin.source.stats().queries, 2);
}

#[test]
fn a_runtime_that_ends_takes_the_query_with_it_and_another_one_asks() {
    let (origin, runtime) = (Arc::new(Origin::new()), || tokio::runtime::Runtime::new().unwrap());
    let (ends, goes_on) = (runtime(), runtime());
    let (first, query) = ends.block_on(async { (origin.calls(1).await, origin.query().await) });
    let late = goes_on.block_on(origin.calls(3));
    drop(ends);
    assert!(query.is_closed());
    goes_on.block_on(async {
        // Who is the first to notice may be in a round before the others.
        let ask = async {
            loop {
                origin.query().await.send(Ok(2)).unwrap();
            }
        };
        tokio::select! {
            answers = answers(late) => assert_eq!(answers, [Ok(2); 3]),
            () = ask => unreachable!("it has no end"),
        }
        assert!(join_all(first).await[0].as_ref().unwrap_err().is_cancelled());
    });
}

#[tokio::test]
async fn a_call_begins_when_it_is_first_polled() {
    let origin = Origin::new();
    let mut call = pin!(current(&origin.source));
    assert_eq!(origin.source.stats().calls, 0);
    assert!(poll!(&mut call).is_pending());
    origin.query().await.send(Ok(1)).unwrap();
    assert_eq!(within_reason("there is an answer", call).await, Ok(1));
}

#[test]
fn outside_a_runtime_there_is_no_version_and_no_panic() {
    let source = VersionSource::new(async || Ok(1));
    let mut call = pin!(current(&source));
    let answer = call.as_mut().poll(&mut Context::from_waker(&Arc::new(Silent).into()));
    assert_eq!(answer, Poll::Ready(Err(Failed::Lost)));
}
