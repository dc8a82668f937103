//! A version source in thousands of orders in which its callers, its queries and writers can take turns. The same check
//! must refuse sources that are wrong in ways that are easily missed.

#[path = "../../../src/version/change_token.rs"]
mod change_token;
#[path = "../../../src/version/source.rs"]
mod source;

/// What the version source is synchronized with here: each use is a place where another may take its turn.
mod sync {
    pub(super) use shuttle::future::yield_now;
    pub(super) use shuttle::sync::{Arc, Mutex, MutexGuard};

    pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(future));
    }
}

mod wrong;

use std::panic::{catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;

use futures_util::future::BoxFuture;
use futures_util::poll;
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::scheduler::PctScheduler;
use shuttle::{Config, Runner};

use self::source::{Lost, VersionSource, VersionStats};
use self::sync::{Arc, Mutex};
use super::{Answer, Failed};

/// Orders that are tried in each test, of each kind.
const ORDERS: usize = 2_000;

/// The seed of these orders.
const SEED: u64 = 1;

impl From<Lost> for Failed {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

/// What is asked, and what changes meanwhile.
#[derive(Clone)]
struct Origin {
    version: Arc<Mutex<u32>>,
    /// How the query of this number, from 0, ends.
    end: fn(u32) -> End,
    queries: Arc<Mutex<u32>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Badly,
    InPanic,
}

impl Origin {
    fn new(end: fn(u32) -> End) -> Self {
        Self { version: Arc::new(Mutex::new(0)), end, queries: Arc::new(Mutex::new(0)) }
    }

    /// On its way, at the origin, and on its way back.
    async fn query(self) -> Answer {
        let number = {
            let mut queries = self.queries.lock().unwrap();
            *queries += 1;
            *queries - 1
        };
        yield_now().await;
        let version = *self.version.lock().unwrap();
        yield_now().await;
        match (self.end)(number) {
            End::Well => Ok(version),
            End::Badly => Err(Failed::Told),
            // Without a word in the output, which has thousands of them.
            End::InPanic => resume_unwind(Box::new("as it should")),
        }
    }

    /// Changes the data and returns the version that the writer knows of then.
    fn change(&self) -> u32 {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        *version
    }
}

/// A source of whatever making.
type Call = Arc<dyn Fn() -> BoxFuture<'static, Answer> + Send + Sync>;

fn real(origin: Origin) -> Call {
    call(VersionSource::new(move || origin.clone().query()))
}

/// With change tokens that are what they should be.
fn with_tokens(origin: Origin) -> Call {
    let version = Arc::clone(&origin.version);
    call(VersionSource::with_change_tokens(
        move || origin.clone().query(),
        move || Some(*version.lock().unwrap()),
    ))
}

/// With change tokens that say nothing every other time.
fn with_a_token_now_and_then(origin: Origin) -> Call {
    let (version, looks) = (Arc::clone(&origin.version), Mutex::new(0));
    let look = move || {
        let mut looks = looks.lock().unwrap();
        *looks += 1;
        (*looks % 2 == 0).then(|| *version.lock().unwrap())
    };
    call(VersionSource::with_change_tokens(move || origin.clone().query(), look))
}

/// With a token that never changes.
fn with_one_token(origin: Origin) -> Call {
    call(VersionSource::with_change_tokens(move || origin.clone().query(), || Some(())))
}

fn call(source: VersionSource<u32, Failed>) -> Call {
    Arc::new(move || {
        let source = source.clone();
        Box::pin(async move { current(&source).await })
    })
}

async fn current(source: &VersionSource<u32, Failed>) -> Answer {
    source.current().await.map_err(|failed| *failed)
}

/// Tries orders in which callers, each after a change that was acknowledged, are told something.
fn check(make: fn(Origin) -> Call, visit: fn(Origin, Call) -> BoxFuture<'static, ()>, end: fn(u32) -> End) {
    check_orders(SEED, make, visit, end);
}

fn check_orders(
    seed: u64,
    make: fn(Origin) -> Call,
    visit: fn(Origin, Call) -> BoxFuture<'static, ()>,
    end: fn(u32) -> End,
) {
    let visits = move || {
        let origin = Origin::new(end);
        let call = make(origin.clone());
        let visitors: Vec<_> = (0..3).map(|_| spawn(visit(origin.clone(), call.clone()))).collect();
        for visitor in visitors {
            block_on(visitor).unwrap();
        }
    };
    shuttle::check_random_with_seed(visits, seed, ORDERS);
    let by_priority = PctScheduler::new_from_seed(seed, 3, ORDERS);
    Runner::new(by_priority, Config::default()).run(visits);
}

/// Two visits of one person: nothing older than what was acknowledged, and not older the second time.
fn changes_and_looks(origin: Origin, call: Call) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut last = 0;
        for _ in 0..2 {
            let acknowledged = origin.change();
            match call().await {
                Ok(told) => {
                    assert!(told >= acknowledged, "{told} is older than {acknowledged}");
                    assert!(told >= last, "{told} after {last}");
                    last = told;
                }
                Err(failed) => assert!((0..9).any(|number| failure((origin.end)(number)) == Some(failed))),
            }
        }
    })
}

fn failure(end: End) -> Option<Failed> {
    match end {
        End::Well => None,
        End::Badly => Some(Failed::Told),
        End::InPanic => Some(Failed::Lost),
    }
}

/// Leaves at some point of the first call, and is told the truth in the second.
fn leaves_and_looks(origin: Origin, call: Call) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        {
            let mut left = pin!(call());
            for _ in 0..shuttle::rand::Rng::gen_range(&mut shuttle::rand::thread_rng(), 0..3) {
                if poll!(&mut left).is_ready() {
                    break;
                }
                yield_now().await;
            }
        }
        changes_and_looks(origin, call).await;
    })
}

/// Begins the call in one task and waits for its answer in another, as a future may that is moved.
fn moves_and_looks(origin: Origin, call: Call) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let acknowledged = origin.change();
        let mut moved = call();
        let answer = match poll!(&mut moved) {
            Poll::Ready(answer) => answer,
            Poll::Pending => spawn(moved).await.unwrap(),
        };
        assert!(answer.unwrap() >= acknowledged);
        changes_and_looks(origin, call).await;
    })
}

fn well(_: u32) -> End {
    End::Well
}

fn second_badly(number: u32) -> End {
    if number == 1 { End::Badly } else { End::Well }
}

fn first_in_panic(number: u32) -> End {
    if number == 0 { End::InPanic } else { End::Well }
}

#[test]
fn nobody_is_told_what_is_older_than_their_call() {
    check(real, changes_and_looks, well);
}

#[test]
fn nobody_waits_for_ever_nor_is_told_old_news_when_queries_fail() {
    check(real, changes_and_looks, second_badly);
}

#[test]
fn nobody_waits_for_ever_when_a_query_panics() {
    check(real, changes_and_looks, first_in_panic);
}

#[test]
fn nobody_is_told_what_is_older_than_their_call_with_change_tokens() {
    check(with_tokens, changes_and_looks, well);
}

#[test]
fn nor_with_a_change_token_now_and_then() {
    check(with_a_token_now_and_then, changes_and_looks, second_badly);
}

#[test]
fn nor_with_a_change_token_that_never_changes() {
    check(with_one_token, changes_and_looks, well);
}

#[test]
fn change_tokens_spare_queries() {
    let calls = || {
        let origin = Origin::new(well);
        let (asked, seen) = (origin.clone(), origin.clone());
        let source = VersionSource::with_change_tokens(
            move || asked.clone().query(),
            move || Some(*seen.version.lock().unwrap()),
        );
        for _ in 0..2 {
            origin.change();
            for _ in 0..3 {
                assert_eq!(block_on(current(&source)), Ok(*origin.version.lock().unwrap()));
            }
        }
        // The first is believed once there was another: three queries, one, and none.
        assert_eq!(source.stats(), VersionStats { calls: 6, queries: 4, failures: 0, versions: 2 });
    };
    shuttle::check_random_with_seed(calls, SEED, 1);
}

#[test]
fn who_leaves_takes_nobody_along() {
    check(real, leaves_and_looks, well);
}

#[test]
fn who_goes_on_waiting_in_another_task_is_told_there() {
    check(real, moves_and_looks, well);
}

#[test]
fn no_more_queries_are_sent_than_there_are_calls() {
    let calls = || {
        let origin = Origin::new(well);
        let asked = origin.clone();
        let source = VersionSource::new(move || asked.clone().query());
        let calls = (0..4).map(|_| source.clone()).map(|source| spawn(async move { current(&source).await }));
        for call in calls.collect::<Vec<_>>() {
            block_on(call).unwrap().unwrap();
        }
        let (stats, queries) = (source.stats(), *origin.queries.lock().unwrap());
        assert_eq!(stats, VersionStats { calls: 4, queries: queries.into(), failures: 0, versions: 1 });
        assert!((1..=4).contains(&queries), "{queries}");
    };
    shuttle::check_random_with_seed(calls, SEED, ORDERS);
}

/// Whether the check finds what is wrong with a source.
#[track_caller]
fn refuse(wrong: fn(Origin) -> Call, end: fn(u32) -> End, because: &str) {
    // A small mistake is not found in every set of orders.
    let set = |seed| catch_unwind(|| check_orders(seed, wrong, changes_and_looks, end)).err();
    let refused = (SEED..SEED + 10).find_map(set).expect("the check finds it");
    let reason = refused.downcast_ref::<String>().cloned();
    let reason = reason.or_else(|| refused.downcast_ref().map(|text: &&str| (*text).to_owned())).unwrap();
    assert!(reason.contains(because), "{reason}");
}

#[test]
fn a_source_that_lets_callers_join_the_query_under_way_is_refused() {
    refuse(wrong::joins_the_query_under_way, well, "is older than");
}

#[test]
fn a_source_that_sends_before_it_closes_the_round_is_refused() {
    refuse(wrong::sends_before_it_closes_the_round, well, "is older than");
}

#[test]
fn a_source_that_falls_back_to_what_it_knew_is_refused() {
    refuse(wrong::falls_back_to_what_it_knew, second_badly, "is older than");
}

#[test]
fn a_source_that_reads_the_token_only_after_the_query_is_refused() {
    refuse(wrong::looks_only_after_the_query, well, "is older than");
}

#[test]
fn a_source_whose_runner_leaves_without_looking_back_is_refused() {
    refuse(wrong::leaves_without_looking_back, well, "deadlock");
}
