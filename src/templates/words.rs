//! Numbers in a form for people.

use std::time::{Duration, SystemTime};

const UNKNOWN: &str = "–";

/// A share, such as `87.5 %`.
pub(super) fn percent(share: &Option<f64>) -> String {
    share.map_or(UNKNOWN.into(), |share| format!("{:.1} %", share * 100.0))
}

/// A ratio, such as `0.25`.
pub(super) fn ratio(ratio: &Option<f64>) -> String {
    ratio.map_or(UNKNOWN.into(), |ratio| format!("{ratio:.2}"))
}

pub(super) fn number(number: &Option<u64>) -> String {
    number.map_or(UNKNOWN.into(), |number| number.to_string())
}

pub(super) fn bytes(bytes: &Option<u64>) -> String {
    let Some(bytes) = *bytes else { return UNKNOWN.into() };
    let units = ["B", "KB", "MB", "GB", "TB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit + 1 < units.len() {
        (size, unit) = (size / 1000.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && size < 100.0);
    format!("{size:.digits$} {}", units[unit])
}

/// An upper bound of a time, such as `< 2 ms`.
pub(super) fn time(time: Option<Duration>) -> String {
    let Some(time) = time else { return UNKNOWN.into() };
    match time.as_micros() {
        micros @ 0..1000 => format!("< {micros} µs"),
        micros @ 1000..1_000_000 => format!("< {} ms", micros.div_ceil(1000)),
        micros => format!("< {} s", micros.div_ceil(1_000_000)),
    }
}

/// The two largest units of a time, such as `2h 5m`.
pub(super) fn seconds(seconds: &u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(*seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

pub(super) fn rfc3339(at: &SystemTime) -> String {
    humantime::format_rfc3339_millis(*at).to_string()
}

/// The time of day, in UTC.
pub(super) fn clock(at: &SystemTime) -> String {
    rfc3339(at)[11..19].to_owned()
}

/// The name of a layer of the cache.
pub(super) fn layer(name: &'static str) -> &'static str {
    match name {
        "local" => "Pages, this process",
        "views" => "Pages",
        "fragments" => "Rows, rendered",
        "query" => "The list",
        "sessions" => "Sessions",
        "cache" => "Others",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_digits_at_least_and_a_unit() {
        for (size, text) in [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (67_108_864, "67.1 MB")] {
            assert_eq!(bytes(&Some(size)), text);
        }
        assert_eq!(bytes(&Some(u64::MAX)), "18446744 TB");
        assert_eq!(bytes(&None), "–");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        let of = |micros| time(Some(Duration::from_micros(micros)));
        assert_eq!(
            [of(128), of(1024), of(16_384), of(4_194_304)],
            ["< 128 µs", "< 2 ms", "< 17 ms", "< 5 s"]
        );
        assert_eq!(seconds(&93_784), "1day 2h");
        assert_eq!(seconds(&0), "0s");
    }
}
