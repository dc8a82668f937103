//! `tasklist serve`: the server, from its first lines of output to the last request.

use std::io::{self, IsTerminal};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::remedy::{read_remedy, unreachable};
use crate::app::AppState;
use crate::config::cache::{BackendConfig, CacheStrategy};
use crate::config::log::LogFormat;
use crate::config::{Config, LogConfig};
use crate::db::{self, Database};
use crate::error::Error;
use crate::router::router;
use crate::server::{self, Limits};
use crate::telemetry::{self, Output};
use neverstale_sessions::Sessions;

/// How long the database may take to come up.
const DATABASE_START: Duration = Duration::from_secs(10);

/// How many connections may wait to be accepted, since many may arrive at once.
const BACKLOG: u32 = 4096;

/// How long new requests are still served after a TERM, since load balancers notice it late. Each response closes its
/// connection.
const LINGER: Duration = Duration::from_secs(1);

/// How long requests have after that, and then changes whose clients have left. Heroku kills after 30 s.
const DRAIN: Duration = Duration::from_secs(24);
const DRAIN_CHANGES: Duration = Duration::from_secs(1);

/// How long the cache may take then for what is pending, such as a delete that a server has not confirmed.
const DRAIN_CACHE: Duration = Duration::from_secs(1);

/// The same after a Ctrl-C, from somebody who waits.
const DRAIN_INTERRUPTED: Duration = Duration::from_secs(8);

/// How often expired sessions are removed, and how many thousands at a time.
const CLEARING: Duration = Duration::from_secs(60 * 60);
const CLEARING_ROUNDS: usize = 100;

/// Starts the log, serves, and waits a little for the log's last lines to be written.
pub(super) fn start(config: &Config, runtime: &Runtime) -> Result<()> {
    let output = Output::new(&io::stdout()).context("failed to open the log")?;
    telemetry::init(&config.log, LogConfig::INFO, output.writer(), io::stdout().is_terminal());
    telemetry::log_panics();
    runtime.block_on(run(config, &output))
}

async fn run(config: &Config, output: &Output) -> Result<()> {
    let address = config.server.address();
    let socket = bind(address).map_err(|error| explain_bind(address, error))?;
    let state = AppState::from_config(config)?;
    let version = wait_for(&state.db, config).await?;
    prepare(&state.db, config).await?;
    // Until here a signal ends the process at once. From its first connection on it has something to end.
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(listen);
    // Not earlier: a load balancer takes a process that listens for one that serves.
    let listener = socket.listen(BACKLOG).map_err(|error| explain_bind(address, error))?;
    announce(config, &state, listener.local_addr()?, &version, output).await;
    let limits = Limits::for_process(reserved_descriptors(&config.cache.backend));
    serve(listener, state, limits, stop_signal(signals)).await;
    Ok(())
}

/// Binds the address, and accepts no connection yet.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Or the connections of the process before would keep it for a minute.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Returns what to do about an address that cannot be taken.
pub(super) fn bind_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "set PORT to one that is free, or stop what runs there",
        io::ErrorKind::AddrNotAvailable => "set HOST to an address of this machine, such as 127.0.0.1",
        io::ErrorKind::PermissionDenied => "set PORT to 1024 or above",
        _ => "check HOST and PORT",
    }
}

fn explain_bind(address: SocketAddr, error: io::Error) -> anyhow::Error {
    let remedy = bind_remedy(&error);
    anyhow::Error::new(error).context(format!("failed to listen on {address}; {remedy}"))
}

async fn wait_for(db: &Database, config: &Config) -> Result<String> {
    let deadline = Instant::now() + DATABASE_START;
    loop {
        let error = match db.version().await {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        if Instant::now() >= deadline || !error.is_transient() {
            let cause = db.knock().await.err().unwrap_or(error);
            return Err(unreachable(&config.database.url, cause));
        }
        sleep(Duration::from_millis(250)).await;
    }
}

async fn prepare(db: &Database, config: &Config) -> Result<()> {
    let url = &config.database.url;
    if config.development {
        let failed = || format!("failed to migrate {url}; `tasklist check` says more");
        db.migrate().await.with_context(failed)?;
    } else {
        let failed = |error: db::Error| {
            let remedy = read_remedy(&error);
            anyhow::Error::new(error).context(format!("failed to look into {url}; {remedy}"))
        };
        let pending = db.pending_migrations().await.map_err(failed)?;
        if !pending.is_empty() {
            bail!("{url} is not migrated ({} missing); run `tasklist migrate` first", pending.join(", "));
        }
    }
    db.open_change_tokens().await;
    Ok(())
}

/// Says what the server runs on.
async fn announce(config: &Config, state: &AppState, address: SocketAddr, version: &str, output: &Output) {
    let url = format!("http://{}/", clickable(address));
    let (cache, strategy) = (&state.cache, config.cache.strategy);
    let sessions = config.session.engine.describe();
    let is_shared = !matches!(config.cache.backend, BackendConfig::Locmem);
    if strategy != CacheStrategy::Versioned && !config.development && !is_shared {
        tracing::warn!("the cache is this process's own: changes by others are seen up to 5 minutes late");
    }
    if let Some(weakness) = config.session.weakness().filter(|_| !config.development) {
        tracing::warn!("{weakness}");
    }
    let mode = if config.development { "development" } else { "production" };
    if config.log.format == LogFormat::Json {
        for check in cache.check().await {
            match check.outcome {
                Ok(found) => tracing::info!(cache.server = check.server, found, "the cache answers"),
                Err(error) => tracing::warn!("pages are served without the cache: {error}"),
            }
        }
        tracing::info!(mode, url, database = version, %cache, %strategy, sessions, "serving");
        return;
    }
    output.say(&format!("tasklist {} ({mode})", env!("CARGO_PKG_VERSION")));
    output.say(&format!("  address   {url}"));
    output.say(&format!("  database  {} ({version})", config.database.url));
    output.say(&format!("  cache     {cache}"));
    for check in cache.check().await {
        match check.outcome {
            Ok(found) => output.say(&format!("            {}: {found}", check.server)),
            Err(error) => output.say(&format!("            {error}; pages are served without it")),
        }
    }
    if config.server.debug() {
        output.say(&format!("            look inside at {url}cache"));
    }
    output.say(&format!("  strategy  {strategy}"));
    output.say(&format!("  sessions  {sessions}"));
}

/// Returns an address that a browser on this machine can open.
fn clickable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        let localhost = if address.is_ipv4() { [127, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(localhost);
    }
    address
}

/// Returns how many files the process may need to have open beside its clients' connections: for the log, the runtime
/// and the listener about 10; for the database 10 connections, of three files each with SQLite, and two files to look
/// at; 16 for a cache in files; the service behind `/apicalls`; and for each cache server 8 connections and one that is
/// on its way out.
fn reserved_descriptors(cache: &BackendConfig) -> u64 {
    let servers = match cache {
        BackendConfig::Memcached(options) | BackendConfig::MemcacheCrate(options) => options.servers().len(),
        _ => 0,
    };
    64 + 9 * servers as u64
}

/// Serves until `stop`, which returns whether it came from a terminal.
async fn serve(listener: TcpListener, state: AppState, limits: Limits, stop: impl Future<Output = bool>) {
    let (cache, changes, stopping) = (state.cache.clone(), state.changes.clone(), state.stopping.clone());
    let clearing = tokio::spawn(clear_sessions(state.sessions.clone()));
    let watching = tokio::spawn(state.monitor.clone().watch());
    let stop = async {
        let is_interrupted = stop.await;
        tracing::info!("stopping: requests under way are ended; Ctrl-C cuts them");
        stopping.cancel();
        if is_interrupted {
            return DRAIN_INTERRUPTED;
        }
        sleep(LINGER).await;
        DRAIN
    };
    let seen = state.monitor.connections();
    let hurried = interrupted_again(stopping.clone());
    let is_well = tokio::select! {
        is_well = server::serve(listener, router(state), limits, seen, stop) => is_well,
        () = hurried => false,
    };
    if !is_well {
        tracing::warn!("requests that did not end in time are cut");
    }
    clearing.abort();
    watching.abort();
    // Changes whose clients have left: no request waits for them.
    changes.close();
    if timeout(DRAIN_CHANGES, changes.wait()).await.is_err() {
        tracing::warn!("{} changes may not be visible in the cache until it expires", changes.len());
    }
    cache.close(DRAIN_CACHE).await;
    for stats in cache.stats() {
        tracing::info!("cache since start, {stats}");
    }
    tracing::info!("stopped");
}

/// Removes expired sessions now and then; several processes do so at different times.
async fn clear_sessions(sessions: Sessions) {
    sleep(CLEARING.mul_f64(fastrand::f64())).await;
    loop {
        match sessions.clear_expired(CLEARING_ROUNDS).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "expired sessions removed"),
            Err(error) => tracing::warn!("expired sessions stay: {}", Error::from(error)),
        }
        sleep(CLEARING).await;
    }
}

/// Catches a signal from now on, in place of what it would do by itself.
fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("the process may install signal handlers")
}

/// Waits for a signal to stop, and returns whether it came from a terminal.
async fn stop_signal([mut terminate, mut interrupt]: [Signal; 2]) -> bool {
    tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => true,
    }
}

/// Waits for a Ctrl-C after the server was told to stop.
async fn interrupted_again(stopping: CancellationToken) {
    stopping.cancelled().await;
    listen(SignalKind::interrupt()).recv().await;
}
