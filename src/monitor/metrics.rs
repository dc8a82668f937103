//! `/metrics`: the same numbers for Prometheus.
//!
//! Names follow its guide: base units, `_total` behind what only grows, and labels of few values.

use std::fmt;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType::{Counter, Gauge, Histogram};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{Monitor, Server};
use crate::telemetry::lost_lines;
use neverstale::{Latency, LayerStats};

impl Monitor {
    /// Returns all numbers as OpenMetrics text.
    ///
    /// Asks each server for its statistics, for as long as any operation may take.
    pub async fn metrics(&self) -> String {
        let servers = self.report().await.servers;
        let mut registry = Registry::default();
        let started = self.0.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let help = "When the process was started, in seconds since 1970";
        registry.register_with_unit("process_start_time", help, Unit::Seconds, ConstGauge::new(started));
        let ours = registry.sub_registry_with_prefix("tasklist");
        ours.register("build", "What is running", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let help = "Lines of the log that its reader or its disk did not take";
        ours.register("log_lines_lost", help, ConstCounter::new(lost_lines()));
        if let Some(gate) = (self.0.gate)() {
            for (name, help, count) in [
                ("gate_calls", "Requests that had to know the current version", gate.calls),
                ("gate_queries", "Queries sent for them", gate.queries),
                ("gate_failures", "Queries that failed", gate.failures),
                ("gate_versions", "Versions met", gate.versions),
            ] {
                ours.register(name, help, ConstCounter::new(count));
            }
        }
        // Layers that have done nothing yet as well, so that their series exist.
        let layers = self.0.cache.stats_of_all();
        ours.register_collector(Box::new(CacheStats { layers, servers }));
        let mut text = String::new();
        text::encode_registry(&mut text, &self.0.registry)
            .and_then(|()| text::encode(&mut text, &registry))
            .expect("writing to a string does not fail");
        text
    }
}

/// The statistics of the cache's layers and servers.
#[derive(Debug)]
struct CacheStats {
    layers: Vec<LayerStats>,
    servers: Vec<Server>,
}

/// A series as it is shown, its help, and its value.
type Series<T, N> = (&'static str, &'static str, fn(&T) -> N);

const LAYERS: [Series<LayerStats, u64>; 11] = [
    ("cache_hits_total", "Keys asked for that had a value", |layer| layer.hits),
    ("cache_misses_total", "Keys asked for that had none", |layer| layer.misses),
    ("cache_unreadable_total", "Misses whose value was not ours, or damaged", |layer| layer.unreadable),
    ("cache_builds_total", "Values built on a miss", |layer| layer.builds),
    ("cache_shared_total", "Values shared with the caller that built them", |layer| layer.shared),
    ("cache_fills_total", "Values stored", |layer| layer.fills),
    ("cache_deletes_total", "Keys removed", |layer| layer.deletes),
    ("cache_refused_total", "Values that the backend would not take", |layer| layer.refused),
    ("cache_errors_total", "Operations that failed", |layer| layer.errors),
    ("cache_read_bytes_total", "Values read", |layer| layer.bytes_read),
    ("cache_written_bytes_total", "Values stored", |layer| layer.bytes_written),
];

const SERVERS: [Series<Server, Option<u64>>; 12] = [
    ("cache_server_up", "Whether the server answers", |server| Some(server.failure.is_none().into())),
    ("cache_server_left_out", "Whether it is marked down", |server| Some(server.is_left_out.into())),
    ("cache_server_items", "Values it holds", |server| server.items),
    ("cache_server_size_bytes", "What it holds", |server| server.bytes),
    ("cache_server_limit_bytes", "What it may hold", |server| server.limit_bytes),
    ("cache_server_uptime_seconds", "How long it has been up", |server| server.uptime_seconds),
    ("cache_server_hits_total", "Keys any client asked it for that had a value", |server| server.hits),
    ("cache_server_misses_total", "Keys any client asked it for that had none", |server| server.misses),
    ("cache_server_evictions_total", "Values it evicted for lack of memory", |server| server.evictions),
    ("cache_server_operations_total", "Operations of this process", |server| server.operations),
    ("cache_server_errors_total", "Operations of this process that failed", |server| server.errors),
    ("cache_server_connections_total", "Connections of this process to it", |server| server.connections),
];

impl Collector for CacheStats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let layers: Vec<_> = self.layers.iter().map(|layer| (layer.layer, layer)).collect();
        encode_numbers(&LAYERS, "layer", &layers, &mut encoder)?;
        let help = "How long the backend took";
        let latencies = layers.iter().map(|(name, layer)| (*name, &layer.latency));
        encode_latencies("cache_operation_duration", help, "layer", latencies, &mut encoder)?;
        let servers: Vec<_> = self.servers.iter().map(|server| (server.server.as_str(), server)).collect();
        encode_numbers(&SERVERS, "server", &servers, &mut encoder)?;
        let help = "How long its responses to this process took";
        let latencies = servers.iter().filter_map(|(name, server)| Some((*name, server.latency.as_ref()?)));
        encode_latencies("cache_server_operation_duration", help, "server", latencies, &mut encoder)
    }
}

/// Writes a family of each series, with a sample for everything whose number is known.
fn encode_numbers<T, N: Into<Option<u64>>>(
    all: &[Series<T, N>],
    label: &str,
    things: &[(&str, &T)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    for (series, help, value) in all {
        let total = series.strip_suffix("_total");
        let (name, kind) = total.map_or((*series, Gauge), |name| (name, Counter));
        let [bytes, seconds] = ["_bytes", "_seconds"].map(|unit| name.strip_suffix(unit));
        let unit = bytes.map(|_| Unit::Bytes).or(seconds.map(|_| Unit::Seconds));
        let name = bytes.or(seconds).unwrap_or(name);
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (named, thing) in things {
            let Some(number) = value(thing).into() else { continue };
            let labels = [(label, *named)];
            let mut sample = family.encode_family(&labels)?;
            match total {
                Some(_) => sample.encode_counter::<NoLabelSet, _, u64>(&number, None)?,
                None => sample.encode_gauge(&number)?,
            }
        }
    }
    Ok(())
}

fn encode_latencies<'a>(
    name: &str,
    help: &str,
    label: &str,
    latencies: impl Iterator<Item = (&'a str, &'a Latency)>,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), Histogram)?;
    for (named, latency) in latencies {
        let ends = (0_u32..).map(|bits| (1_u64 << bits) as f64 / 1e6);
        let mut buckets: Vec<_> = ends.zip(latency.buckets).collect();
        if let Some((end, _)) = buckets.last_mut() {
            *end = f64::INFINITY;
        }
        let (sum, count) = (latency.micros as f64 / 1e6, latency.count());
        let labels = [(label, named)];
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}
