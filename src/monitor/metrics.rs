//! The same numbers for Prometheus, named by its guide: base units, `_total` behind what only grows, and labels of
//! which there are few. Rates and shares are for whoever asks Prometheus.

use std::fmt;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge, Histogram};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::edge::{ConnectionStats, RefusalStats};
use super::requests::RequestStats;
use super::{Monitor, Report, Server};
use crate::telemetry::lost_lines;
use neverstale::{Latency, LayerStats};

impl Monitor {
    /// Returns all numbers as OpenMetrics text. Asks each server for its numbers, for as long as any operation may
    /// take.
    pub async fn metrics(&self) -> String {
        let scrape = Scrape {
            report: self.report().await,
            // Those that have done nothing yet as well: a series that begins above 0 has no rate.
            layers: self.0.cache.stats_of_all(),
            requests: self.0.requests.snapshot(),
            connections: self.0.connections.snapshot(),
            refusals: self.0.refusals.snapshot(),
            lost_lines: lost_lines(),
        };
        let started = self.0.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut registry = Registry::default();
        let help = "When the process was started, in seconds since 1970";
        registry.register_with_unit("process_start_time", help, Unit::Seconds, ConstGauge::new(started));
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("tasklist_build", "What is running", build);
        registry.sub_registry_with_prefix("tasklist").register_collector(Box::new(scrape));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }
}

#[derive(Debug)]
struct Scrape {
    report: Report,
    layers: Vec<LayerStats>,
    requests: RequestStats,
    connections: ConnectionStats,
    refusals: RefusalStats,
    lost_lines: u64,
}

/// A number: its name, what it means, its unit, what it is; and how to get it of a `T`, where it is known.
struct Number<T>(&'static str, &'static str, Option<Unit>, MetricType, fn(&T) -> Option<u64>);

const LAYERS: [Number<LayerStats>; 11] = [
    Number("cache_hits", "Keys asked for that had a value", None, Counter, |layer| Some(layer.hits)),
    Number("cache_misses", "Keys asked for that had none", None, Counter, |layer| Some(layer.misses)),
    Number("cache_unreadable", "Misses whose value was not ours, or damaged", None, Counter, |layer| {
        Some(layer.unreadable)
    }),
    Number("cache_builds", "Values built on a miss", None, Counter, |layer| Some(layer.builds)),
    Number("cache_shared", "Values had by waiting for whoever was building them", None, Counter, |layer| {
        Some(layer.shared)
    }),
    Number("cache_fills", "Values stored", None, Counter, |layer| Some(layer.fills)),
    Number("cache_deletes", "Keys removed", None, Counter, |layer| Some(layer.deletes)),
    Number("cache_refused", "Values that the backend would not take", None, Counter, |layer| {
        Some(layer.refused)
    }),
    Number("cache_errors", "Operations that failed", None, Counter, |layer| Some(layer.errors)),
    Number("cache_read", "Values read", Some(Unit::Bytes), Counter, |layer| Some(layer.bytes_read)),
    Number("cache_written", "Values stored", Some(Unit::Bytes), Counter, |layer| Some(layer.bytes_written)),
];

const SERVERS: [Number<Server>; 12] = [
    Number("cache_server_up", "Whether the server answers", None, Gauge, |server| {
        Some(server.failure.is_none().into())
    }),
    Number(
        "cache_server_left_out",
        "Whether this process leaves it out for a while",
        None,
        Gauge,
        |server| Some(server.is_left_out.into()),
    ),
    Number("cache_server_items", "Values it holds", None, Gauge, |server| server.items),
    Number("cache_server_size", "What it holds", Some(Unit::Bytes), Gauge, |server| server.bytes),
    Number("cache_server_limit", "What it may hold", Some(Unit::Bytes), Gauge, |server| server.limit_bytes),
    Number("cache_server_uptime", "How long it has been there", Some(Unit::Seconds), Gauge, |server| {
        server.uptime_seconds
    }),
    Number(
        "cache_server_hits",
        "Keys that anybody asked it for and that had a value",
        None,
        Counter,
        |server| server.hits,
    ),
    Number(
        "cache_server_misses",
        "Keys that anybody asked it for and that had none",
        None,
        Counter,
        |server| server.misses,
    ),
    Number("cache_server_evictions", "Values it let go for want of room", None, Counter, |server| {
        server.evictions
    }),
    Number("cache_server_operations", "Operations of this process", None, Counter, |server| {
        server.operations
    }),
    Number("cache_server_errors", "Operations of this process that failed", None, Counter, |server| {
        server.errors
    }),
    Number("cache_server_connections", "Connections this process has made to it", None, Counter, |server| {
        server.connections
    }),
];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { report, requests, .. } = self;
        encode_requests(requests, &mut encoder)?;
        self.encode_edge(&mut encoder)?;
        let layers: Vec<_> = self.layers.iter().map(|layer| (layer.layer, layer)).collect();
        encode_numbers(&LAYERS, "layer", &layers, &mut encoder)?;
        let latencies = layers.iter().map(|(name, layer)| (*name, &layer.latency));
        encode_latencies(
            "cache_operation_duration",
            "How long the backend took",
            "layer",
            latencies,
            &mut encoder,
        )?;
        self.encode_gate(&mut encoder)?;
        let servers: Vec<_> = report.servers.iter().map(|server| (server.server.as_str(), server)).collect();
        encode_numbers(&SERVERS, "server", &servers, &mut encoder)?;
        let latencies = servers.iter().filter_map(|(name, server)| Some((*name, server.latency.as_ref()?)));
        let help = "How long its answers to this process took";
        encode_latencies("cache_server_operation_duration", help, "server", latencies, &mut encoder)
    }
}

impl Scrape {
    fn encode_edge(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Self { connections, refusals, .. } = self;
        let help =
            "Requests refused: too many in work, too many bodies in memory, too many POSTs of one address";
        encode_labelled("http_requests_refused", help, "cause", &refusals.refused, encoder)?;
        let help = "Connections cut: no request, none in time, answer not read";
        encode_labelled("http_connections_cut", help, "cause", &connections.cut, encoder)?;
        for (name, help, count, kind) in [
            ("http_connections", "Connections accepted", connections.accepted, Counter),
            ("http_connections_open", "Connections that are open", connections.open, Gauge),
            ("posts_uncounted", "POSTs let in that the cache could not count", refusals.uncounted, Counter),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            encode_number(count, kind, &mut family)?;
        }
        let help = "Lines of the log that its reader or its disk did not take";
        let mut family = encoder.encode_descriptor("log_lines_lost", help, None, Counter)?;
        encode_number(self.lost_lines, Counter, &mut family)
    }

    fn encode_gate(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(gate) = &self.report.gate else { return Ok(()) };
        for (name, help, count) in [
            ("gate_calls", "Requests that had to know the current version", gate.calls),
            ("gate_queries", "Queries sent for them", gate.queries),
            ("gate_failures", "Queries that failed", gate.failures),
            ("gate_versions", "Versions met", gate.versions),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, Counter)?;
            encode_number(count, Counter, &mut family)?;
        }
        Ok(())
    }
}

fn encode_requests(requests: &RequestStats, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    encode_labelled("http_requests", "Requests answered", "status", &requests.by_class, encoder)?;
    let help = "Requests for cached pages, by what the cache did";
    encode_labelled("page_outcomes", help, "outcome", &requests.by_outcome, encoder)?;
    let help = "Answers given out again as they had left before";
    let mut family = encoder.encode_descriptor("http_answers_given_again", help, None, Counter)?;
    encode_number(requests.given_again, Counter, &mut family)?;
    let family = encoder.encode_descriptor(
        "http_request_duration",
        "How long the answers took",
        Some(&Unit::Seconds),
        Histogram,
    )?;
    encode_latency(&requests.latency, family)
}

/// A counter for each value of a label.
fn encode_labelled(
    name: &str,
    help: &str,
    label: &str,
    counts: &[(&str, u64)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, Counter)?;
    for (value, count) in counts {
        encode_number(*count, Counter, &mut family.encode_family(&[(label, *value)])?)?;
    }
    Ok(())
}

/// A family of each number, with one sample for each that has it.
fn encode_numbers<T>(
    numbers: &[Number<T>],
    label: &str,
    all: &[(&str, &T)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    for Number(name, help, unit, kind, value) in numbers {
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
        for (named, thing) in all {
            if let Some(number) = value(thing) {
                encode_number(number, *kind, &mut family.encode_family(&[(label, *named)])?)?;
            }
        }
    }
    Ok(())
}

fn encode_number(number: u64, kind: MetricType, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match kind {
        Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&number, None),
        _ => encoder.encode_gauge(&number),
    }
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
        encode_latency(latency, family.encode_family(&[(label, named)])?)?;
    }
    Ok(())
}

fn encode_latency(latency: &Latency, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    let ends = (0_u32..).map(|bits| (1_u64 << bits) as f64 / 1e6);
    let mut buckets: Vec<_> = ends.zip(latency.buckets).collect();
    if let Some((end, _)) = buckets.last_mut() {
        *end = f64::INFINITY;
    }
    encoder.encode_histogram::<NoLabelSet>(latency.micros as f64 / 1e6, latency.count(), &buckets, None)
}
