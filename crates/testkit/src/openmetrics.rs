//! The text format of OpenMetrics 1.0, read strictly: whatever is not to the letter ends the test.

use std::collections::{BTreeMap, BTreeSet};

/// All samples of one name.
#[derive(Debug)]
pub struct Family {
    pub kind: String,
    pub unit: Option<String>,
    /// By their series: name and labels, as they are written.
    pub samples: BTreeMap<String, f64>,
    /// The names of all labels.
    pub labels: BTreeSet<String>,
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
}

/// Reads a whole scrape.
#[track_caller]
pub fn parse(text: &str) -> BTreeMap<String, Family> {
    let lines = text.strip_suffix("# EOF\n").expect("the last line is # EOF");
    let mut families = BTreeMap::new();
    let mut lines = lines.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
        assert!(is_name(name) && !help.is_empty() && !help.contains(['\\', '"']), "{line}");
        let line = lines.next().expect("a type");
        let kind = line.strip_prefix(&format!("# TYPE {name} ")).expect(line);
        let unit = lines.next_if(|line| line.starts_with("# UNIT ")).map(|line| {
            let unit = line.strip_prefix(&format!("# UNIT {name} ")).expect(line);
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
            unit.to_owned()
        });
        let mut family = Family {
            kind: kind.into(),
            unit,
            samples: BTreeMap::new(),
            labels: BTreeSet::new(),
            buckets: BTreeMap::new(),
        };
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            family.read(name, line);
        }
        family.check_buckets(name);
        assert!(families.insert(name.to_owned(), family).is_none(), "{name} comes twice");
    }
    families
}

impl Family {
    #[track_caller]
    fn read(&mut self, name: &str, line: &str) {
        let (series, value) = line.rsplit_once(' ').expect(line);
        let value = number(value);
        let (sample, labels) = match series.split_once('{') {
            Some((sample, labels)) => (sample, labels_of(labels.strip_suffix('}').expect(line))),
            None => (series, vec![]),
        };
        let suffix = sample.strip_prefix(name).expect(line);
        let suffixes: &[&str] = match &*self.kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            other => panic!("{name} is a {other}"),
        };
        assert!(suffixes.contains(&suffix), "{line}");
        assert!(self.kind == "gauge" || value >= 0.0, "{line}");
        assert!(self.kind != "info" || value == 1.0, "{line}");
        assert!(self.samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        let is_bucket = suffix == "_bucket";
        assert_eq!(labels.iter().any(|(label, _)| label == "le"), is_bucket, "{line}");
        if is_bucket {
            let (end, others): (Vec<_>, Vec<_>) = labels.iter().partition(|(label, _)| label == "le");
            let others: Vec<_> = others.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
            self.buckets.entry(others.join(",")).or_default().push((number(&end[0].1), value));
        }
        let names = labels.len();
        self.labels.extend(labels.iter().map(|(label, _)| label.clone()));
        assert_eq!(
            labels.into_iter().map(|(label, _)| label).collect::<BTreeSet<_>>().len(),
            names,
            "{line}"
        );
    }

    /// The ends rise, the counts do not fall, and the last bucket has all there are.
    #[track_caller]
    fn check_buckets(&self, name: &str) {
        for (labels, buckets) in &self.buckets {
            assert!(
                buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1),
                "{name} {buckets:?}"
            );
            let of = |part: &str| match &**labels {
                "" => format!("{name}_{part}"),
                labels => format!("{name}_{part}{{{labels}}}"),
            };
            let (end, count) = *buckets.last().unwrap();
            assert_eq!((end, Some(&count)), (f64::INFINITY, self.samples.get(&of("count"))), "{name}");
            assert!(self.samples.contains_key(&of("sum")), "{name}");
        }
        let counts =
            self.samples.keys().filter(|series| series.starts_with(&format!("{name}_count"))).count();
        assert_eq!(counts, self.buckets.len(), "{name}");
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[track_caller]
fn number(text: &str) -> f64 {
    if text == "+Inf" {
        return f64::INFINITY;
    }
    assert!(text.starts_with(|c: char| c.is_ascii_digit()), "{text}");
    text.parse().expect(text)
}

/// `a="b",c="d"`; nothing here needs an escape.
#[track_caller]
fn labels_of(text: &str) -> Vec<(String, String)> {
    let label = |part: &str| {
        let (name, value) = part.split_once('=').expect(part);
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect(part);
        assert!(is_name(name) && !value.contains(['"', '\\']), "{part}");
        (name.to_owned(), value.to_owned())
    };
    text.split(',').map(label).collect()
}

#[test]
#[should_panic(expected = "1.7976931348623157e308")]
fn a_histogram_without_an_infinite_bucket_is_found() {
    let bucket = "x_seconds_bucket{le=\"1.7976931348623157e308\"} 1\n";
    parse(&format!(
        "# HELP x_seconds x\n# TYPE x_seconds histogram\n# UNIT x_seconds seconds\n\
         x_seconds_sum 1\nx_seconds_count 1\n{bucket}# EOF\n"
    ));
}
