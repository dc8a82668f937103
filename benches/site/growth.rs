//! How cost grows: by strategy and backend, length of the page, connections, instances, and number of tasks.

use anyhow::Result;

use super::contest::{Rounds, contest, median};
use super::hits::fill_page;
use super::load::{Load, Target};
use super::rebuild::{Bench, Cost};
use super::report::{head, line, thousands};
use super::stand::{App, Example, NAME, Stand};
use super::writes::add;

const ROUNDS: usize = 3;
const SECONDS: usize = 1;
const CONNECTIONS: usize = 128;

const AS_BROWSERS: &str = "accept-encoding: gzip, deflate, br, zstd";

const STRATEGIES: [&str; 5] = ["versioned", "expire", "delete", "rotate", "update"];
const BACKENDS: [&str; 5] = ["memcached", "memcache crate", "locmem", "db", "file"];

type Variables = Vec<(&'static str, String)>;

pub fn measure(stand: &Stand) -> Result<()> {
    let database = stand.database("growth", 0)?;
    let app = App::start(&stand.variables(&database))?;
    fill_page(stand, &database, &app)?;
    strategies(stand, &database)?;
    visitors(stand, &app)?;
    connections(stand, &app)?;
    instances(stand, &database)?;
    sizes(stand, &database, &app)?;
    rebuilds(stand)
}

fn load(connections: usize) -> Load {
    Load { connections, seconds: SECONDS }
}

/// What is shown of a program in first place and the limit in second.
fn cells(rounds: &Rounds) -> [String; 4] {
    [
        thousands(rounds.per_second(0)),
        thousands(rounds.per_second(1)),
        format!("{:.2}", rounds.ratio(0, 1)),
        format!("{:.2}", rounds.cpu_ratio(0, 1)),
    ]
}

const CELLS: [&str; 5] = ["", "requests/s", "static handler's", "ratio", "CPU per request, ratio"];

fn strategies(stand: &Stand, database: &str) -> Result<()> {
    let columns: Vec<_> = [""].into_iter().chain(BACKENDS).collect();
    head(
        "Cached page by strategy and backend: requests a second, of the static handler's; CPU, over its",
        &columns,
    );
    for strategy in STRATEGIES {
        let mut cells = vec![format!("`{strategy}`")];
        for backend in BACKENDS {
            let directory = tempfile::tempdir()?;
            let mut variables = over(stand, backend, &directory.path().display().to_string());
            variables.push(("DATABASE_URL", database.to_owned()));
            variables.push(("CACHE_STRATEGY", strategy.to_owned()));
            variables.push(("CACHE_KEY_PREFIX", strategy.to_owned()));
            let app = App::start(&variables)?;
            let target = Target { may_expire: strategy == "expire", ..Target::page("") };
            cells.push(match beside_limit(stand, &[&app], &target, CONNECTIONS) {
                Ok(rounds) => format!("{:.2}; {:.1}", rounds.ratio(0, 1), rounds.cpu_ratio(0, 1)),
                Err(error) => {
                    eprintln!("{strategy} over {backend}: {error}");
                    "failed".into()
                }
            });
        }
        line(&cells);
    }
    Ok(())
}

fn over(stand: &Stand, backend: &str, directory: &str) -> Variables {
    match backend {
        "memcached" => stand.memcached.variables(),
        "memcache crate" => {
            let mut variables = stand.memcached.variables();
            variables.push(("MEMCACHE_CLIENT", "memcache".into()));
            variables
        }
        "file" => vec![("CACHE_URL", format!("file://{directory}"))],
        other => vec![("CACHE_URL", format!("{other}://"))],
    }
}

fn beside_limit(stand: &Stand, apps: &[&App], target: &Target, connections: usize) -> Result<Rounds> {
    let mut warm = vec![];
    for app in apps {
        warm.push(app.warm(target)?);
    }
    let limit = Example::static_page(&warm[0])?;
    let mut theirs = limit.contestant(target, &[]);
    // From as many generators as ours.
    theirs.targets = vec![theirs.targets[0].clone(); apps.len()];
    contest(&[&stand.contestant(apps, target), &theirs], load(connections), ROUNDS)
}

fn visitors(stand: &Stand, app: &App) -> Result<()> {
    head("By visitor", &CELLS);
    let compressed = Target::page("").with(AS_BROWSERS);
    let guest = Target::page("").with(&format!("cookie: {}", add(app, &[])?));
    let both = compressed.clone().with_all(&guest.headers);
    let visitors = [
        ("plain, no cookie", Target::page("")),
        ("in brotli, as to browsers", compressed),
        ("with a session", guest),
        ("in brotli, with a session", both),
    ];
    for (what, target) in visitors {
        table_line(what, &beside_limit(stand, &[app], &target, CONNECTIONS)?);
    }
    Ok(())
}

fn table_line(what: &str, rounds: &Rounds) {
    line(&[what.to_owned()].into_iter().chain(cells(rounds)).collect::<Vec<_>>());
}

fn connections(stand: &Stand, app: &App) -> Result<()> {
    head("By connections", &CELLS);
    for connections in [1, 8, 32, 128, 512] {
        let rounds = beside_limit(stand, &[app], &Target::page(""), connections)?;
        table_line(&connections.to_string(), &rounds);
    }
    Ok(())
}

fn instances(stand: &Stand, database: &str) -> Result<()> {
    head("By processes, which share Postgres, memcached and 128 connections", &CELLS);
    for count in [1, 2, 4] {
        let apps = (0..count).map(|_| App::start(&stand.variables(database)));
        let apps = apps.collect::<Result<Vec<_>>>()?;
        let apps: Vec<_> = apps.iter().collect();
        table_line(&count.to_string(), &beside_limit(stand, &apps, &Target::page(""), CONNECTIONS)?);
    }
    Ok(())
}

fn sizes(stand: &Stand, database: &str, app: &App) -> Result<()> {
    head("By what is on the page", &CELLS);
    let long = "Water the plants. ".repeat(30);
    let long = &long[..497]; // and the number behind it
    for (tasks, name, what) in [
        (1, NAME, "1 task"),
        (10, NAME, "10 tasks"),
        (100, NAME, "100 tasks"),
        (100, long, "100 of 500 characters"),
    ] {
        stand.fill(database, tasks, name)?;
        let length = app.warm(&Target::page(""))?.look()?.body.len();
        let rounds = beside_limit(stand, &[app], &Target::page(""), CONNECTIONS)?;
        table_line(&format!("{what}, {} bytes", thousands(length as f64)), &rounds);
    }
    Ok(())
}

fn rebuilds(stand: &Stand) -> Result<()> {
    let title = "Rebuild of the first page after a write, by number of tasks";
    head(title, &["", "ms", "its SQL, ms", "ratio", "in brotli, ratio"]);
    let mut bench = Bench::new(stand, "growing", 0)?;
    for tasks in [1, 10, 100, 1_000, 10_000, 100_000] {
        bench.fill(tasks)?;
        let plain = bench.costs("/", &[], ROUNDS)?;
        let compressed = bench.costs("/", &[AS_BROWSERS.to_owned()], ROUNDS)?;
        let milliseconds = |seconds: f64| format!("{:.2}", seconds * 1000.0);
        let ratio =
            |costs: &[Cost]| format!("{:.2}", median(costs.iter().map(|cost| cost.page / cost.statement)));
        line(&[
            thousands(tasks as f64),
            milliseconds(median(plain.iter().map(|cost| cost.page))),
            milliseconds(median(plain.iter().map(|cost| cost.statement))),
            ratio(&plain),
            ratio(&compressed),
        ]);
    }
    Ok(())
}
