//! Load from `wrk`, with one thread, and whether all of it was answered as it should be.

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use super::http::{Answer, Client};
use super::process::find;

/// Has wrk say what it did in numbers, once, at the end: it asks as fast as without a script.
const SUMMARY: &str = r#"
done = function(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    local median, tail = latency:percentile(50), latency:percentile(99)
    io.write(string.format("\nsummary %d %d %d %d %d %d\n",
        summary.requests, summary.duration, summary.bytes, failed, median, tail))
end
"#;

/// Of an answer's length, by how much it may differ from the first one's: numbers in its headers, and that wrk stops in
/// the middle of some.
const TOLERANCE: f64 = 0.06;

/// How much, for how long.
#[derive(Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub seconds: usize,
}

/// What is asked for, and how it must be answered.
#[derive(Clone)]
pub struct Target {
    pub url: String,
    pub headers: Vec<String>,
    pub expected: u16,
    pub must_be_hit: bool,
    /// Whether a page may have ended since it was asked for last, so that it takes another request to find it again.
    pub may_expire: bool,
    /// A script that makes the requests, in Lua; without it all are the same GET.
    pub script: String,
}

/// What came of it.
#[derive(Clone, Copy, Default)]
pub struct Done {
    pub requests: f64,
    pub per_second: f64,
    /// The 99th percentile of the times that requests took, over their median.
    pub tail: f64,
}

impl Target {
    pub fn page(url: &str) -> Self {
        let (url, headers, script) = (url.to_owned(), vec![], String::new());
        Self { url, headers, expected: 200, must_be_hit: true, may_expire: false, script }
    }

    pub fn with(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    pub fn with_all(mut self, headers: &[String]) -> Self {
        self.headers.extend_from_slice(headers);
        self
    }

    pub fn expecting(self, expected: u16) -> Self {
        Self { expected, ..self }
    }

    /// For a server that does not say where its answers come from.
    pub fn hit_or_not(self) -> Self {
        Self { must_be_hit: false, ..self }
    }

    /// Asks once, and looks whether the answer is as it should be.
    pub fn look(&self) -> Result<Answer> {
        let mut client = Client::connect(&self.url)?;
        let mut answer = client.get("/", &self.headers)?;
        if self.may_expire && !answer.is_hit() {
            answer = client.get("/", &self.headers)?;
        }
        let status = answer.status;
        ensure!(status == self.expected, "{} answers {status}, not {}", self.url, self.expected);
        ensure!(
            !self.must_be_hit || answer.is_hit(),
            "{} answers what is not cached: {}",
            self.url,
            answer.head
        );
        Ok(answer)
    }

    fn start(&self, load: Load) -> Result<Wrk> {
        let script = NamedTempFile::with_suffix(".lua")?;
        fs::write(script.path(), self.script.clone() + SUMMARY)?;
        let mut command = Command::new(find("wrk")?);
        command.args(["-t1", &format!("-c{}", load.connections), &format!("-d{}s", load.seconds)]);
        command.arg("-s").arg(script.path());
        command.args(self.headers.iter().flat_map(|header| ["-H", header]));
        let process = command.arg(&self.url).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        Ok(Wrk { process, _script: script })
    }
}

/// Loads the targets at once, each with its part of the connections.
pub fn run(targets: &[Target], load: Load) -> Result<Done> {
    let part = Load { connections: load.connections.div_ceil(targets.len()), ..load };
    let is_page = |target: &&Target| target.script.is_empty();
    let first: Vec<_> = targets.iter().filter(is_page).map(Target::look).collect::<Result<_>>()?;
    let started: Vec<_> = targets.iter().map(|target| target.start(part)).collect::<Result<_>>()?;
    let mut all = Done::default();
    for (number, wrk) in started.into_iter().enumerate() {
        let (done, bytes) = wrk.wait()?;
        let length = first.get(number).map(|answer| answer.length() as f64);
        let off = length.map_or(0.0, |length| (bytes / done.requests / length - 1.0).abs());
        ensure!(
            off <= TOLERANCE,
            "{}: answers are off the first one's length by {off:.2}",
            targets[number].url
        );
        all.requests += done.requests;
        all.per_second += done.per_second;
        all.tail = all.tail.max(done.tail);
    }
    targets.iter().filter(is_page).try_for_each(|target| target.look().map(drop))?;
    Ok(all)
}

struct Wrk {
    process: Child,
    _script: NamedTempFile,
}

impl Wrk {
    /// Waits for its end, and returns what it did and how many bytes it has read.
    fn wait(self) -> Result<(Done, f64)> {
        let output = String::from_utf8(self.process.wait_with_output()?.stdout)?;
        let summary = output.lines().find_map(|line| line.strip_prefix("summary "));
        let numbers = summary.with_context(|| format!("wrk: {output}"))?.split(' ').map(str::parse);
        let numbers: Vec<f64> = numbers.collect::<Result<_, _>>()?;
        let [requests, microseconds, bytes, failed, median, tail] = numbers[..] else {
            unreachable!("as the script has it")
        };
        ensure!(requests > 0.0 && failed == 0.0, "{failed} of {requests} requests failed: {output}");
        Ok((Done { requests, per_second: requests / microseconds * 1e6, tail: tail / median }, bytes))
    }
}
