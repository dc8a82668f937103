//! `tasklist serve`: the server, from its first lines of output to the last request.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::app::AppState;
use crate::config::Config;
use crate::config::log::LogFormat;
use crate::db::Database;
use crate::router::router;

/// How long the database may take to come up.
const DATABASE_START: Duration = Duration::from_secs(10);

/// How long requests may take to end after a signal; platforms kill after 10 s and more.
const DRAIN: Duration = Duration::from_secs(9);

pub(super) async fn run(config: &Config) -> Result<()> {
    let address = config.server.address;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("failed to listen on {address}; set PORT to one that is free, or stop what runs there")
    })?;
    let state = AppState::from_config(config)?;
    let version = wait_for(&state.db, config).await?;
    prepare(&state.db, config).await?;
    announce(config, &state, listener.local_addr()?, &version).await;
    serve(listener, state).await
}

async fn wait_for(db: &Database, config: &Config) -> Result<String> {
    let deadline = Instant::now() + DATABASE_START;
    loop {
        let error = match db.version().await {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        if Instant::now() >= deadline || !error.is_transient() {
            let url = &config.database.url;
            return Err(error)
                .with_context(|| format!("failed to reach {url}; check DATABASE_URL and the server"));
        }
        sleep(Duration::from_millis(250)).await;
    }
}

async fn prepare(db: &Database, config: &Config) -> Result<()> {
    let url = &config.database.url;
    if config.development {
        db.migrate().await.with_context(|| format!("failed to migrate {url}"))?;
        return Ok(());
    }
    let pending = db.pending_migrations().await?;
    if !pending.is_empty() {
        bail!("{url} is not migrated ({} missing); run `tasklist migrate` first", pending.join(", "));
    }
    Ok(())
}

/// Says what the server runs on.
async fn announce(config: &Config, state: &AppState, address: SocketAddr, version: &str) {
    let url = format!("http://{}/", clickable(address));
    let cache = &state.cache;
    let strategy = config.cache.strategy;
    if config.log.format == LogFormat::Json {
        tracing::info!(url, database = version, %cache, %strategy, "serving");
        return;
    }
    let mode = if config.development { "development" } else { "production" };
    println!("tasklist {} ({mode})", env!("CARGO_PKG_VERSION"));
    println!("  address   {url}");
    println!("  database  {} ({version})", config.database.url);
    println!("  cache     {cache}");
    for check in cache.check().await {
        match check.outcome {
            Ok(found) => println!("            {}: {found}", check.server),
            Err(error) => println!("            {error}; pages are served without it"),
        }
    }
    println!("  strategy  {strategy}");
    println!("  sessions  none, nothing is kept for a visitor");
}

/// Returns an address that a browser on this machine can open.
fn clickable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        let localhost =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(localhost);
    }
    address
}

async fn serve(listener: TcpListener, state: AppState) -> Result<()> {
    let (draining, drain_started) = oneshot::channel::<()>();
    let cache = state.cache.clone();
    let server = axum::serve(listener, router(state)).with_graceful_shutdown(async move {
        stop_signal().await;
        tracing::info!("stopping: no new connections, requests under way are ended");
        drop(draining);
    });
    let overdue = async {
        let _ = drain_started.await;
        sleep(DRAIN).await;
    };
    tokio::select! {
        result = server => result.context("failed to serve")?,
        () = overdue => tracing::warn!("requests that did not end within {} s are cut", DRAIN.as_secs()),
    }
    tracing::info!("stopped; cache since start: {}", cache.stats());
    Ok(())
}

async fn stop_signal() {
    let [mut terminate, mut interrupt] = [SignalKind::terminate(), SignalKind::interrupt()]
        .map(|kind| signal(kind).expect("the process may install signal handlers"));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
