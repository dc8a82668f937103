//! What servers say of themselves, as a table and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::remedy::Place;
use neverstale::backend::ServerStats;

/// The most telling numbers, in the order in which they are read.
const TELLING: [&str; 10] = [
    "version",
    "uptime",
    "curr_items",
    "bytes",
    "limit_maxbytes",
    "get_hits",
    "get_misses",
    HIT_RATE,
    "evictions",
    "curr_connections",
];

/// Ours, made of hits and misses.
const HIT_RATE: &str = "hit_rate";

/// Returns a table for each server that answered: the most telling numbers, then `all` of them.
pub(super) fn table(servers: &[ServerStats], all: bool) -> String {
    let answered = servers.iter().filter_map(|server| Some((&server.server, server.stats.as_ref().ok()?)));
    let tables: Vec<_> = answered.map(|(server, stats)| table_of_one(server, stats, all)).collect();
    tables.join("\n\n")
}

fn table_of_one(server: &str, stats: &BTreeMap<String, String>, all: bool) -> String {
    let rate = hit_rate(stats).map(|rate| format!("{:.1} %", rate * 100.0));
    let value = |name: &str| if name == HIT_RATE { rate.clone() } else { stats.get(name).cloned() };
    let mut rows: Vec<_> = TELLING
        .into_iter()
        .filter_map(|name| Some((name, value(name)?)))
        .map(|(name, value)| row(name, &value))
        .collect();
    if all {
        rows.push(String::new());
        rows.extend(stats.iter().map(|(name, value)| row(name, value)));
    }
    format!("{server}\n{}", rows.join("\n"))
}

/// What a server says is shown on a terminal, which must not take it for instructions.
fn row(name: &str, value: &str) -> String {
    format!("  {name:<24} {value}").replace(char::is_control, "?")
}

/// Returns which share of all look-ups found something, if there were any.
fn hit_rate(stats: &BTreeMap<String, String>) -> Option<f64> {
    let count = |name: &str| stats.get(name)?.parse::<f64>().ok();
    let (hits, misses) = (count("get_hits")?, count("get_misses")?);
    (hits + misses > 0.0).then(|| hits / (hits + misses))
}

pub(super) fn to_json(server: &ServerStats, place: Place) -> Value {
    let name = &server.server;
    match &server.stats {
        Ok(stats) => json!({ "server": name, "ok": true, HIT_RATE: hit_rate(stats), "stats": stats }),
        Err(error) => {
            let cause = error.kind.to_string();
            json!({ "server": name, "ok": false, "cause": cause, "remedy": place.remedy(&error.kind) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(stats: &[(&str, &str)]) -> ServerStats {
        let stats = stats.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        ServerStats { server: "h:1".into(), stats: Ok(stats), link: None }
    }

    #[test]
    fn the_most_telling_numbers_come_first_and_all_sorted_after_them() {
        let servers =
            [server(&[("accepting", "1"), ("version", "1.6"), ("get_hits", "3"), ("get_misses", "1")])];
        let names = |table: String| -> Vec<_> {
            table.lines().map(|line| line.split_whitespace().next().unwrap_or("-").to_owned()).collect()
        };
        let telling = ["h:1", "version", "get_hits", "get_misses", "hit_rate"];
        assert_eq!(names(table(&servers, false)), telling);
        let all = [&telling[..], &["-", "accepting", "get_hits", "get_misses", "version"]].concat();
        assert_eq!(names(table(&servers, true)), all);
        assert!(table(&servers, false).contains("75.0 %"));
    }

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        assert!(table(&[server(&[("version", "\u{1b}[2J")])], false).ends_with("?[2J"));
    }
}
