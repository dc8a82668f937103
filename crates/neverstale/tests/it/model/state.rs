//! What there is: a database, a memcached, processes with reads under way, and what may still happen.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

/// The version of the list, as `list_state` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    pub v: u8,
    pub tok: u8,
}

/// The key of strategies whose keys have no stamp.
pub const PLAIN: Stamp = Stamp { v: 0, tok: 0 };

/// A list, by the number of the write that made it, and the label it is said to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Page {
    pub label: Stamp,
    pub list: u8,
}

/// All that may change. Names of processes are for people: states that differ only in them have the same hash.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub database: Database,
    pub memcached: Memcached,
    pub processes: Vec<Process>,
    /// The place, in what was committed, of the newest list that a read has shown.
    pub shown: usize,
    pub broken: Broken,
    pub left: Bounds,
}

/// What was committed, in order, and what of it was acknowledged.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Database {
    pub committed: Vec<Page>,
    pub acknowledged: usize,
    pub lists: u8,
    pub toks: u8,
}

/// What memcached holds, and what is on the way to it.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Memcached {
    pub items: BTreeMap<Stamp, Item>,
    pub locks: BTreeSet<Stamp>,
    /// Every command ever sent. It may arrive at any time, more than once, or never.
    pub sent: BTreeSet<Command>,
    /// The last CAS id given.
    pub cas: u8,
    /// Whether it was paused, and gives out what has expired.
    pub late: bool,
}

/// A value under a key. A placeholder has no page.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub struct Item {
    pub page: Option<Page>,
    pub cas: u8,
}

/// A command whose answer nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Command {
    Set(Stamp, Page),
    Cas(Stamp, Page, u8),
    AddLock(Stamp),
}

/// One instance: all that a crash loses.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// Reads that wait for a query to be sent.
    pub waiting: Vec<Floor>,
    pub query: Option<Query>,
    pub local: Option<Page>,
    /// The last version seen, which only a mistake looks at.
    pub known: Option<Stamp>,
    pub flights: Vec<Flight>,
}

/// A version query whose answer is on the way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query {
    pub answer: Stamp,
    pub readers: Vec<Floor>,
}

/// Reads that have passed the gate with one stamp and share what one of them gets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flight {
    pub stamp: Stamp,
    pub phase: Phase,
    pub readers: Vec<Floor>,
}

/// How far a flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Asks memcached next.
    Look,
    /// Found another's lock: looks again, or builds out of patience.
    Wait,
    /// Reads from the database next, and may store under this CAS id, where there are any.
    Build(Option<u8>),
    /// Mistakes that read in two statements are between them.
    Half(Page),
    /// Has read a list, and is about to store and answer it.
    Built(Page, Option<u8>),
}

/// What a read must not be older than: places in what was committed, when the read began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Floor {
    pub acknowledged: usize,
    pub shown: usize,
}

/// Promises that an answer has broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Broken {
    pub stale: bool,
    pub backwards: bool,
    pub mislabelled: bool,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    pub reads: u8,
    pub writes: u8,
    /// Of processes.
    pub crashes: u8,
    /// Of memcached, which is empty then and counts CAS ids from 1.
    pub restarts: u8,
    /// Of memcached, whose clock is behind then.
    pub pauses: u8,
    /// Of the database, from a dump of any earlier version.
    pub restores: u8,
    /// Whether keys vanish, by eviction or expiry, as often as it takes.
    pub evictions: bool,
    /// Whether version queries fail, as often as it takes.
    pub failures: bool,
}

impl State {
    pub fn new(processes: usize, left: Bounds) -> Self {
        Self {
            database: Database::new(),
            memcached: Memcached::default(),
            processes: vec![Process::default(); processes],
            shown: 0,
            broken: Broken::default(),
            left,
        }
    }

    /// What a read that begins now must not be older than.
    pub fn floor(&self) -> Floor {
        Floor { acknowledged: self.database.acknowledged, shown: self.shown }
    }

    /// Ends a read with a page, and writes down what that breaks.
    pub fn answer(&mut self, floor: Floor, page: Page) {
        let newest = self.database.committed.iter().rposition(|version| version.list == page.list);
        self.broken.stale |= newest < Some(floor.acknowledged);
        self.broken.backwards |= newest < Some(floor.shown);
        self.broken.mislabelled |= !self.database.committed.contains(&page);
        self.shown = self.shown.max(self.database.place(page.list, floor));
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut processes: Vec<_> = self.processes.iter().collect();
        processes.sort();
        (&self.database, &self.memcached, processes, self.shown, self.broken, self.left).hash(state);
    }
}

impl Database {
    fn new() -> Self {
        let first = Page { label: Stamp { v: 0, tok: 0 }, list: 0 };
        Self { committed: vec![first], acknowledged: 0, lists: 0, toks: 0 }
    }

    pub fn newest(&self) -> Page {
        *self.committed.last().expect("there is a first version")
    }

    /// A write, whose trigger counts and draws a token in the same transaction.
    pub fn write(&mut self, draws: bool) {
        let v = self.newest().label.v + 1;
        let tok = self.tok(draws);
        self.lists += 1;
        self.committed.push(Page { label: Stamp { v, tok }, list: self.lists });
    }

    /// Brings back an earlier list and its count, with a token drawn for it or with that from the dump.
    pub fn restore(&mut self, place: usize, draws: bool) {
        let Page { label, list } = self.committed[place];
        let tok = if draws { self.tok(true) } else { label.tok };
        self.committed.push(Page { label: Stamp { tok, ..label }, list });
    }

    fn tok(&mut self, draws: bool) -> u8 {
        self.toks += u8::from(draws);
        self.toks
    }

    /// The first place from the floor on at which the list was the present one.
    fn place(&self, list: u8, floor: Floor) -> usize {
        let floor = floor.acknowledged.max(floor.shown);
        let later = self.committed.iter().skip(floor).position(|version| version.list == list);
        later.map_or(0, |later| floor + later)
    }
}

impl Memcached {
    /// Whether there is no lock yet; there is one then.
    pub fn add_lock(&mut self, key: Stamp) -> bool {
        self.locks.insert(key)
    }

    /// Stores a page, and gives it a CAS id if those count.
    pub fn set(&mut self, key: Stamp, page: Option<Page>, counts: bool) -> u8 {
        self.cas += u8::from(counts);
        self.items.insert(key, Item { page, cas: self.cas });
        self.cas
    }

    /// Stores a page if nothing was stored since the id was given.
    pub fn cas(&mut self, key: Stamp, page: Page, cas: u8) {
        if self.items.get(&key).is_some_and(|item| item.cas == cas) {
            self.set(key, Some(page), true);
        }
    }

    /// Starts again, empty. What was sent may still arrive.
    pub fn restart(&mut self) {
        *self = Self { sent: std::mem::take(&mut self.sent), ..Self::default() };
    }
}
