//! What one would write on a Sunday, for `scripts/bench` to hold tasklist against: the same page over the same
//! database, kept whole in memcached by the `memcache` crate, with one blocking `get` for each request. A miss builds
//! the page and stores it; until it expires it is as old as it is.
//!
//! `naive postgres://user@host/name 'memcache://user:password@host:11211?protocol=binary'` serves on a free port of
//! this machine, and prints where. A number behind that is how many connections to memcached it has; the crate's own
//! pool has one.

use anyhow::{Context, Result};
use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use tasklist::db::{Database, DatabaseUrl};
use tasklist::tasks;
use tasklist::templates::{IndexPage, TaskRow};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

const KEY: &str = "naive.page";

/// Seconds, as the tutorial has it.
const TTL: u32 = 600;

#[derive(Clone)]
struct App {
    db: Database,
    cache: memcache::Client,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: naive POSTGRES_URL MEMCACHE_URL [CONNECTIONS]";
    let url: DatabaseUrl = arguments.next().context(usage)?.parse()?;
    let cache = arguments.next().context(usage)?;
    let connections = arguments.next().map(|number| number.parse().context(usage)).transpose()?;
    let connect = move || match connections {
        Some(connections) => memcache::Client::with_pool_size(cache, connections),
        None => memcache::connect(cache),
    };
    let app = App { db: Database::new(&url), cache: spawn_blocking(connect).await?? };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", get(index)).with_state(app)).await?;
    Ok(())
}

async fn index(State(app): State<App>) -> Result<Html<String>, StatusCode> {
    show(app).await.map(Html).map_err(|error| {
        eprintln!("naive: {error:#}");
        StatusCode::INTERNAL_SERVER_ERROR
    })
}

async fn show(app: App) -> Result<String> {
    let cache = app.cache.clone();
    if let Some(page) = spawn_blocking(move || cache.get(KEY)).await?? {
        return Ok(page);
    }
    let page = build(&app.db).await?;
    let (cache, stored) = (app.cache, page.clone());
    spawn_blocking(move || cache.set(KEY, stored, TTL)).await??;
    Ok(page)
}

async fn build(db: &Database) -> Result<String> {
    let page = tasks::page_stamped(db, 1).await?.value;
    let rows = page.tasks.iter().map(|task| Ok(TaskRow { task }.render()?.into())).collect::<Result<_>>()?;
    let page = IndexPage { rows, page, name: String::new(), problem: None, messages: vec![] };
    Ok(page.render()?)
}
