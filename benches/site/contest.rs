//! Contestants who take turns, round after round: what else the machine does meanwhile hits all of them alike.

use anyhow::Result;

use super::load::{Load, Target, run};
use super::process::seconds_used_by;

/// Who is loaded, and the processes that work for it.
#[derive(Clone)]
pub struct Contestant {
    pub targets: Vec<Target>,
    pub processes: Vec<u32>,
}

/// What one did in one round.
#[derive(Clone, Copy)]
pub struct Turn {
    /// Requests.
    pub per_second: f64,
    /// Seconds of processor time for a request, of all its processes.
    pub cpu: f64,
}

/// What all did: the turns of each round, in the order of the contestants.
pub struct Rounds(Vec<Vec<Turn>>);

impl Contestant {
    pub fn new(target: Target, processes: &[u32]) -> Self {
        Self { targets: vec![target], processes: processes.to_vec() }
    }

    fn turn(&self, load: Load) -> Result<Turn> {
        let before = seconds_used_by(&self.processes)?;
        let done = run(&self.targets, load)?;
        let cpu = (seconds_used_by(&self.processes)? - before) / done.requests;
        Ok(Turn { per_second: done.per_second, cpu })
    }
}

/// Lets them take turns. What a process does once, such as connecting, is not counted where there are many rounds.
pub fn contest(contestants: &[&Contestant], load: Load, rounds: usize) -> Result<Rounds> {
    let round = || contestants.iter().map(|contestant| contestant.turn(load)).collect::<Result<Vec<_>>>();
    if rounds >= MANY {
        round()?;
    }
    (0..rounds).map(|_| round()).collect::<Result<_>>().map(Rounds)
}

/// From so many rounds on there is one more before, to warm up.
const MANY: usize = 5;

impl Rounds {
    /// Requests a second of one.
    pub fn per_second(&self, one: usize) -> f64 {
        median(self.0.iter().map(|round| round[one].per_second))
    }

    /// Microseconds of processor time for a request to one.
    pub fn microseconds(&self, one: usize) -> f64 {
        median(self.0.iter().map(|round| round[one].cpu * 1e6))
    }

    /// Requests a second of one over those of another.
    pub fn ratio(&self, one: usize, other: usize) -> f64 {
        median(self.0.iter().map(|round| round[one].per_second / round[other].per_second))
    }

    /// Processor time for a request to one over that to another.
    pub fn cpu_ratio(&self, one: usize, other: usize) -> f64 {
        median(self.0.iter().map(|round| round[one].cpu / round[other].cpu))
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
