//! The protocol `versioned`, with all that can happen to it within stated bounds.
//!
//! Tests of the program force the interleavings that somebody thought of. Here a model of it, small enough to be looked
//! at whole, is explored by `stateright`: from the first state every step that may come next is taken, until no state
//! is left that was not seen. It promises
//!
//! 1. that a read shows every write acknowledged before it began, on any instance;
//! 2. that it shows nothing older than what was shown before it began;
//! 3. that a list was committed under the label it is shown with.
//!
//! A model says nothing about code. It says that code which takes these steps and no others keeps the promises.
//!
//! # State
//!
//! ```text
//!   database    what was committed, in order: labels (v, tok) and lists      what of it was acknowledged
//!   memcached   page by stamp, locks                                         every command ever sent
//!   process     reads that wait ─► query ─► flights, one for each stamp ─►   local copy
//!   read        what it must not be older than, taken when it began
//! ```
//!
//! A read that has ended is not in the state any more; what it has broken is. Processes are interchangeable.
//!
//! # Steps
//!
//! A step is where one part meets another, and between any two anything else may happen, a crash included.
//! `protocol::Action` lists them. What is sent to memcached is never taken back: a command arrives late, in another
//! order, twice or never. Some things are thus not steps of their own:
//!
//! - A `get` that is lost is one of a key that was evicted, and whose `set` comes again. So is an item that comes back
//!   after it has expired.
//! - A query that is long under way to the database is one sent later. Its answer's way is a step: what it says may be
//!   old when it arrives.
//! - A lock that is given back, expires or is evicted is gone. A lock whose holder is done, or dead, may stay.
//! - A `get` and the `add` after it are one step, since what comes between is a key evicted before both.
//! - A write that is never acknowledged is that of a writer who died.
//!
//! # Bounds
//!
//! Two processes. Where keys vanish or queries fail they do so any number of times; crashes of processes, restarts of
//! memcached and restored dumps are counted, and are one each where they occur.
//!
//! | reads | writes | what happens | build lock | states |
//! |---|---|---|---|---|
//! | 2 | 2 | evictions, failures, crash, restart | yes | 40,656 |
//! | 2 | 2 | the same, and a restored dump | no | 100,638 |
//! | 2 | 2 | evictions, a restored dump | yes | 173,611 |
//! | 3 | 1 | evictions, failures, crash, restart | yes | 94,364 |
//! | 3 | 1 | evictions, a restored dump | no | 78,021 |
//! | 3 | 2 | evictions | no | 71,235 |
//!
//! Three reads, for a read that joins what it should not takes two before it: one leaves an old page behind, and one
//! has asked for the version before the write.
//!
//! # What the mistakes teach
//!
//! `mistakes::Mistake` names them. For each the checker finds a broken promise, and that the way there which is written
//! beside it is one. A label read before its list, or a list kept under the gate's stamp, leaves promises 1 and 2
//! whole: the list is too new and never too old. It breaks the third, on which everything rests that takes equal labels
//! for equal bytes: an ETag, a page put together from two reads. A label read *after* its list breaks all three.
//!
//! A token must be new after a dump was restored, not only after the next write. Else a read may join a build that
//! began before, was asked for under the same stamp, and has read a list which is no more. Without single flight, that
//! mistake does no harm.
//!
//! # What is not modelled
//!
//! Time; that somebody gets an answer at all; failing builds; bytes, so neither codec nor digests of templates; a
//! database that shows a statement two states, or has replicas. States are told apart by 64 bits of hash.

mod events;
mod mistakes;
mod protocol;
mod state;
mod steps;

use std::collections::BTreeSet;

use stateright::{Checker, Model};

use self::events::{EVENTS, Seen};
use self::mistakes::{Case, Mistake, QUIET, RESTORED, lucky, other_protocols, wrong_turns};
use self::protocol::{Courtesies, Versioned};
use self::state::Bounds;

/// Two reads and two writes, while everything fails that can.
const FAULTS: Bounds =
    Bounds { reads: 2, writes: 2, crashes: 1, restarts: 1, evictions: true, failures: true, ..QUIET };

const ALL: Courtesies = Courtesies { lock: true, single_flight: true, local_copy: true };
const NO_LOCK: Courtesies = Courtesies { lock: false, ..ALL };

fn versioned(mistake: Option<Mistake>, courtesies: Courtesies, bounds: Bounds) -> Versioned {
    Versioned { mistake, courtesies, processes: 2, bounds, seen: Seen::default() }
}

/// Takes every step there is.
fn explore(model: Versioned) -> impl Checker<Versioned> {
    let checker = model.checker().threads(2).spawn_bfs().join();
    assert!(checker.is_done(), "every state is seen");
    checker
}

/// Finds the promises kept in every state, and as many states as the bounds make.
#[track_caller]
fn check_kept(courtesies: Courtesies, bounds: Bounds, states: usize) -> impl Checker<Versioned> {
    let checker = explore(versioned(None, courtesies, bounds));
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), states);
    checker
}

/// Finds these promises broken, and no others.
#[track_caller]
fn check_broken(model: Versioned, breaks: &[&str]) -> impl Checker<Versioned> {
    let checker = explore(model);
    let broken: BTreeSet<_> = checker.discoveries().into_keys().collect();
    assert_eq!(broken, breaks.iter().copied().collect(), "{:?}", checker.model());
    checker
}

#[track_caller]
fn check_found(Case { mistake, bounds, breaks, story }: Case) {
    let checker = check_broken(versioned(Some(mistake), ALL, bounds), breaks);
    checker.assert_discovery(breaks[0], story);
}

#[test]
fn promises_are_kept_whatever_memcached_processes_and_queries_do() {
    let checker = check_kept(ALL, FAULTS, 40_656);
    for event in EVENTS {
        assert!(checker.model().seen.has(event), "{event:?} never happens");
    }
}

#[test]
fn promises_are_kept_when_a_dump_is_restored() {
    check_kept(ALL, Bounds { evictions: true, ..RESTORED }, 173_611);
    check_kept(NO_LOCK, Bounds { restores: 1, ..FAULTS }, 100_638);
}

#[test]
fn promises_are_kept_to_three_reads_of_one_write() {
    check_kept(ALL, Bounds { reads: 3, writes: 1, ..FAULTS }, 94_364);
}

#[test]
fn promises_are_kept_to_three_reads_of_two_changes() {
    check_kept(NO_LOCK, Bounds { restores: 1, evictions: true, ..QUIET }, 78_021);
    check_kept(NO_LOCK, Bounds { reads: 3, writes: 2, evictions: true, ..QUIET }, 71_235);
}

#[test]
fn no_promise_rests_on_lock_single_flight_or_local_copy() {
    check_kept(NO_LOCK, FAULTS, 9_676);
    check_kept(Courtesies { single_flight: false, ..ALL }, FAULTS, 43_068);
    check_kept(Courtesies { local_copy: false, ..ALL }, FAULTS, 21_624);
    check_kept(Courtesies { lock: false, single_flight: false, local_copy: false }, FAULTS, 6_708);
}

#[test]
fn each_mistake_breaks_a_promise() {
    wrong_turns().into_iter().for_each(check_found);
}

#[test]
fn deletes_leases_and_lifetimes_break_promises_where_stamps_do_not() {
    other_protocols().into_iter().for_each(check_found);
}

#[test]
fn some_mistakes_wait_for_the_fault_they_take() {
    for (mistake, bounds, breaks) in lucky() {
        check_broken(versioned(Some(mistake), ALL, bounds), breaks);
    }
    let no_single_flight = Courtesies { single_flight: false, ..NO_LOCK };
    check_broken(versioned(Some(Mistake::TokFromDump), no_single_flight, RESTORED), &[]);
}
