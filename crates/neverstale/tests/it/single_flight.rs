//! Single flight in thousands of orders in which callers can join, leave, fail, panic, write and end. The same check
//! must refuse single flights with mistakes that are easily missed.

mod codec;
#[path = "../../src/single_flight.rs"]
mod flights;

/// The types that single flight is synchronized with here: at each use another task may take its turn.
mod sync {
    pub(super) use shuttle::sync::atomic::{AtomicBool, Ordering};
    pub(super) use shuttle::sync::{Arc, Mutex, MutexGuard};
}

mod wrong;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Mutex as Uninterrupted, PoisonError};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::poll;
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::rand::Rng;
use shuttle::scheduler::PctScheduler;
use shuttle::{Config, Runner};

use self::codec::Envelope;
use self::flights::{Failure, Flight, Flights, Outcome};
use self::sync::Arc;

/// Orders that are tried in each test, of each kind.
const ORDERS: usize = 2_000;

/// The seed of these orders. It is fixed, since of two faults of a wrong single flight either could be found first.
const SEED: u64 = 1;

/// The one key.
const KEY: &str = "key";

/// The number of the build that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed(usize);

/// The number of a build, or its failure.
type Value = Result<usize, Failed>;

/// A single flight of any making.
trait SingleFlight: Send + Sync {
    /// Returns the value of another caller's build, or of the call's.
    fn get<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Value>;
    fn outdate(&self);
    fn outdate_all(&self);
    fn count(&self) -> usize;
}

impl SingleFlight for Flights {
    fn get<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Value> {
        Box::pin(async move {
            let member = self.join(KEY.to_owned());
            call.note_joined();
            let builder = member.wait().await;
            match builder.outcome() {
                Some(Outcome::Built(built)) => {
                    assert_eq!(built.name, KEY);
                    return Ok(std::str::from_utf8(&built.bytes).unwrap().parse().unwrap());
                }
                Some(Outcome::Failed(failure)) => return Err(failure.error().unwrap()),
                None => {}
            }
            let value = call.build().await;
            builder.end(match value {
                Ok(number) => {
                    call.world.keep(number, member.flight()).await;
                    Outcome::Built(Envelope { name: KEY.into(), bytes: number.to_string().into() })
                }
                Err(failed) => Outcome::Failed(Failure::new(failed)),
            });
            value
        })
    }

    fn outdate(&self) {
        Flights::outdate(self, KEY);
    }

    fn outdate_all(&self) {
        Flights::outdate_all(self);
    }

    fn count(&self) -> usize {
        Flights::count(self)
    }
}

/// What a build panics with.
struct AsItShould;

/// How a build ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Badly,
    InPanic,
}

/// What happens in one order.
struct World {
    flights: Arc<dyn SingleFlight>,
    /// How the build of this number, from 0, ends.
    end: fn(usize) -> End,
    /// Whether callers write, which lets several builds run at once.
    has_writes: bool,
    /// Without turns for others, so that each note is made together with the step that it notes.
    notes: Uninterrupted<Notes>,
}

#[derive(Default)]
struct Notes {
    time: usize,
    begun: usize,
    running: usize,
    /// Builds whose caller has returned.
    ended: Vec<usize>,
    /// When builds failed.
    failures: Vec<usize>,
    /// The build whose value is in the cache.
    stored: Option<usize>,
    /// Builds that had begun before the last write.
    outdated: usize,
}

/// One call in a world.
struct Call<'a> {
    world: &'a World,
    /// When it joined a flight.
    joined: Uninterrupted<usize>,
}

impl Notes {
    fn now(&mut self) -> usize {
        self.time += 1;
        self.time
    }
}

/// Counts a build as running until it is dropped.
struct Running<'a>(&'a World);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.note(|notes| notes.running -= 1);
    }
}

impl World {
    fn note<T>(&self, note: impl FnOnce(&mut Notes) -> T) -> T {
        note(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stores a value as the cache does: not if its flight is closed by then, and not for long if it is closed
    /// meanwhile.
    async fn keep(&self, number: usize, flight: &Flight) {
        if flight.is_closed() {
            return;
        }
        yield_now().await;
        self.note(|notes| notes.stored = Some(number));
        if flight.is_closed() {
            self.note(|notes| notes.stored = None);
        }
    }

    /// Makes what is cached or under way old, and removes it.
    async fn write(&self, outdate: fn(&dyn SingleFlight)) {
        let begun = self.note(|notes| notes.begun);
        outdate(&*self.flights);
        yield_now().await;
        self.note(|notes| {
            notes.stored = None;
            notes.outdated = notes.outdated.max(begun);
        });
        self.call_after(begun).await;
    }

    async fn call(&self) {
        self.call_after(0).await;
    }

    /// Calls once and checks the value, which must not be of a build before this one.
    async fn call_after(&self, begun: usize) {
        let ended = self.note(|notes| notes.ended.clone());
        let call = Call { world: self, joined: Uninterrupted::new(usize::MAX) };
        let value = match AssertUnwindSafe(self.flights.get(&call)).catch_unwind().await {
            Ok(value) => value,
            Err(panic) if panic.is::<AsItShould>() => return,
            Err(panic) => resume_unwind(panic),
        };
        let number = value.unwrap_or_else(|Failed(number)| number);
        self.note(|notes| notes.ended.push(number));
        assert!(!ended.contains(&number), "build {number} had ended before the call began");
        assert!(number >= begun, "build {number} had begun before the write");
    }
}

impl Call<'_> {
    fn note_joined(&self) {
        *self.joined.lock().unwrap() = self.world.note(Notes::now);
    }

    async fn build(&self) -> Value {
        let (world, joined) = (self.world, *self.joined.lock().unwrap());
        let (number, running, has_failed) = world.note(|notes| {
            notes.begun += 1;
            notes.running += 1;
            (notes.begun - 1, notes.running, notes.failures.iter().any(|failed| *failed > joined))
        });
        let _running = Running(world);
        assert!(running == 1 || world.has_writes, "{running} builds at once");
        assert!(!has_failed || world.has_writes, "it builds after the build failed that it waited for");
        yield_now().await;
        match (world.end)(number) {
            End::Well => Ok(number),
            End::Badly => {
                world.note(|notes| {
                    let now = notes.now();
                    notes.failures.push(now);
                });
                Err(Failed(number))
            }
            // Without a message in the output, which would have thousands of them.
            End::InPanic => resume_unwind(Box::new(AsItShould)),
        }
    }
}

/// The steps of one caller.
type Visit = fn(Arc<World>) -> BoxFuture<'static, ()>;

fn calls_twice(world: Arc<World>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        world.call().await;
        world.call().await;
    })
}

/// Writes before each call.
fn writes_and_calls(world: Arc<World>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        world.write(|flights| flights.outdate()).await;
        world.write(|flights| flights.outdate_all()).await;
    })
}

/// Leaves at some point of the first call.
fn leaves_and_calls(world: Arc<World>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        {
            let mut left = pin!(world.call());
            for _ in 0..shuttle::rand::thread_rng().gen_range(0..4) {
                if poll!(&mut left).is_ready() {
                    break;
                }
                yield_now().await;
            }
        }
        world.call().await;
    })
}

/// Leaves as soon as it waits.
fn leaves(world: Arc<World>) -> BoxFuture<'static, ()> {
    Box::pin(async move { _ = poll!(pin!(world.call())) })
}

/// Lets callers take their steps in some order, and looks for flights that are left behind.
fn run(flights: Arc<dyn SingleFlight>, visits: &[Visit], end: fn(usize) -> End) {
    let has_writes = visits.contains(&(writes_and_calls as Visit));
    let world = Arc::new(World { flights, end, has_writes, notes: Uninterrupted::default() });
    let callers: Vec<_> = visits.iter().map(|visit| spawn(visit(Arc::clone(&world)))).collect();
    for caller in callers {
        block_on(caller).unwrap();
    }
    assert_eq!(world.flights.count(), 0, "a flight is left behind");
    world.note(|notes| {
        assert!(
            notes.stored.is_none_or(|number| number >= notes.outdated),
            "what is stored is older than a write"
        );
    });
}

fn check(make: fn() -> Arc<dyn SingleFlight>, visits: &'static [Visit], end: fn(usize) -> End) {
    shuttle::check_random_with_seed(move || run(make(), visits, end), SEED, ORDERS);
    let by_priority = PctScheduler::new_from_seed(SEED, 3, ORDERS);
    Runner::new(by_priority, Config::default()).run(move || run(make(), visits, end));
}

fn real() -> Arc<dyn SingleFlight> {
    Arc::new(Flights::default())
}

fn well(_: usize) -> End {
    End::Well
}

fn every_other_badly(number: usize) -> End {
    if number.is_multiple_of(2) { End::Badly } else { End::Well }
}

fn first_in_panic(number: usize) -> End {
    if number == 0 { End::InPanic } else { End::Well }
}

const CALLERS: &[Visit] = &[calls_twice, calls_twice, calls_twice];
const LEAVERS: &[Visit] = &[leaves_and_calls, leaves_and_calls, calls_twice];
const WRITERS: &[Visit] = &[writes_and_calls, writes_and_calls, leaves_and_calls];

#[test]
fn one_caller_builds_for_all_that_call_meanwhile() {
    check(real, CALLERS, well);
}

#[test]
fn a_failed_build_is_the_failure_of_all_that_waited_for_it_and_of_no_later_caller() {
    check(real, CALLERS, every_other_badly);
    check(real, LEAVERS, every_other_badly);
}

#[test]
fn a_build_that_panics_lets_the_next_caller_build() {
    check(real, CALLERS, first_in_panic);
    check(real, LEAVERS, first_in_panic);
}

#[test]
fn a_caller_may_leave_at_any_point() {
    check(real, LEAVERS, well);
}

#[test]
fn a_caller_after_a_write_is_not_given_a_build_that_began_before_it() {
    check(real, WRITERS, well);
    check(real, WRITERS, every_other_badly);
    check(real, WRITERS, first_in_panic);
}

#[test]
fn no_order_of_two_callers_leaves_a_flight_behind() {
    // All orders there are: 1,574 and 52,513.
    shuttle::check_dfs(|| run(real(), &[leaves, leaves], well), None);
    shuttle::check_dfs(|| run(real(), &[leaves, calls_once], well), None);
}

fn calls_once(world: Arc<World>) -> BoxFuture<'static, ()> {
    Box::pin(async move { world.call().await })
}

/// Checks that the check finds the mistake of a single flight.
#[track_caller]
fn refuse(
    wrong: fn() -> Arc<dyn SingleFlight>,
    visits: &'static [Visit],
    end: fn(usize) -> End,
    because: &str,
) {
    let refused = catch_unwind(|| check(wrong, visits, end)).expect_err("the check finds it");
    let reason = refused.downcast_ref::<String>().cloned();
    let reason = reason.or_else(|| refused.downcast_ref().map(|text: &&str| (*text).to_owned())).unwrap();
    assert!(reason.contains(because), "{reason}");
}

#[test]
fn counting_members_by_their_references_is_refused() {
    refuse(wrong::counts_references, &[leaves, calls_once], well, "a flight is left behind");
    refuse(wrong::counts_references, LEAVERS, well, "had ended before the call began");
}

#[test]
fn joining_a_flight_that_has_ended_is_refused() {
    refuse(wrong::stays_open_when_it_ends, CALLERS, well, "had ended before the call began");
}

#[test]
fn joining_a_flight_that_was_outdated_is_refused() {
    refuse(wrong::stays_open_when_it_is_outdated, WRITERS, well, "had begun before the write");
}

#[test]
fn building_one_after_the_other_when_builds_fail_is_refused() {
    refuse(wrong::keeps_failures_to_itself, CALLERS, every_other_badly, "after the build failed");
}

#[test]
fn leaving_without_a_look_at_the_map_is_refused() {
    refuse(wrong::closes_a_flight_of_others, LEAVERS, well, "builds at once");
}
