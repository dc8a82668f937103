//! `/cache` and `/cache.json`: the state of the cache, for people and for machines.

use std::time::Duration;

use serde::Serialize;

use super::{Decision, Monitor, Point, lock};
use neverstale::backend::{ErrorKind, Link, ServerStats};
use neverstale::version::VersionStats;
use neverstale::{Latency, LayerStats};

/// Everything about the cache of this process.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where values are kept.
    pub cache: String,
    /// The strategy.
    pub strategy: String,
    /// Where sessions are kept.
    pub sessions: String,
    /// How long the process has been up.
    pub uptime_seconds: u64,
    /// Version checks, with the strategy `versioned`.
    pub gate: Option<VersionChecks>,
    /// What each layer has done.
    pub layers: Vec<Layer>,
    /// The servers, or the store itself.
    pub servers: Vec<Server>,
    /// The latest decisions, the latest first.
    pub decisions: Vec<Decision>,
}

/// Version checks since the process started.
#[derive(Clone, Debug, Serialize)]
pub struct VersionChecks {
    /// Their numbers.
    #[serde(flatten)]
    pub stats: VersionStats,
    /// Queries for each request.
    pub queries_per_call: Option<f64>,
    /// How often the list was read for each version.
    pub builds_per_version: Option<f64>,
}

/// What a layer has done since the process started.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// Its numbers.
    #[serde(flatten)]
    pub stats: LayerStats,
    /// The share of hits.
    pub hit_rate: Option<f64>,
    /// What it did in each ten seconds of the last half hour.
    pub history: Vec<Point>,
}

/// A server, as it and this process see it.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    /// `host:port`, or the name of the store.
    pub server: String,
    /// Why it does not answer, if it does not.
    pub failure: Option<String>,
    /// Whether this process has marked it down.
    pub is_left_out: bool,
    /// Keys any client asked it for that had a value.
    pub hits: Option<u64>,
    /// Keys any client asked it for that had none.
    pub misses: Option<u64>,
    /// The share of hits.
    pub hit_rate: Option<f64>,
    /// Values it holds.
    pub items: Option<u64>,
    /// Bytes it holds.
    pub bytes: Option<u64>,
    /// Bytes it may hold.
    pub limit_bytes: Option<u64>,
    /// Values it has evicted.
    pub evictions: Option<u64>,
    /// How long it has been up.
    pub uptime_seconds: Option<u64>,
    /// Operations of this process.
    pub operations: Option<u64>,
    /// Those of them that failed.
    pub errors: Option<u64>,
    /// The last of these failures, and how long ago it was.
    pub last_error: Option<String>,
    /// Connections this process has made.
    pub connections: Option<u64>,
    /// How long its responses to this process took.
    pub latency: Option<Latency>,
}

/// The order of the layers, from the outside in. Others come first.
const LAYERS: [&str; 6] = ["local", "views", "fragments", "query", "sessions", "cache"];

impl Monitor {
    /// Returns the state of the cache.
    ///
    /// Asks each server for its statistics, for as long as any operation may take.
    pub async fn report(&self) -> Report {
        let shared = &self.0;
        let servers = shared.cache.backend().stats().await;
        let mut layers = shared.cache.stats();
        layers.sort_by_key(|stats| LAYERS.iter().position(|layer| *layer == stats.layer));
        let builds = layers.iter().find(|stats| stats.layer == "query").map_or(0, |stats| stats.builds);
        let history = lock(&shared.history);
        let layer = |stats: LayerStats| {
            let total = Point::from(&stats);
            Layer { hit_rate: total.hit_rate(), history: history.of(stats.layer, total), stats }
        };
        Report {
            cache: shared.cache.to_string(),
            strategy: shared.strategy.clone(),
            sessions: shared.sessions.clone(),
            uptime_seconds: shared.started.elapsed().as_secs(),
            gate: (shared.gate)().map(|stats| VersionChecks::new(stats, builds)),
            layers: layers.into_iter().map(layer).collect(),
            servers: servers.into_iter().map(Server::from).collect(),
            decisions: lock(&shared.decisions).iter().cloned().collect(),
        }
    }
}

impl VersionChecks {
    fn new(stats: VersionStats, builds: u64) -> Self {
        let ratio = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        Self {
            queries_per_call: ratio(stats.queries, stats.calls),
            builds_per_version: ratio(builds, stats.versions),
            stats,
        }
    }
}

impl From<ServerStats> for Server {
    fn from(server: ServerStats) -> Self {
        let link = server.link.as_ref();
        let kind = server.stats.as_ref().err().map(|error| &error.kind);
        let is_refused = matches!(kind, Some(ErrorKind::Down(_)));
        let failure = kind.map(ToString::to_string);
        let stats = server.stats.unwrap_or_default();
        let number = |name: &str| stats.get(name)?.parse().ok();
        let (hits, misses) = (number("get_hits"), number("get_misses"));
        Self {
            server: server.server,
            failure,
            is_left_out: link.map_or(is_refused, |link| link.is_down),
            hits,
            misses,
            hit_rate: hits.zip(misses).and_then(|(hits, misses)| Point { hits, misses }.hit_rate()),
            items: number("curr_items"),
            bytes: number("bytes"),
            limit_bytes: number("limit_maxbytes"),
            evictions: number("evictions"),
            uptime_seconds: number("uptime"),
            operations: link.map(|link| link.operations),
            errors: link.map(|link| link.errors),
            last_error: link
                .and_then(|link| link.last_error.as_ref())
                .map(|(kind, ago)| format!("{kind}, {} s ago", ago.as_secs())),
            connections: link.map(|link| link.connections),
            latency: link.map(|Link { latency, .. }| latency.clone()),
        }
    }
}

impl Layer {
    /// Returns a time that this share of the backend's operations stayed below.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        quantile(&self.stats.latency, share)
    }
}

impl Server {
    /// Returns a time that this share of its responses to this process stayed below.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        quantile(self.latency.as_ref()?, share)
    }
}

fn quantile(latency: &Latency, share: f64) -> Option<Duration> {
    (latency.count() > 0).then(|| latency.quantile(share))
}
