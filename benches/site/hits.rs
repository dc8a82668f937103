//! The cached page, beside the limit, beside a Sunday's work and beside nginx.

use anyhow::{Context, Result};

use super::Effort;
use super::contest::{Contestant, Rounds, contest};
use super::http::{Client, FORM, SAME_ORIGIN};
use super::load::{Load, Target};
use super::nginx::Nginx;
use super::report::{Goal, goal, thousands};
use super::stand::{App, Example, NAME, Stand};
use super::writes::add;

/// Bytes of the page, plain.
const PAGE: usize = 20_000;

/// Connections to memcached of a naive server that has thought of them.
const POOL: u32 = 16;

const MANY: usize = 128;
const FEW: usize = 32;
const ONE: usize = 1;

/// Adds a task with every twentieth request, and asks for the page with all others.
const MIXED: &str = r#"
local page, form, next
init = function()
    page = wrk.format("GET", "/")
    form = wrk.format("POST", "/add", nil, "name=Water+the+plants")
    next = 0
end
request = function()
    next = next % 20 + 1
    return next == 20 and form or page
end
"#;

/// Who did how many requests a second, at how much processor time each: the figures behind the ratios.
pub type Figures = Vec<[String; 3]>;

pub fn measure(stand: &Stand, effort: Effort) -> Result<Figures> {
    let mut figures = vec![];
    with_postgres(stand, effort, &mut figures)?;
    with_sqlite(stand, effort, &mut figures)?;
    by_hand(stand, effort, &mut figures)?;
    between_changes(stand, effort, &mut figures)?;
    Ok(figures)
}

fn with_postgres(stand: &Stand, effort: Effort, figures: &mut Figures) -> Result<()> {
    let database = stand.database("hits", 0)?;
    let app = App::start(&stand.variables(&database))?;
    fill_page(stand, &database, &app)?;
    let session = add(&app, &[])?;
    let page = app.warm(&Target::page(""))?;
    let limit = Example::static_page(&page)?;
    let naive = Example::naive(stand, &database, None)?;
    let pooled = Example::naive(stand, &database, Some(POOL))?;
    let nginx = Nginx::start(&app.url)?;
    let tag = page.look()?.header("etag").context("a page has a tag")?.to_owned();
    let same = page.clone().with(&format!("if-none-match: {tag}")).expecting(304);

    let ours = stand.contestant(&[&app], &page);
    let visitor = stand.contestant(&[&app], &page.clone().with(&format!("cookie: {session}")));
    let limits = limit.contestant(&page, &[]);
    let theirs =
        |naive: &Example| naive.contestant(&page.clone().hit_or_not(), &[stand.memcached.process.id()]);
    let (theirs, pooled) = (theirs(&naive), theirs(&pooled));
    let cached = nginx.contestant(&page.clone().hit_or_not());
    let rounds =
        contest(&[&ours, &limits, &visitor, &theirs, &pooled, &cached], load(MANY, effort), effort.rounds)?;
    at_least(&cached_page("Postgres + memcached", MANY), rounds.ratio(0, 1), 0.82, 0.92);
    let cpu = "app + database + memcached, over the static handler's";
    at_most(&format!("CPU per hit there, {cpu}"), rounds.cpu_ratio(0, 1), 1.6, 1.3);
    at_least("the same for a visitor with a session", rounds.ratio(2, 1), 0.7, 0.85);
    at_most(&format!("CPU per hit for them, {cpu}"), rounds.cpu_ratio(2, 1), 1.6, 1.25);
    at_least("cached page there, of the naive server", rounds.ratio(0, 3), 10.0, 15.0);
    note(
        figures,
        "128 connections",
        &[
            "tasklist, Postgres + memcached",
            "static handler",
            "tasklist, visitor with a session",
            "naive server",
            "naive server, 16 connections",
            "nginx, pages up to a second old",
        ],
        &rounds,
    );

    for (connections, goal) in [(FEW, [0.66, 0.8]), (ONE, [0.55, 0.65])] {
        let both = [("tasklist, Postgres + memcached", &ours), ("static handler", &limits)];
        pair(figures, both, connections, effort, &cached_page("Postgres + memcached", connections), goal)?;
    }

    let (ours, limits) = (stand.contestant(&[&app], &same), limit.contestant(&same, &[]));
    let both = [("tasklist, Postgres + memcached, 304", &ours), ("static handler, 304", &limits)];
    let what = "304 by If-None-Match, 32 connections, of the static handler's 304";
    pair(figures, both, FEW, effort, what, [0.64, 0.75])
}

fn with_sqlite(stand: &Stand, effort: Effort, figures: &mut Figures) -> Result<()> {
    let database = stand.file("hits.sqlite3", 0)?;
    let app = App::start(&[("DATABASE_URL", database.clone())])?;
    fill_page(stand, &database, &app)?;
    let page = app.warm(&Target::page(""))?;
    let limit = Example::static_page(&page)?;
    // Who works for it is the program alone.
    let ours = Contestant::new(page.clone(), &[app.process.id()]);
    let limits = limit.contestant(&page, &[]);
    for (connections, goal) in [(MANY, [0.82, 0.92]), (FEW, [0.78, 0.88]), (ONE, [0.72, 0.85])] {
        let both = [("tasklist, SQLite + locmem", &ours), ("static handler", &limits)];
        pair(figures, both, connections, effort, &cached_page("SQLite + locmem", connections), goal)?;
    }
    Ok(())
}

/// A strategy of the tutorial's: hits ask memcached for the generation of the page.
fn by_hand(stand: &Stand, effort: Effort, figures: &mut Figures) -> Result<()> {
    let database = stand.database("by_hand", 0)?;
    let mut variables = stand.variables(&database);
    // By a program that sees what is added by hand.
    fill_page(stand, &database, &App::start(&variables)?)?;
    variables.push(("CACHE_STRATEGY", "delete".into()));
    let app = App::start(&variables)?;
    let page = app.warm(&Target::page(""))?;
    let limit = Example::static_page(&page)?;
    let (ours, limits) = (stand.contestant(&[&app], &page), limit.contestant(&page, &[]));
    let both = [("tasklist with `delete`, Postgres + memcached", &ours), ("static handler", &limits)];
    let what = "cached page with `delete`, 32 connections, of the static handler";
    pair(figures, both, FEW, effort, what, [0.42, 0.6])
}

/// The page while it changes again and again.
fn between_changes(stand: &Stand, effort: Effort, figures: &mut Figures) -> Result<()> {
    let database = stand.database("mixed", 100)?;
    let app = App::start(&stand.variables(&database))?;
    let page = Target { may_expire: true, ..app.warm(&Target::page(""))? };
    let mixed = Target { script: MIXED.into(), ..page.clone().with(FORM).with(SAME_ORIGIN) };
    let [mixed, pages] = [mixed, page].map(|target| stand.contestant(&[&app], &target));
    let both = [("tasklist, 95 pages and 5 changes", &mixed), ("tasklist, pages of 100 tasks", &pages)];
    let what = "95 pages and 5 changes, 32 connections, Postgres, of pages alone";
    pair(figures, both, FEW, effort, what, [0.3, 0.45])
}

/// Lets two take turns, and reports how many requests the first does of the other's: what it must reach, and the aim.
fn pair(
    figures: &mut Figures,
    [one, other]: [(&str, &Contestant); 2],
    connections: usize,
    effort: Effort,
    what: &str,
    [must, aim]: [f64; 2],
) -> Result<()> {
    let rounds = contest(&[one.1, other.1], load(connections, effort), effort.rounds)?;
    at_least(what, rounds.ratio(0, 1), must, aim);
    note(figures, &named(connections), &[one.0, other.0], &rounds);
    Ok(())
}

fn cached_page(servers: &str, connections: usize) -> String {
    format!("cached page, {servers}, {}, of the static handler", named(connections))
}

fn named(connections: usize) -> String {
    format!("{connections} connection{}", if connections == 1 { "" } else { "s" })
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

fn at_most(what: &str, figure: f64, must: f64, aim: f64) {
    goal(what, figure, "", Goal::AtMost { must, aim });
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
