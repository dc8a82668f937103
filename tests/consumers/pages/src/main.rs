//! Cached pages without sessions: one slow page, and a change that makes it anew.
//!
//! `consumer-pages` serves on a free port of this machine, and prints where.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use neverstale::backend::locmem::Locmem;
use neverstale::{Cache, CacheOptions, Ttl};
use neverstale_axum::PageCache;
use tokio::net::TcpListener;

const HOUR: Ttl = Ttl::After(Duration::from_secs(60 * 60));

/// The number that the page shows, and the pages that show it.
#[derive(Clone)]
struct Site {
    number: Arc<AtomicU32>,
    pages: PageCache,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cache = Cache::new(Locmem::new(), CacheOptions::default());
    let pages = PageCache::new(&cache).named("consumer");
    let page = pages.cache_page(HOUR).without_query();
    let site = Router::new()
        .route("/", get(show).layer(page).post(change))
        .with_state(Site { number: Arc::default(), pages });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);
    Ok(axum::serve(listener, site).await?)
}

async fn show(State(site): State<Site>) -> String {
    format!("number {}", site.number.load(Ordering::SeqCst))
}

/// Changes what the page shows, and then purges the page.
async fn change(State(site): State<Site>) -> String {
    let before = site.number.fetch_add(1, Ordering::SeqCst);
    site.pages.purge("/").await;
    format!("number {}", before + 1)
}
