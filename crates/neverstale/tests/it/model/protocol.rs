//! The protocol as a graph of states: what it promises, and what may happen next.

use stateright::{Model, Property};

use super::events::Seen;
use super::mistakes::Mistake;
use super::state::{Bounds, Command, Flight, PLAIN, Phase, Process, Stamp, State};

pub const ACKNOWLEDGED: &str = "a read shows every write acknowledged before it began";
pub const FORWARD: &str = "a read shows nothing older than what was shown before it began";
pub const LABELLED: &str = "a list was committed under the label it is shown with";

/// The protocol at stated bounds, right or with a mistake in it.
#[derive(Debug)]
pub struct Versioned {
    pub mistake: Option<Mistake>,
    pub courtesies: Courtesies,
    pub processes: usize,
    pub bounds: Bounds,
    pub seen: Seen,
}

/// Parts that save work, and on which no promise rests.
#[derive(Clone, Copy, Debug)]
pub struct Courtesies {
    pub lock: bool,
    pub single_flight: bool,
    pub local_copy: bool,
}

/// One step. Numbers are those of a process, and of a flight in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// A writer commits.
    Write,
    /// Those who wrote are told so.
    Acknowledge,
    /// The database is restored from a dump of what was committed at this place.
    Restore(usize),
    /// A request arrives.
    Begin(usize),
    /// The gate takes the reads that wait, and the database answers their query.
    AskVersion(usize),
    /// The answer arrives.
    ReceiveVersion(usize),
    /// No answer arrives.
    FailVersion(usize),
    /// A `get`, and when it misses an `add` of the lock.
    Look(usize, usize),
    /// A statement in the database.
    Build(usize, usize),
    /// The statement's answer arrives: it is kept, sent to memcached, and shown.
    Finish(usize, usize),
    /// A command arrives at memcached, not for the first time perhaps.
    Deliver(Command),
    /// A key is gone: evicted or expired.
    Evict(Stamp),
    /// A lock is gone: evicted, expired or given back.
    EvictLock(Stamp),
    /// Memcached starts again.
    Restart,
    /// Memcached is paused, and its clock is behind then.
    Pause,
    /// A process dies, and another takes its place.
    Crash(usize),
}

impl Model for Versioned {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.processes, self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.database_actions(state, actions);
        (0..self.processes).for_each(|process| self.process_actions(state, process, actions));
        self.memcached_actions(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut state = state.clone();
        match action {
            Action::Write => self.write(&mut state),
            Action::Acknowledge => self.acknowledge(&mut state),
            Action::Restore(place) => self.restore(&mut state, place),
            Action::Begin(process) => self.begin(&mut state, process),
            Action::AskVersion(process) => self.ask_version(&mut state, process),
            Action::ReceiveVersion(process) => self.receive_version(&mut state, process),
            Action::FailVersion(process) => self.fail_version(&mut state, process),
            Action::Look(process, flight) => self.look(&mut state, process, flight),
            Action::Build(process, flight) => self.build(&mut state, process, flight),
            Action::Finish(process, flight) => self.finish(&mut state, process, flight),
            Action::Deliver(command) => self.deliver(&mut state, command),
            Action::Evict(key) => drop(state.memcached.items.remove(&key)),
            Action::EvictLock(key) => drop(state.memcached.locks.remove(&key)),
            Action::Restart => self.restart(&mut state),
            Action::Pause => self.pause(&mut state),
            Action::Crash(process) => self.crash(&mut state, process),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ACKNOWLEDGED, |_, state: &State| !state.broken.stale),
            Property::always(FORWARD, |_, state: &State| !state.broken.backwards),
            Property::always(LABELLED, |_, state: &State| !state.broken.mislabelled),
        ]
    }
}

/// What may happen next.
impl Versioned {
    fn database_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (left, database) = (&state.left, &state.database);
        let newest = database.committed.len() - 1;
        let excluded = self.has(Mistake::LockExpires) && state.memcached.locks.contains(&PLAIN);
        if left.writes > 0 && !excluded {
            actions.push(Action::Write);
        }
        let early = self.has(Mistake::AcknowledgesEarly) && left.writes > 0;
        if database.acknowledged < newest + usize::from(early) {
            actions.push(Action::Acknowledge);
        }
        if left.restores > 0 {
            actions.extend((0..newest).map(Action::Restore));
        }
    }

    fn process_actions(&self, state: &State, number: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[number];
        if state.left.reads > 0 {
            actions.push(Action::Begin(number));
        }
        if process.query.is_some() {
            actions.push(Action::ReceiveVersion(number));
            actions.extend(state.left.failures.then_some(Action::FailVersion(number)));
        } else if !process.waiting.is_empty() {
            actions.push(Action::AskVersion(number));
        }
        for (place, flight) in process.flights.iter().enumerate() {
            self.flight_actions(flight, (number, place), actions);
        }
        if state.left.crashes > 0 && *process != Process::default() {
            actions.push(Action::Crash(number));
        }
    }

    fn flight_actions(&self, flight: &Flight, (process, place): (usize, usize), actions: &mut Vec<Action>) {
        match flight.phase {
            Phase::Look => actions.push(Action::Look(process, place)),
            Phase::Wait => {
                actions.push(Action::Look(process, place));
                actions.extend(self.has_gate().then_some(Action::Build(process, place)));
            }
            Phase::Build(_) | Phase::Half(_) => actions.push(Action::Build(process, place)),
            Phase::Built(..) => actions.push(Action::Finish(process, place)),
        }
    }

    fn memcached_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (left, memcached) = (&state.left, &state.memcached);
        let lands = |command: &&Command| match **command {
            Command::Set(key, page) => memcached.items.get(&key).is_none_or(|item| item.page != Some(page)),
            Command::Cas(key, _, cas) => memcached.items.get(&key).is_some_and(|item| item.cas == cas),
            Command::AddLock(key) => !memcached.locks.contains(&key),
        };
        actions.extend(memcached.sent.iter().filter(lands).map(|command| Action::Deliver(*command)));
        if left.evictions {
            actions.extend(memcached.items.keys().map(|key| Action::Evict(*key)));
            actions.extend(memcached.locks.iter().map(|key| Action::EvictLock(*key)));
        }
        if left.restarts > 0 {
            actions.push(Action::Restart);
        }
        if left.pauses > 0 {
            actions.push(Action::Pause);
        }
    }
}

impl Versioned {
    pub fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Whether keys have stamps, and reads pass the gate.
    pub fn has_gate(&self) -> bool {
        !self.mistake.is_some_and(Mistake::has_no_stamps)
    }
}
