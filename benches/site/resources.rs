//! What one process takes: memory, and time to start.

use anyhow::Result;
use tokio::time::Instant;

use super::Effort;
use super::contest::median;
use super::hits::fill_page;
use super::load::{Load, Target, run};
use super::report::{Goal, goal, thousands};
use super::stand::{App, Stand};

const MEGABYTE: f64 = 1024.0 * 1024.0;

const CONNECTIONS: usize = 128;

pub fn measure(stand: &Stand, effort: Effort) -> Result<()> {
    memory(stand, if effort.is_quick { 1.0 } else { 1_000_000.0 })?;
    start(stand, effort.rounds)
}

/// As many hits, or a few more.
fn memory(stand: &Stand, hits: f64) -> Result<()> {
    let database = stand.database("memory", 0)?;
    fill_page(stand, &database, &App::start(&stand.variables(&database))?)?;
    let app = App::start(&stand.variables(&database))?;
    let idle = app.process.memory()? / MEGABYTE;
    let at_most = |must, aim| Goal::AtMost { must, aim };
    goal("resident memory, Postgres + memcached, idle", idle, " MB", at_most(30.0, 20.0));
    let page = app.warm(&Target::page(""))?;
    let mut done = 0.0;
    while done < hits {
        let load = Load { connections: CONNECTIONS, seconds: 2 };
        done += run(std::slice::from_ref(&page), load)?.requests;
    }
    let what = format!("resident memory there after {} hits", thousands(done));
    goal(&what, app.process.memory()? / MEGABYTE, " MB", at_most(50.0, 35.0));
    Ok(())
}

fn start(stand: &Stand, rounds: usize) -> Result<()> {
    let variables = [("DATABASE_URL", stand.file("start.sqlite3", 50)?)];
    let mut times = vec![];
    for _ in 0..rounds {
        let started = Instant::now();
        let app = App::start(&variables)?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        drop(app);
    }
    let aims = Goal::AtMost { must: 200.0, aim: 50.0 };
    goal("start to the first page, SQLite, migrated", median(times), " ms", aims);
    Ok(())
}
