//! Whether pages are as fresh as each strategy promises, asked of the program from outside: three processes, Postgres
//! and two memcached, a line between each process and each server on which anything may happen, servers and processes
//! that are stopped and killed, and clients who write at one process and read at another.
//!
//! `checker.rs` says what a wrong page is. Here a run takes some ten seconds, in which every fault happens;
//! `scripts/consistency` runs longer. A run is calm at first, then memcached alone has faults, then everything has.

mod checker;
mod cluster;
mod crowd;
mod explanations;
mod faults;
mod load;
mod mistakes;
mod report;
mod simulation;
mod soak;
mod stored;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use futures_util::future::join_all;
use tasklist::config::cache::CacheStrategy;
use tokio::runtime::{self, Runtime};

use self::cluster::{Cluster, Instance};
use self::faults::{Fault, Lengths, Schedule};
use self::load::{Load, Log};
use self::report::{Phases, Report, table};
use testkit::http;
use testkit::line::Line;

/// The one strategy whose pages are never old.
const EXACT: &str = "versioned";

/// No cache at all, for comparison: clients read the database itself. What the checker finds here is its own fault.
const UNCACHED: &str = "none";

/// All of them.
const STRATEGIES: [&str; 6] = [EXACT, "delete", "rotate", "update", "expire", UNCACHED];

/// Decides on faults and on what clients do, if the environment says no other.
const SEED: u64 = 1;

/// Each does one thing after the other.
const CLIENTS: u64 = 12;

/// How long nothing goes wrong at first, at least.
const SHORTEST_CALM: Duration = Duration::from_secs(1);

/// How long a fault lasts at most, but now and then.
const USUAL: Duration = Duration::from_millis(250);

/// The strategies that the program knows.
fn strategies() -> impl Iterator<Item = &'static str> {
    STRATEGIES.into_iter().filter(|name| *name == UNCACHED || CacheStrategy::from_str(name, false).is_ok())
}

/// How long to run, and what.
struct Form {
    strategies: Vec<&'static str>,
    /// For each strategy, at least: every fault happens.
    time: Duration,
    lengths: Lengths,
    /// How many strategies at once.
    side_by_side: usize,
    seed: u64,
}

impl Form {
    /// As the tests run it, or for as long as `scripts/consistency` says.
    fn from_environment() -> Self {
        let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
        let strategy = std::env::var("CONSISTENCY_STRATEGY").ok();
        let is_asked_for = |name: &&str| strategy.as_ref().is_none_or(|strategy| strategy == name);
        let strategies: Vec<_> = strategies().filter(is_asked_for).collect();
        assert!(!strategies.is_empty(), "{strategy:?} is no strategy of the program");
        let seconds = number("CONSISTENCY_SECONDS");
        let longest = Duration::from_millis(if seconds.is_some() { 6000 } else { 1000 });
        Self {
            strategies,
            time: Duration::from_secs(seconds.unwrap_or_default()),
            lengths: Lengths { pause: USUAL / 2, usual: USUAL, longest },
            side_by_side: if seconds.is_some() { 1 } else { 2 },
            seed: number("CONSISTENCY_SEED").unwrap_or(SEED),
        }
    }
}

/// Counts who still makes trouble, also when they panic.
struct Trouble<'a>(&'a AtomicUsize);

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs one strategy through all faults and judges what clients saw.
fn run(strategy: &'static str, form: &Form) -> Report {
    let runtime = runtime();
    let cluster = runtime.block_on(Cluster::start(strategy));
    let load = Load::new(&cluster, strategy == UNCACHED);
    let mut schedules = [Fault::OF_CACHE, Fault::OF_THE_REST]
        .map(|faults| Schedule::new(&cluster, faults, form.lengths, form.seed));
    let (troubles, mut phases, mut log) = (AtomicUsize::new(1), Phases::default(), Log::default());
    thread::scope(|scope| {
        let trouble = Trouble(&troubles);
        let (schedules, phases, load) = (&mut schedules, &mut phases, &load);
        scope.spawn(move || {
            let _trouble = trouble;
            *phases = go_wrong(schedules, load, form.time);
        });
        let is_over = || troubles.load(Ordering::SeqCst) == 0 && load.has_been_busy();
        let clients = (0..CLIENTS).map(|number| load.run(form.seed.wrapping_add(number), is_over));
        runtime.block_on(join_all(clients)).into_iter().for_each(|seen| log.merge(seen));
    });
    log.merge(runtime.block_on(load.read_all()));
    log.history.reads.push(runtime.block_on(load.read_database()));
    cluster.stop();
    let mut report = Report::new(strategy, &log, &phases);
    report.list_queries = cluster.list_queries();
    report.faults = schedules.into_iter().flat_map(Schedule::counts).collect();
    report
}

/// Leaves everything alone for a while, then lets memcached go wrong, and then everything at once.
fn go_wrong([cache, rest]: &mut [Schedule; 2], load: &Load, time: Duration) -> Phases {
    let begin = Instant::now();
    thread::sleep(SHORTEST_CALM.max(time / 8));
    let (calm_until, calm_list_queries) = (load.now(), load.cluster.list_queries());
    cache.run(begin + time * 3 / 8);
    let only_memcached_until = load.now();
    thread::scope(|scope| {
        scope.spawn(|| cache.run(begin + time));
        rest.run(begin + time);
    });
    Phases { calm_until, calm_list_queries, only_memcached_until }
}

fn runtime() -> Runtime {
    runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn pages_are_as_fresh_as_each_strategy_promises() {
    let form = Form::from_environment();
    println!("seed {}", form.seed);
    let mut reports = vec![];
    for strategies in form.strategies.chunks(form.side_by_side) {
        thread::scope(|scope| {
            let runs: Vec<_> =
                strategies.iter().map(|strategy| scope.spawn(|| run(strategy, &form))).collect();
            reports.extend(runs.into_iter().map(|run| run.join().expect("the run ends well")));
        });
    }
    println!("{}", table(&reports));
    reports.iter().for_each(judge);
}

/// Asserts what holds for every strategy, and that the run was worth something; then what is promised.
fn judge(report: &Report) {
    let Report { strategy, reads, adds, removes, faults, .. } = report;
    assert_eq!(faults.len(), Fault::OF_CACHE.len() + Fault::OF_THE_REST.len(), "{report}");
    assert!(*reads > 0 && *adds > 0 && *removes > 0, "{strategy}: {reads} reads, {adds}, {removes}");
    for fault in [checker::Fault::Disorder, checker::Fault::Phantom] {
        assert_eq!(report.reads_with(fault), 0, "{report}");
    }
    assert_eq!(report.failed_by_memcached, 0, "{report}");
    match *strategy {
        EXACT => {
            assert_eq!(report.stale, 0, "{report}");
            // One for the empty list, and one for each change of it.
            assert!(report.calm_list_queries <= report.calm_writes + 1, "{report}");
        }
        UNCACHED => assert_eq!(report.stale, 0, "{report}"),
        // Nobody tells the others, and clients who look at once see it. So the checker is not blind.
        "expire" => assert!(report.stale > 0, "{report}"),
        _ => {}
    }
}

/// Returns how much a process sends to memcached for an add, while nobody reads.
async fn bytes_sent_by_writer(strategy: &str) -> usize {
    let cluster = Cluster::start(strategy).await;
    let writer = &cluster.instances[0];
    for instance in &cluster.instances {
        assert_eq!(http().get(&instance.url).send().await.unwrap().status(), 200);
    }
    let before = bytes_sent(writer);
    let form = [("name", "Task 1")];
    let answer = http().post(format!("{}add", writer.url)).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), 303);
    // What it might still send afterwards it has sent when it ends.
    cluster.stop();
    bytes_sent(writer) - before
}

fn bytes_sent(instance: &Instance) -> usize {
    instance.to_memcached.iter().map(Line::bytes).sum()
}

#[test]
fn only_a_writer_who_must_tell_readers_sends_anything_to_memcached() {
    for strategy in strategies().filter(|strategy| *strategy != UNCACHED) {
        let is_silent = [EXACT, "expire"].contains(&strategy);
        let bytes = runtime().block_on(bytes_sent_by_writer(strategy));
        assert_eq!(bytes == 0, is_silent, "{strategy}: {bytes} bytes");
    }
}
