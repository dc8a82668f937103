//! What goes wrong during a run, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, Instance};
use testkit::line::{Line, Weather};
use testkit::wait_until;

/// What Postgres says when a write is committed: each is a statement of its own, or has a `commit` at its end.
const COMMITTED: &[&str] = &["INSERT 0 1\0", "DELETE 1\0", "COMMIT\0"];

/// The longest that a delayed message is late.
const LONGEST_DELAY: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    CacheLineHolds,
    CacheLineDrops,
    CacheLineDelays,
    CacheLineCut,
    CacheServerStops,
    CacheServerRestarts,
    CacheServerFlushed,
    DatabaseLineHolds,
    DatabaseLineDrops,
    DatabaseLineDelays,
    DatabaseLineCut,
    ProcessStops,
    ProcessKilled,
    ProcessKilledAtCommit,
}

impl Fault {
    /// Those that no write may fail of.
    pub const OF_CACHE: [Self; 7] = [
        Self::CacheLineHolds,
        Self::CacheLineDrops,
        Self::CacheLineDelays,
        Self::CacheLineCut,
        Self::CacheServerStops,
        Self::CacheServerRestarts,
        Self::CacheServerFlushed,
    ];

    pub const OF_THE_REST: [Self; 7] = [
        Self::DatabaseLineHolds,
        Self::DatabaseLineDrops,
        Self::DatabaseLineDelays,
        Self::DatabaseLineCut,
        Self::ProcessStops,
        Self::ProcessKilled,
        Self::ProcessKilledAtCommit,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CacheLineHolds => "memcached line holds",
            Self::CacheLineDrops => "memcached line drops",
            Self::CacheLineDelays => "memcached line delays",
            Self::CacheLineCut => "memcached line cut",
            Self::CacheServerStops => "memcached stopped",
            Self::CacheServerRestarts => "memcached killed",
            Self::CacheServerFlushed => "memcached flushed",
            Self::DatabaseLineHolds => "Postgres line holds",
            Self::DatabaseLineDrops => "Postgres line drops",
            Self::DatabaseLineDelays => "Postgres line delays",
            Self::DatabaseLineCut => "Postgres line cut",
            Self::ProcessStops => "process stopped",
            Self::ProcessKilled => "process killed",
            Self::ProcessKilledAtCommit => "process killed at its commit",
        })
    }
}

/// How long faults last.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Between two of them, at most.
    pub pause: Duration,
    pub usual: Duration,
    /// Now and then, so that time limits are reached.
    pub longest: Duration,
}

/// A time in which a process cannot do what it is asked, by no fault of its own.
#[derive(Clone, Copy)]
pub struct Outage {
    pub instance: usize,
    pub begin: Instant,
    pub end: Instant,
}

/// Makes some faults happen, each as often as the others, in an order that the seed decides.
pub struct Schedule<'a> {
    cluster: &'a Cluster,
    faults: [Fault; 7],
    lengths: Lengths,
    /// Which processes may be killed.
    mortals: Range<usize>,
    /// Those so far. No fault of memcached is one.
    pub outages: Vec<Outage>,
    rng: fastrand::Rng,
    counts: BTreeMap<Fault, usize>,
}

impl<'a> Schedule<'a> {
    pub fn new(cluster: &'a Cluster, faults: [Fault; 7], lengths: Lengths, seed: u64) -> Self {
        Self {
            cluster,
            faults,
            lengths,
            mortals: 0..cluster.instances.len(),
            outages: vec![],
            rng: fastrand::Rng::with_seed(seed),
            counts: BTreeMap::new(),
        }
    }

    /// Kills none but these processes.
    pub fn killing(self, mortals: Range<usize>) -> Self {
        Self { mortals, ..self }
    }

    /// Goes on until the instant, and until every fault has happened. None outlasts this.
    pub fn run(&mut self, until: Instant) {
        loop {
            let mut faults = self.faults;
            self.rng.shuffle(&mut faults);
            for fault in faults {
                if Instant::now() >= until && self.counts.len() == self.faults.len() {
                    return;
                }
                sleep(self.lengths.pause.mul_f64(self.rng.f64()));
                self.happen(fault);
                *self.counts.entry(fault).or_default() += 1;
            }
        }
    }

    /// How often each fault has happened.
    pub fn counts(self) -> BTreeMap<Fault, usize> {
        self.counts
    }

    fn happen(&mut self, fault: Fault) {
        let length = self.length();
        let instances = match fault {
            Fault::DatabaseLineHolds
            | Fault::DatabaseLineDrops
            | Fault::DatabaseLineDelays
            | Fault::DatabaseLineCut => self.one_or_all(),
            Fault::ProcessStops => vec![self.rng.usize(..self.cluster.instances.len())],
            Fault::ProcessKilled | Fault::ProcessKilledAtCommit => vec![self.rng.usize(self.mortals.clone())],
            _ => vec![],
        };
        let begin = Instant::now();
        self.befall(fault, length, &instances);
        let end = Instant::now();
        self.outages.extend(instances.into_iter().map(|instance| Outage { instance, begin, end }));
    }

    fn befall(&mut self, fault: Fault, length: Duration, instances: &[usize]) {
        let instances: Vec<_> = instances.iter().map(|index| &self.cluster.instances[*index]).collect();
        let database_lines =
            || instances.iter().map(|instance| instance.to_database.clone()).collect::<Vec<_>>();
        match fault {
            Fault::CacheLineHolds => change(&self.cache_lines(), Weather::Hold, length),
            Fault::CacheLineDrops => change(&self.cache_lines(), Weather::Drop, length),
            Fault::CacheLineDelays => change(&self.cache_lines(), Weather::Delay(LONGEST_DELAY), length),
            Fault::CacheLineCut => change(&self.cache_lines(), Weather::Cut, length),
            Fault::CacheServerStops | Fault::CacheServerRestarts | Fault::CacheServerFlushed => {
                self.befall_server(fault, length);
            }
            Fault::DatabaseLineHolds => change(&database_lines(), Weather::Hold, length),
            Fault::DatabaseLineDrops => change(&database_lines(), Weather::Drop, length),
            Fault::DatabaseLineDelays => change(&database_lines(), Weather::Delay(LONGEST_DELAY), length),
            Fault::DatabaseLineCut => change(&database_lines(), Weather::Cut, length),
            Fault::ProcessStops => {
                instances.iter().for_each(|instance| instance.signal("STOP"));
                sleep(length);
                instances.iter().for_each(|instance| instance.signal("CONT"));
            }
            Fault::ProcessKilled => instances.into_iter().for_each(Instance::restart),
            Fault::ProcessKilledAtCommit => instances.into_iter().for_each(kill_at_commit),
        }
    }

    fn befall_server(&mut self, fault: Fault, length: Duration) {
        let mut server = self.cluster.server(self.rng.usize(..self.cluster.servers.len()));
        match fault {
            Fault::CacheServerStops => {
                server.stop();
                sleep(length);
                server.go_on();
            }
            Fault::CacheServerRestarts => {
                server.kill();
                sleep(length);
                server.restart();
            }
            _ => server.client().flush().unwrap(),
        }
    }

    fn length(&mut self) -> Duration {
        let longest = if self.rng.u8(..8) == 0 { self.lengths.longest } else { self.lengths.usual };
        longest.mul_f64(0.2 + 0.8 * self.rng.f64())
    }

    /// One line, all of a server, or all of a process.
    fn cache_lines(&mut self) -> Vec<Line> {
        let instances = &self.cluster.instances;
        let instance = &instances[self.rng.usize(..instances.len())];
        let server = self.rng.usize(..self.cluster.servers.len());
        match self.rng.u8(..3) {
            0 => vec![instance.to_memcached[server].clone()],
            1 => instances.iter().map(|instance| instance.to_memcached[server].clone()).collect(),
            _ => instance.to_memcached.clone(),
        }
    }

    /// One process, or all.
    fn one_or_all(&mut self) -> Vec<usize> {
        let all = 0..self.cluster.instances.len();
        if self.rng.u8(..3) == 0 { all.collect() } else { vec![self.rng.usize(all)] }
    }
}

fn change(lines: &[Line], weather: Weather, length: Duration) {
    lines.iter().for_each(|line| line.set(weather));
    sleep(length);
    lines.iter().for_each(|line| line.set(Weather::Fair));
}

/// Kills a process when its next write is committed and before it learns of that.
fn kill_at_commit(instance: &Instance) {
    if !instance.has_line {
        return instance.restart();
    }
    let line = &instance.to_database;
    let before = line.caught();
    line.set(Weather::Catch(COMMITTED));
    wait_until("a write is committed", || line.caught() > before);
    // What is caught stays caught, whatever the weather; the new process starts in a fair one.
    instance.signal("KILL");
    line.set(Weather::Fair);
    instance.restart();
}
