//! A small shop that uses all four crates: a shelf of books that visitors look at, add to and buy from.
//! docs/reuse.md goes through it piece by piece.
//!
//! `bookshop 127.0.0.1:11211 books.sqlite` serves on a free port of this machine, and prints where. Start it twice,
//! with the same memcached and the same file, and the two are one shop.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use askama::Template;
use axum::extract::{Form, FromRef, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use neverstale::backend::memcached::Memcached;
use neverstale::fragment::{Fragments, digest};
use neverstale::query::CachedQuery;
use neverstale::version::{Lost, VersionSource, Versions};
use neverstale::{Cache, CacheOptions, Key, Secret, Ttl};
use neverstale_axum::{PageCache, PageContext, PageVersion, watch_order};
use neverstale_sessions::{Session, Sessions};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use tokio::net::TcpListener;
use tokio_memcached::{Client, Expiration, Options};
use tower_http::csrf::CsrfLayer;

const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));
const DAY: Ttl = Ttl::After(Duration::from_secs(24 * 60 * 60));

// The books are in a database of one's own. What the cache needs of it is the last table: a version that is drawn anew,
// and never twice, in the transaction of every change, whoever makes it.
const SCHEMA: &str = "
    create table if not exists books (id integer primary key autoincrement, title text not null, pence integer not null);
    create table if not exists secret (key blob not null);
    insert into secret select randomblob(32) where not exists (select * from secret);
    create table if not exists shelf (version text not null);
    insert into shelf select lower(hex(randomblob(16))) where not exists (select * from shelf);
    create trigger if not exists added after insert on books
        begin update shelf set version = lower(hex(randomblob(16))); end;
    create trigger if not exists changed after update on books
        begin update shelf set version = lower(hex(randomblob(16))); end;
    create trigger if not exists removed after delete on books
        begin update shelf set version = lower(hex(randomblob(16))); end;
";

#[derive(Serialize, Deserialize)]
struct Book {
    id: i64,
    title: String,
    pence: i64,
}

/// All books, and the version of the shelf that they were read of.
#[derive(Serialize, Deserialize)]
struct Shelf {
    version: String,
    books: Vec<Book>,
}

/// What handlers take their parts from.
#[derive(Clone, FromRef)]
struct Shop {
    db: SqlitePool,
    client: Client,
    cache: Cache,
    shelf: CachedQuery<Shelf, Problem>,
    rows: Fragments,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bookshop MEMCACHED FILE";
    let options = Options::new([arguments.next().context(usage)?.parse()?])?;
    let db = open(&arguments.next().context(usage)?).await?;
    let site = site(db, options).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);
    Ok(axum::serve(listener, site).await?)
}

async fn open(file: &str) -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal);
    // Without a database there is no page. A visitor is told so soon.
    let pool = SqlitePoolOptions::new().acquire_timeout(Duration::from_secs(3));
    let db = pool.connect_with(options).await?;
    sqlx::raw_sql(SCHEMA).execute(&db).await?;
    Ok(db)
}

async fn site(db: SqlitePool, options: Options) -> anyhow::Result<Router> {
    // One client for what is no cache, such as counters, and one under the cache.
    let client = Client::new(options.clone());
    let prefix = "bookshop".parse()?;
    let cache = Cache::new(Memcached::new(options), CacheOptions::default().prefix(prefix));

    // Whoever asks for the shelf first asks which version of it is the current one, together with all who ask just now.
    let origin = db.clone();
    let gate = VersionSource::new(move || current_version(origin.clone()));
    let versions = Versions::of(&gate, |problem| Problem::clone(&problem));
    let shelf =
        CachedQuery::versioned(&cache, Key::new("books")?, versions, |shelf: &Shelf| shelf.version.clone());

    // What another build of this file has rendered is not shown by this one.
    let build = digest(include_str!("main.rs"));
    let rows = Fragments::new(&cache, "book", build.clone(), DAY);
    let pages = PageCache::new(&cache).named("bookshop");
    let front = pages.cache_page(DAY).without_query().digest(build.clone()).versioned(&gate, Problem::clone);
    let prices = pages.cache_page(MINUTE).without_query().digest(build);

    // All processes sign with the same key, which so outlives each of them.
    let (key,): (Vec<u8>,) = sqlx::query_as("select key from secret").fetch_one(&db).await?;
    let sessions = Sessions::in_cache(&cache, &Secret::try_from(&key[..])?);

    let shop = Shop { db, client, cache, shelf, rows };
    Ok(Router::new()
        .route("/", get(index).layer(front).post(add))
        .route("/prices", get(show_prices).layer(prices))
        .route("/basket", get(basket).post(buy))
        .route("/visits", get(visits))
        .route("/cache", get(layers))
        .layer(sessions.layer())
        // Forms on cached pages are everybody's, so no token is in them: the browser says where a form came from.
        .layer(CsrfLayer::new())
        // Warns if a layer between here and the pages makes them one visitor's own.
        .layer(watch_order())
        .with_state(shop))
}

// Versioned data: which version is the current one, and the books with the version that they are of, in one statement.

async fn current_version(db: SqlitePool) -> Result<String, Problem> {
    let (version,) = sqlx::query_as("select version from shelf").fetch_one(&db).await?;
    Ok(version)
}

/// An empty shelf has a version and no books.
#[derive(sqlx::FromRow)]
struct Line {
    version: String,
    id: Option<i64>,
    title: Option<String>,
    pence: Option<i64>,
}

async fn read(db: SqlitePool) -> Result<Shelf, Problem> {
    let sql = "select version, id, title, pence from shelf left join books on true order by id";
    let lines: Vec<Line> = sqlx::query_as(sql).fetch_all(&db).await?;
    let version = lines.first().map(|line| line.version.clone()).ok_or(sqlx::Error::RowNotFound)?;
    let book = |Line { id, title, pence, .. }| Some(Book { id: id?, title: title?, pence: pence? });
    Ok(Shelf { version, books: lines.into_iter().filter_map(book).collect() })
}

// The page of the shelf: kept whole, made of rows that are kept as well, of books that are kept as well.

#[derive(Template)]
#[template(
    ext = "html",
    source = "<li>{{ book.title }}, {{ book.pence }}p
    <form method=post action=/basket><button name=id value={{ book.id }}>Buy</button></form></li>"
)]
struct Row<'a> {
    book: &'a Book,
}

async fn index(
    State(shop): State<Shop>,
    Extension(context): Extension<PageContext>,
) -> Result<impl IntoResponse, Problem> {
    // The layer has asked for the version already, and need not be asked again.
    let shelf = shop.shelf.at(context.version);
    let db = shop.db.clone();
    let shelf = shelf.get_or_set(async move || read(db).await).await?;
    // All that a row shows is in its key, so a row is never old. All rows are asked for in one round trip.
    let shown = |book: &Book| [book.id.to_string(), book.title.clone(), book.pence.to_string()];
    let render = |book: &Book| Row { book }.render().expect("rendering into memory does not fail");
    let rows = shop.rows.get_or_render(&shelf.books, shown, render).await;
    let page = format!(
        "<!doctype html><title>Bookshop</title><h1>Books</h1><ul>{}</ul>\
         <form method=post><input name=title><input name=pence type=number><button>Add</button></form>",
        rows.concat()
    );
    // Under this version, which was read together with the books, the page is kept.
    Ok((Extension(PageVersion(shelf.version)), Html(page)))
}

#[derive(Deserialize)]
struct AddBook {
    title: String,
    pence: i64,
}

/// Changes the books and tells the cache nothing: the database has drawn a new version.
async fn add(State(db): State<SqlitePool>, Form(book): Form<AddBook>) -> Result<Redirect, Problem> {
    let sql = "insert into books (title, pence) values ($1, $2)";
    sqlx::query(sql).bind(book.title).bind(book.pence).execute(&db).await?;
    Ok(Redirect::to("/"))
}

/// A page that may be a minute old: the layer around it is all there is to it.
async fn show_prices(State(db): State<SqlitePool>) -> Result<Html<String>, Problem> {
    let sql = "select count(*), coalesce(sum(pence), 0) from books";
    let (books, pence): (i64, i64) = sqlx::query_as(sql).fetch_one(&db).await?;
    Ok(Html(format!("<!doctype html><title>Prices</title><p>{books} books for {pence}p")))
}

// The client by itself: a number that all processes count, and that no cache keeps for good.

async fn visits(State(client): State<Client>) -> String {
    match count(&client, "bookshop.visits").await {
        Ok(visits) => format!("visit {visits}"),
        Err(error) => format!("visits are not counted at the moment: {error}"),
    }
}

/// A number is text, and begins with whoever is first to add it.
async fn count(client: &Client, key: &str) -> Result<u64, tokio_memcached::Error> {
    loop {
        if let Some(sum) = client.incr(key, 1).await? {
            return Ok(sum);
        }
        if client.add(key, "1", Expiration::Never).await? {
            return Ok(1);
        }
    }
}

// A session: what one visitor has put into the basket.

const BASKET: &str = "basket";

#[derive(Deserialize)]
struct Buy {
    id: i64,
}

async fn basket(session: Session) -> String {
    match session.get::<Vec<i64>>(BASKET).await {
        Ok(ids) => format!("in your basket: {:?}", ids.unwrap_or_default()),
        Err(_) => "your basket is out of reach at the moment".into(),
    }
}

/// Without the cache there is no basket to put anything into, and a visitor is told so.
async fn buy(session: Session, Form(Buy { id }): Form<Buy>) -> Result<Redirect, Problem> {
    let mut ids: Vec<i64> = session.get(BASKET).await?.unwrap_or_default();
    ids.push(id);
    session.insert(BASKET, &ids).await?;
    // The layer saves it at the end as well; but now it can still be said that it was not saved.
    session.save().await?;
    Ok(Redirect::to("/basket"))
}

/// What each layer of the cache has done in this process.
async fn layers(State(cache): State<Cache>) -> String {
    let line = |layer: &neverstale::LayerStats| {
        format!("{}: {} hits, {} misses, {} fills\n", layer.layer, layer.hits, layer.misses, layer.fills)
    };
    cache.stats().iter().map(line).collect()
}

/// Why there is no page: the database or, for a basket, the cache. All who wait for the same query are told the same.
#[derive(Clone, Debug)]
struct Problem(Arc<dyn Error + Send + Sync>);

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl From<Lost> for Problem {
    fn from(error: Lost) -> Self {
        Self(Arc::new(error))
    }
}

impl From<tower_sessions::session::Error> for Problem {
    fn from(error: tower_sessions::session::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        eprintln!("bookshop: {self}");
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}
