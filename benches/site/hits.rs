//! The cached page, beside the limit and beside a Sunday's work.

use anyhow::{Context, Result};

use super::Effort;
use super::contest::{Contestant, Rounds, contest};
use super::http::Client;
use super::load::{Load, Target};
use super::report::{Goal, goal, thousands};
use super::stand::{App, Example, NAME, Stand};

/// Bytes of the page, plain.
const PAGE: usize = 13_000;

/// Connections to memcached of a naive server that has thought of them.
const POOL: u32 = 16;

const MANY: usize = 128;
const FEW: usize = 32;

/// Who did how many requests a second, at how much processor time each: the figures behind the ratios.
pub type Figures = Vec<[String; 3]>;

pub fn measure(stand: &Stand, effort: Effort) -> Result<Figures> {
    let mut figures = vec![];
    with_postgres(stand, effort, &mut figures)?;
    with_sqlite(stand, effort, &mut figures)?;
    Ok(figures)
}

fn with_postgres(stand: &Stand, effort: Effort, figures: &mut Figures) -> Result<()> {
    let database = stand.database("hits", 0)?;
    let app = App::start(&stand.variables(&database))?;
    fill_page(stand, &database, &app)?;
    let page = app.warm(&Target::page(""))?;
    let limit = Example::static_page(&page)?;
    let naive = Example::naive(stand, &database, None)?;
    let pooled = Example::naive(stand, &database, Some(POOL))?;
    let tag = page.look()?.header("etag").context("a page has a tag")?.to_owned();
    let same = page.clone().with(&format!("if-none-match: {tag}")).expecting(304);

    let ours = stand.contestant(&[&app], &page);
    let theirs =
        |naive: &Example| naive.contestant(&page.clone().hit_or_not(), &[stand.memcached.process.id()]);
    let (limits, theirs, pooled) = (limit.contestant(&page, &[]), theirs(&naive), theirs(&pooled));
    let rounds = contest(&[&ours, &limits, &theirs, &pooled], load(MANY, effort), effort.rounds)?;
    at_least(
        "cached page, Postgres + memcached, 128 connections, of the static handler",
        rounds.ratio(0, 1),
        0.7,
        0.85,
    );
    let cpu = Goal::AtMost { must: 1.6, aim: 1.3 };
    goal(
        "CPU per hit there, app + database + memcached, over the static handler's",
        rounds.cpu_ratio(0, 1),
        "",
        cpu,
    );
    at_least("cached page there, of the naive server", rounds.ratio(0, 2), 10.0, 15.0);
    note(
        figures,
        "128 connections",
        &["tasklist, Postgres + memcached", "static handler", "naive server", "naive server, 16 connections"],
        &rounds,
    );

    let rounds = contest(&[&ours, &limit.contestant(&page, &[])], load(FEW, effort), effort.rounds)?;
    at_least(
        "cached page, Postgres + memcached, 32 connections, of the static handler",
        rounds.ratio(0, 1),
        0.55,
        0.75,
    );
    note(figures, "32 connections", &["tasklist, Postgres + memcached", "static handler"], &rounds);

    let ours = stand.contestant(&[&app], &same);
    let rounds = contest(&[&ours, &limit.contestant(&same, &[])], load(MANY, effort), effort.rounds)?;
    at_least(
        "304 by If-None-Match, 128 connections, of the static handler's 304",
        rounds.ratio(0, 1),
        0.6,
        0.75,
    );
    note(figures, "304, 128 connections", &["tasklist, Postgres + memcached", "static handler"], &rounds);
    Ok(())
}

fn with_sqlite(stand: &Stand, effort: Effort, figures: &mut Figures) -> Result<()> {
    let database = stand.file("hits.sqlite3", 0)?;
    let app = App::start(&[("DATABASE_URL", database.clone())])?;
    fill_page(stand, &database, &app)?;
    let page = app.warm(&Target::page(""))?;
    let limit = Example::static_page(&page)?;
    // Who works for it is the program alone.
    let ours = Contestant::new(page.clone(), &[app.process.id()]);
    let rounds = contest(&[&ours, &limit.contestant(&page, &[])], load(MANY, effort), effort.rounds)?;
    at_least(
        "cached page, SQLite + locmem, 128 connections, of the static handler",
        rounds.ratio(0, 1),
        0.75,
        0.9,
    );
    note(figures, "128 connections", &["tasklist, SQLite + locmem", "static handler"], &rounds);
    Ok(())
}

fn note(figures: &mut Figures, what: &str, who: &[&str], rounds: &Rounds) {
    for (index, name) in who.iter().enumerate() {
        let (requests, cpu) =
            (thousands(rounds.per_second(index)), format!("{:.1}", rounds.microseconds(index)));
        figures.push([format!("{name}, {what}"), requests, cpu]);
    }
}

fn at_least(what: &str, figure: f64, must: f64, aim: f64) {
    goal(what, figure, "", Goal::AtLeast { must, aim });
}

pub fn load(connections: usize, effort: Effort) -> Load {
    Load { connections, seconds: effort.seconds }
}

/// Adds tasks until the page is as long as it has to be.
pub fn fill_page(stand: &Stand, database: &str, app: &App) -> Result<()> {
    let mut client = Client::connect(&app.url)?;
    let mut length = || Ok::<_, anyhow::Error>(client.get("/", &[])?.body.len());
    let empty = length()?;
    stand.add(database, 10, NAME)?;
    let with_ten = length()?;
    stand.add(database, (PAGE - with_ten) / ((with_ten - empty) / 10), NAME)
}
