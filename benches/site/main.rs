//! How fast the site is, as ratios that anyone can measure again: beside a plain axum server that hands out the same
//! bytes (`examples/static_page.rs`), beside what one would write on a Sunday (`examples/naive.rs`), beside its own SQL
//! and `pgbench`. Absolute figures are of one machine, on which the load is made too.
//!
//! `cargo bench --bench site -- [--quick] [hits|rebuild|writes|resources|growth]...`, all of them if none is named; the
//! examples must have been built, as `scripts/bench` does. What it measures and what came of it is told in
//! docs/performance.md.

#![expect(unreachable_pub, reason = "nothing of a benchmark can be reached from outside")]

mod contest;
mod growth;
mod hits;
mod http;
mod load;
mod nginx;
mod process;
mod rebuild;
mod report;
mod resources;
mod servers;
mod stand;
mod writes;

use anyhow::Result;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Of load, for each contestant in each round.
    pub seconds: usize,
    /// How often all take their turn.
    pub rounds: usize,
    /// Everything in a minute, and coarsely.
    pub is_quick: bool,
}

impl Effort {
    fn new(is_quick: bool) -> Self {
        let (seconds, rounds) = if is_quick { (1, 3) } else { (2, 7) };
        Self { seconds, rounds, is_quick }
    }
}

fn main() -> Result<()> {
    stand::check_programs()?;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let is_named = |name: &str| arguments.iter().any(|argument| argument == name);
    let names_none = !arguments.iter().any(|argument| !argument.starts_with('-'));
    let is_asked = |name: &str| names_none || is_named(name);
    let effort = Effort::new(is_named("--quick"));
    let stand = stand::Stand::new()?;
    if ["hits", "rebuild", "writes", "resources"].into_iter().any(is_asked) {
        report::goals_head();
    }
    let figures = if is_asked("hits") { hits::measure(&stand, effort)? } else { vec![] };
    if is_asked("rebuild") {
        rebuild::measure(&stand, effort)?;
    }
    if is_asked("writes") {
        writes::measure(&stand, effort)?;
    }
    if is_asked("resources") {
        resources::measure(&stand, effort)?;
    }
    if !figures.is_empty() {
        report::head("Behind these", &["", "requests/s", "CPU per request, µs"]);
        figures.iter().for_each(|figure| report::line(figure));
    }
    if is_named("growth") || names_none && !effort.is_quick {
        growth::measure(&stand)?;
    }
    Ok(())
}
