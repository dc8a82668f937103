//! The same numbers for Prometheus.

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::{Layer, Monitor, Report, Server};
use crate::cache::Latency;

impl Monitor {
    /// Returns all numbers as OpenMetrics text.
    pub async fn metrics(&self) -> String {
        let answers = &self.0.answers;
        let answered = answers.by_class.each_ref().map(|count| count.load(Ordering::Relaxed));
        let answering_seconds = answers.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let scrape = Scrape { report: self.report().await, answered, answering_seconds };
        let mut registry = Registry::with_prefix("tasklist");
        registry.register_collector(Box::new(scrape));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }
}

#[derive(Debug)]
struct Scrape {
    report: Report,
    answered: [u64; 5],
    answering_seconds: f64,
}

/// What is counted of a layer: a name, what it means, and the number.
type Counted<T> = (&'static str, &'static str, fn(&T) -> u64);

const LAYERS: [Counted<Layer>; 9] = [
    ("cache_hits", "Keys asked for that had a value", |layer| layer.stats.hits),
    ("cache_misses", "Keys asked for that had none", |layer| layer.stats.misses),
    ("cache_unreadable", "Misses whose value was not ours, or damaged", |layer| layer.stats.unreadable),
    ("cache_builds", "Values built on a miss", |layer| layer.stats.builds),
    ("cache_shared", "Values had by waiting for whoever was building them", |layer| layer.stats.shared),
    ("cache_fills", "Values stored", |layer| layer.stats.fills),
    ("cache_deletes", "Keys removed", |layer| layer.stats.deletes),
    ("cache_refused", "Values that the backend would not take", |layer| layer.stats.refused),
    ("cache_errors", "Operations that failed", |layer| layer.stats.errors),
];

/// As [`Counted`], for what may not be known.
type Gauged = (&'static str, &'static str, Option<Unit>, fn(&Server) -> Option<u64>);

const SERVERS: [Gauged; 5] = [
    ("cache_server_up", "Whether the server answers", None, |server| {
        Some(u64::from(server.failure.is_none()))
    }),
    ("cache_server_items", "Values the server holds", None, |server| server.items),
    ("cache_server_size", "What the server holds", Some(Unit::Bytes), |server| server.bytes),
    ("cache_server_limit", "What the server may hold", Some(Unit::Bytes), |server| server.limit_bytes),
    ("cache_server_evictions", "Values let go for want of room", None, |server| server.evictions),
];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_answers(&mut encoder)?;
        self.encode_layers(&mut encoder)?;
        self.encode_gate(&mut encoder)?;
        self.encode_servers(&mut encoder)
    }
}

impl Scrape {
    fn encode_answers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor("http_responses", "Requests answered", None, MetricType::Counter)?;
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(self.answered) {
            family.encode_family(&[("status", class)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let help = "Time taken to answer them";
        encoder
            .encode_descriptor("http_responding", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&self.answering_seconds, None)?;
        let help = "Since the start of the process";
        encoder
            .encode_descriptor("uptime", help, Some(&Unit::Seconds), MetricType::Gauge)?
            .encode_gauge(&i64::try_from(self.report.uptime_seconds).unwrap_or(i64::MAX))
    }

    fn encode_layers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, count) in LAYERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for layer in &self.report.layers {
                family
                    .encode_family(&[("layer", layer.stats.layer)])?
                    .encode_counter::<NoLabelSet, _, u64>(&count(layer), None)?;
            }
        }
        let help = "How long the backend took";
        let mut family = encoder.encode_descriptor(
            "cache_operation",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for Layer { stats, .. } in &self.report.layers {
            encode_latency(&stats.latency, &mut family.encode_family(&[("layer", stats.layer)])?)?;
        }
        Ok(())
    }

    fn encode_gate(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(gate) = &self.report.gate else { return Ok(()) };
        for (name, help, count) in [
            ("version_calls", "Requests that had to know the current version", gate.calls),
            ("version_queries", "Queries sent for them", gate.queries),
            ("version_failures", "Queries that failed", gate.failures),
            ("versions", "Versions met", gate.versions),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn encode_servers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, unit, value) in &SERVERS {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for server in &self.report.servers {
                if let Some(value) = value(server) {
                    let value = i64::try_from(value).unwrap_or(i64::MAX);
                    family.encode_family(&[("server", server.server.as_str())])?.encode_gauge(&value)?;
                }
            }
        }
        let help = "How long the server's answers to this process took";
        let mut family =
            encoder.encode_descriptor("cache_server", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for server in &self.report.servers {
            if let Some(latency) = &server.latency {
                encode_latency(latency, &mut family.encode_family(&[("server", server.server.as_str())])?)?;
            }
        }
        Ok(())
    }
}

fn encode_latency(
    latency: &Latency,
    encoder: &mut prometheus_client::encoding::MetricEncoder<'_>,
) -> fmt::Result {
    let micros = (0_u32..).map(|bits| (1_u64 << bits) as f64);
    let mut buckets: Vec<_> = micros.zip(latency.buckets).map(|(end, count)| (end / 1e6, count)).collect();
    if let Some((end, _)) = buckets.last_mut() {
        *end = f64::MAX;
    }
    let sum = latency.micros as f64 / 1e6;
    encoder.encode_histogram::<NoLabelSet>(sum, latency.count(), &buckets, None)
}
