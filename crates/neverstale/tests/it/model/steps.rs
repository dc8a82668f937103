//! What each step does, rightly or by mistake.

use super::events::Event;
use super::mistakes::Mistake;
use super::protocol::Versioned;
use super::state::{Command, Flight, Floor, PLAIN, Page, Phase, Process, Query, Stamp, State};

/// Writers, who send nothing to the cache unless by mistake, and the operator.
impl Versioned {
    pub fn write(&self, state: &mut State) {
        state.left.writes -= 1;
        state.database.write(!self.has(Mistake::VersionWithoutTok));
        if self.has(Mistake::LockExpires) {
            state.memcached.items.remove(&PLAIN);
        }
    }

    pub fn acknowledge(&self, state: &mut State) {
        let early = self.has(Mistake::AcknowledgesEarly) && state.left.writes > 0;
        state.database.acknowledged = state.database.committed.len() - 1 + usize::from(early);
        if self.has(Mistake::Deletes) || self.has(Mistake::LeaseByCas) {
            state.memcached.items.remove(&PLAIN);
        }
    }

    pub fn restore(&self, state: &mut State, place: usize) {
        let draws = !self.has(Mistake::VersionWithoutTok) && !self.has(Mistake::TokFromDump);
        state.left.restores -= 1;
        state.database.restore(place, draws);
    }
}

/// The gate.
impl Versioned {
    pub fn begin(&self, state: &mut State, process: usize) {
        state.left.reads -= 1;
        let floor = state.floor();
        if !self.has_gate() {
            return self.pass(state, process, PLAIN, vec![floor]);
        }
        match &mut state.processes[process].query {
            Some(query) if self.has(Mistake::JoinsSentQuery) => query.readers.push(floor),
            query => {
                self.seen.note(Event::WaitedForNextQuery, query.is_some());
                let waiting = &mut state.processes[process].waiting;
                waiting.push(floor);
                waiting.sort();
            }
        }
    }

    pub fn ask_version(&self, state: &mut State, process: usize) {
        let answer = state.database.newest().label;
        let process = &mut state.processes[process];
        process.query = Some(Query { answer, readers: std::mem::take(&mut process.waiting) });
    }

    pub fn receive_version(&self, state: &mut State, process: usize) {
        let Some(query) = state.processes[process].query.take() else { return };
        self.seen.note(Event::OldVersionReceived, query.answer != state.database.newest().label);
        if self.has(Mistake::FallsBack) {
            state.processes[process].known = Some(query.answer);
        }
        self.pass(state, process, query.answer, query.readers);
    }

    /// Ends the reads that waited without a page.
    pub fn fail_version(&self, state: &mut State, process: usize) {
        let Some(query) = state.processes[process].query.take() else { return };
        self.seen.note(Event::Refused, true);
        if let Some(known) = state.processes[process].known {
            self.pass(state, process, known, query.readers);
        }
    }

    /// Lets reads through with a stamp, to the local copy or to a flight.
    fn pass(&self, state: &mut State, process: usize, stamp: Stamp, readers: Vec<Floor>) {
        let local = state.processes[process].local.filter(|page| page.label == stamp);
        if let Some(page) = local {
            self.seen.note(Event::LocalHit, true);
            return readers.into_iter().for_each(|floor| state.answer(floor, page));
        }
        let flights = &mut state.processes[process].flights;
        readers.into_iter().for_each(|floor| self.board(flights, stamp, floor));
    }

    fn board(&self, flights: &mut Vec<Flight>, stamp: Stamp, floor: Floor) {
        if let Some(flight) = flights.iter_mut().find(|flight| self.shares(flight, stamp)) {
            self.seen.note(Event::SharedBuild, matches!(flight.phase, Phase::Built(..)));
            flight.readers.push(floor);
            flight.readers.sort();
        } else {
            flights.push(Flight { stamp, phase: Phase::Look, readers: vec![floor] });
        }
        flights.sort();
    }

    fn shares(&self, flight: &Flight, stamp: Stamp) -> bool {
        let same = flight.stamp == stamp || self.has(Mistake::FlightByPath);
        self.courtesies.single_flight && self.has_gate() && same
    }
}

/// Flights: memcached, the lock, the build.
impl Versioned {
    pub fn look(&self, state: &mut State, process: usize, place: usize) {
        let key = state.processes[process].flights[place].stamp;
        if let Some(page) = self.get(state, key) {
            self.seen.note(Event::Hit, true);
            return self.land(state, process, place, page);
        }
        let phase = self.miss(state, key);
        let flights = &mut state.processes[process].flights;
        flights[place].phase = phase;
        flights.sort();
    }

    fn get(&self, state: &State, key: Stamp) -> Option<Page> {
        let page = state.memcached.items.get(&key)?.page?;
        let acknowledged = &state.database.committed[state.database.acknowledged..];
        let expired =
            self.has(Mistake::TrustsExpiry) && acknowledged.iter().all(|version| version.list != page.list);
        (!expired || state.memcached.late).then_some(page)
    }

    /// Asks for leave to build.
    fn miss(&self, state: &mut State, key: Stamp) -> Phase {
        if self.has(Mistake::LeaseByCas) {
            let free = !state.memcached.items.contains_key(&key);
            return Phase::Build(free.then(|| state.memcached.set(key, None, true)));
        }
        let locks = if self.has_gate() { self.courtesies.lock } else { self.has(Mistake::LockExpires) };
        if !locks {
            return Phase::Build(None);
        }
        if self.has_gate() {
            state.memcached.sent.insert(Command::AddLock(key));
        }
        if state.memcached.add_lock(key) { Phase::Build(None) } else { Phase::Wait }
    }

    pub fn build(&self, state: &mut State, process: usize, place: usize) {
        self.seen.note(Event::TakenOver, self.takes_over(state, process, place));
        let now = state.database.newest();
        let flights = &mut state.processes[process].flights;
        let Flight { stamp, phase, .. } = flights[place];
        self.seen.note(Event::NewerThanAsked, self.has_gate() && now.label != stamp);
        flights[place].phase = self.statement(phase, stamp, now);
        flights.sort();
    }

    /// Reads what is in the database now: all that there is to read, or half of it.
    fn statement(&self, phase: Phase, stamp: Stamp, now: Page) -> Phase {
        let label_second = self.has(Mistake::LabelReadSecond);
        match phase {
            Phase::Half(page) if label_second => Phase::Built(Page { label: now.label, ..page }, None),
            Phase::Half(page) => Phase::Built(Page { list: now.list, ..page }, None),
            _ if label_second || self.has(Mistake::LabelReadFirst) => Phase::Half(now),
            Phase::Build(cas) => Phase::Built(self.labelled(now, stamp), cas),
            _ => Phase::Built(self.labelled(now, stamp), None),
        }
    }

    /// Whether nobody else is at it, for somebody died and has left a lock and no page.
    fn takes_over(&self, state: &State, process: usize, place: usize) -> bool {
        let Flight { stamp, phase, .. } = state.processes[process].flights[place];
        let stored = |command: &Command| matches!(command, Command::Set(key, _) if *key == stamp);
        let others = state.processes.iter().enumerate().filter(|(other, _)| *other != process);
        let alone = others.flat_map(|(_, other)| &other.flights).all(|flight| flight.stamp != stamp);
        let died = state.left.crashes < self.bounds.crashes && !state.memcached.sent.iter().any(stored);
        phase == Phase::Wait && state.memcached.locks.contains(&stamp) && alone && died
    }

    fn labelled(&self, read: Page, asked: Stamp) -> Page {
        let label = if self.has(Mistake::StoresUnderGateStamp) { asked } else { read.label };
        Page { label, ..read }
    }

    pub fn finish(&self, state: &mut State, process: usize, place: usize) {
        let Phase::Built(page, cas) = state.processes[process].flights[place].phase else { return };
        let key = if self.has_gate() { page.label } else { PLAIN };
        if self.has(Mistake::LockExpires) {
            state.memcached.set(key, Some(page), false);
            state.memcached.locks.remove(&key);
        } else if !self.has(Mistake::LeaseByCas) {
            state.memcached.sent.insert(Command::Set(key, page));
        } else if let Some(cas) = cas {
            state.memcached.sent.insert(Command::Cas(key, page, cas));
        }
        self.land(state, process, place, page);
    }

    /// Answers all who share a flight.
    fn land(&self, state: &mut State, process: usize, place: usize, page: Page) {
        let flight = state.processes[process].flights.remove(place);
        if self.has_gate() && self.courtesies.local_copy {
            state.processes[process].local = Some(page);
        }
        flight.readers.into_iter().for_each(|floor| state.answer(floor, page));
    }
}

/// What befalls memcached and the processes.
impl Versioned {
    pub fn deliver(&self, state: &mut State, command: Command) {
        match command {
            Command::Set(key, page) => {
                self.seen.note(Event::LateSet, page.label != state.database.newest().label);
                self.seen.note(Event::SetAfterRestart, state.left.restarts < self.bounds.restarts);
                state.memcached.set(key, Some(page), false);
            }
            Command::Cas(key, page, cas) => state.memcached.cas(key, page, cas),
            Command::AddLock(key) => drop(state.memcached.add_lock(key)),
        }
    }

    pub fn restart(&self, state: &mut State) {
        self.seen.note(Event::RestartWithItems, !state.memcached.items.is_empty());
        state.left.restarts -= 1;
        state.memcached.restart();
    }

    pub fn crash(&self, state: &mut State, process: usize) {
        let building = |flight: &Flight| matches!(flight.phase, Phase::Built(..));
        self.seen.note(Event::CrashWhileBuilding, state.processes[process].flights.iter().any(building));
        state.left.crashes -= 1;
        state.processes[process] = Process::default();
    }

    pub fn pause(&self, state: &mut State) {
        state.left.pauses -= 1;
        state.memcached.late = true;
    }
}
