//! A long night: readers and writers, guests, browsers, monitors and those who do not behave, while everything goes
//! wrong now and then. What it costs is told: failed requests, by the outages in which they were to be expected; old
//! pages; memory.
//!
//! An outage is announced for the process whose line to the database is troubled, or which is stopped or killed, and
//! for as long after it as time limits take to notice. Nothing that happens to memcached is an outage, and nothing that
//! happens to another process. Here a night takes some ten seconds; `scripts/soak` makes it longer.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::checker;
use super::cluster::{Cluster, Instance};
use super::crowd::{Tale, annoy, visit, watch};
use super::faults::{Fault, Lengths, Outage, Schedule};
use super::load::{Failure, Load, Log};
use super::{EXACT, SEED, SHORTEST_CALM, runtime};
use testkit::upstream::{Reply, Upstream};

/// Readers and writers, guests, browsers with monitors, and those who do not behave.
const CROWD: [u64; 4] = [8, 4, 2, 3];

/// How long after an outage requests may still fail: a statement on a connection that was lost without a word is given
/// up after four seconds, and a busy machine needs some more.
const RECOVERY: Duration = Duration::from_secs(10);

/// The process that is killed now and then; the others live on, so that their memory tells something.
const MORTAL: usize = 2;

/// What a process may grow by in the second half of a night: a tenth, or so many bytes.
const GROWTH: usize = 8 * MIB;

const MIB: usize = 1024 * 1024;

/// How long a night is, and how its faults follow each other.
struct Night {
    time: Duration,
    of_cache: Lengths,
    of_the_rest: Lengths,
    seed: u64,
}

impl Night {
    fn from_environment() -> Self {
        let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
        let seconds = number("SOAK_SECONDS");
        let length = |seconds| Duration::from_millis(seconds);
        let [of_cache, of_the_rest] = match seconds {
            // Most of the time there is no outage.
            Some(_) => [(500, 1000, 6000), (20_000, 1000, 6000)],
            None => [(250, 300, 600), (250, 300, 600)],
        }
        .map(|(pause, usual, longest)| Lengths {
            pause: length(pause),
            usual: length(usual),
            longest: length(longest),
        });
        Self {
            time: Duration::from_secs(seconds.unwrap_or_default()),
            of_cache,
            of_the_rest,
            seed: number("SOAK_SEED").unwrap_or(SEED),
        }
    }
}

/// What the living processes hold at one time, in bytes.
type Memory = Vec<usize>;

/// What a night was like.
struct Report {
    time: Duration,
    log: Log,
    tale: Tale,
    outages: Vec<Outage>,
    faults: Vec<String>,
    /// At the start, in the middle and at the end.
    memory: [Memory; 3],
    stale: Vec<checker::Finding>,
    /// Failures that no outage explains.
    unexplained: Vec<String>,
}

fn pass(night: &Night) -> Report {
    let runtime = runtime();
    let upstream = runtime.block_on(Upstream::start(|_, _| Reply::ok("{\"fine\": true}")));
    let variables = [("API_URL", upstream.url()), ("SECRET_KEY", "night".repeat(10))];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let cluster = runtime.block_on(Cluster::start_with(EXACT, &variables));
    let load = Load::new(&cluster, false).with_guests();
    let is_over = AtomicBool::new(false);
    let (mut log, mut tale, begin) = (Log::default(), Tale::default(), Instant::now());
    let mut trouble = Trouble::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            // Also if it panics, the crowd goes home.
            let _end = Ending(&is_over);
            trouble = make_trouble(&cluster, night);
        });
        let is_over = || is_over.load(Ordering::SeqCst) && load.has_been_busy();
        let [clients, guests, watchers, nuisances] = CROWD;
        let seeds = |count: u64, kind: u64| {
            (0..count).map(move |number| night.seed.wrapping_add(number + 100 * kind))
        };
        runtime.block_on(async {
            let clients = join_all(seeds(clients, 0).map(|seed| load.run(seed, is_over)));
            let guests = join_all((0..guests).map(|number| visit(&load, number, is_over)));
            let watchers = join_all(seeds(watchers, 1).map(|seed| watch(&load, seed, is_over)));
            let nuisances = join_all(seeds(nuisances, 2).map(|seed| annoy(&load, seed, is_over)));
            let (seen, guests, watchers, _) = tokio::join!(clients, guests, watchers, nuisances);
            seen.into_iter().for_each(|seen| log.merge(seen));
            guests.into_iter().chain(watchers).for_each(|told| tale.merge(told));
        });
    });
    log.merge(runtime.block_on(load.read_all()));
    let memory = trouble.memory.try_into().expect("it is looked at three times");
    let time = begin.elapsed();
    cluster.stop();
    let failures = log.failures.iter().chain(&tale.failures);
    let unexplained =
        failures.filter(|failure| !is_announced(failure, &trouble.outages, &load)).map(tell).collect();
    let stale = checker::check(&log.history);
    Report { time, log, tale, outages: trouble.outages, faults: trouble.faults, memory, stale, unexplained }
}

/// Says that the night is over when it is dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Trouble {
    memory: Vec<Memory>,
    outages: Vec<Outage>,
    faults: Vec<String>,
}

/// Leaves everything alone for a while, lets memcached go wrong in every way, which is no outage of anybody, and then
/// everything; and looks at the memory at three times.
fn make_trouble(cluster: &Cluster, night: &Night) -> Trouble {
    let begin = Instant::now();
    let held = || cluster.instances[..MORTAL].iter().map(Instance::memory).collect();
    thread::sleep(SHORTEST_CALM.max(night.time / 10));
    let mut memory = vec![held()];
    let schedule = |faults, lengths| Schedule::new(cluster, faults, lengths, night.seed);
    let mut cache = schedule(Fault::OF_CACHE, night.of_cache);
    cache.run(Instant::now());
    let mut rest = schedule(Fault::OF_THE_REST, night.of_the_rest).killing(MORTAL..MORTAL + 1);
    for part in [2, 1] {
        let until = begin + night.time / part;
        thread::scope(|scope| {
            scope.spawn(|| cache.run(until));
            rest.run(until);
        });
        memory.push(held());
    }
    let outages = cache.outages.drain(..).chain(rest.outages.drain(..)).collect();
    let counts = [cache, rest].into_iter().flat_map(Schedule::counts);
    Trouble { memory, outages, faults: counts.map(|(fault, count)| format!("{fault} {count}")).collect() }
}

fn is_announced(failure: &Failure, outages: &[Outage], load: &Load<'_>) -> bool {
    outages.iter().filter(|outage| outage.instance == failure.instance).any(|outage| {
        let (begin, end) = (load.moment(outage.begin), load.moment(outage.end + RECOVERY));
        failure.span.begin <= end && failure.span.end >= begin
    })
}

fn tell(failure: &Failure) -> String {
    let Failure { instance, span, request, answer } = failure;
    let [begin, end] = [span.begin, span.end].map(|moment| moment as f64 / 1e9);
    format!("{request} of process {instance} at {begin:.3}-{end:.3} s: {answer}")
}

impl Report {
    fn text(&self) -> String {
        let history = &self.log.history;
        let writes = history.adds.len() + history.removes.len();
        let failures = self.log.failures.len() + self.tale.failures.len();
        let requests = history.reads.len() + self.log.failed_reads() + writes + self.tale.requests;
        let announced: f64 =
            self.outages.iter().map(|outage| (outage.end + RECOVERY - outage.begin).as_secs_f64()).sum();
        let share = announced / (self.time.as_secs_f64() * (MORTAL + 1) as f64);
        let mut text = format!(
            "{} s: {requests} requests, {failures} failed, {} of them outside the {} announced outages \
             ({:.0} % of the time, recovery included)\n",
            self.time.as_secs(),
            self.unexplained.len(),
            self.outages.len(),
            100. * share.min(1.),
        );
        let _ = writeln!(
            text,
            "{} reads of the list checked, {} stale; {} writes; {} promises to guests broken",
            history.reads.len(),
            self.stale.len(),
            writes,
            self.tale.broken.len(),
        );
        let _ = writeln!(
            text,
            "| process | RSS at the start, MiB | in the middle | at the end |\n|---|--:|--:|--:|"
        );
        for process in 0..MORTAL {
            let [start, middle, end] =
                self.memory.each_ref().map(|memory| memory[process] as f64 / MIB as f64);
            let _ = writeln!(text, "| {process} | {start:.1} | {middle:.1} | {end:.1} |");
        }
        let _ = writeln!(text, "faults: {}", self.faults.join(", "));
        for line in self.unexplained.iter().chain(&self.tale.broken).take(20) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

#[test]
fn a_long_night_costs_no_request_no_old_page_and_no_memory() {
    let night = Night::from_environment();
    println!("seed {}", night.seed);
    let report = pass(&night);
    let text = report.text();
    println!("{text}");
    assert_eq!(report.faults.len(), Fault::OF_CACHE.len() + Fault::OF_THE_REST.len(), "{text}");
    assert!(report.tale.requests > 0, "{text}");
    assert_eq!(report.unexplained.len(), 0, "{text}");
    assert_eq!(report.tale.broken.len(), 0, "{text}");
    assert_eq!(report.stale.len(), 0, "{text}{:?}", report.stale);
    let [_, middle, end] = &report.memory;
    for (middle, end) in middle.iter().zip(end) {
        assert!(*end <= middle + GROWTH.max(middle / 10), "{text}");
    }
}
