//! Child processes: started, waited for, looked at, and ended with the benchmark.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

/// How long anything may take before it is an error.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Ticks of the clock that the kernel counts a process's time by, on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that is killed when it is dropped.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("failed to start {}", command.get_program().display()))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Sends a signal that ends it, and waits for that.
    pub fn end_by(&mut self, signal: &str) {
        let _ = Command::new("kill").args(["-s", signal, &self.id().to_string()]).status();
        let _ = self.0.wait();
    }

    /// How much memory it holds, in bytes.
    pub fn memory(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the seconds of processor time that these processes have used, with all below them that still run.
pub fn seconds_used_by(roots: &[u32]) -> Result<f64> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that has ended meanwhile is none of ours.
        let Ok(line) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        processes.insert(id, parent_and_ticks(&line).with_context(|| format!("/proc/{id}/stat: {line}"))?);
    }
    let is_ours = |mut id: u32| loop {
        if roots.contains(&id) {
            return true;
        }
        match processes.get(&id) {
            Some((parent, _)) => id = *parent,
            None => return false,
        }
    };
    let ours = processes.iter().filter(|(id, _)| is_ours(**id));
    Ok(ours.map(|(_, (_, ticks))| ticks).sum::<f64>() / TICKS_PER_SECOND)
}

/// Of a line of `/proc/PID/stat`, see `man proc_pid_stat`: the parent, and the time in user mode and in the kernel.
fn parent_and_ticks(line: &str) -> Option<(u32, f64)> {
    // The name before may contain anything.
    let fields: Vec<_> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((fields.get(1)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

/// Asks every millisecond until there is an answer, and returns it.
pub fn wait_for<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return Ok(answer);
        }
        ensure!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Returns the path of a program, also of one that Debian keeps to Postgres.
pub fn find(program: &str) -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<_> = versions.map(|entry| entry.path().join("bin")).collect();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];
    places.extend(usual.map(PathBuf::from));
    let candidates = places.iter().map(|place| place.join(program));
    candidates.into_iter().find(|path| path.is_file()).with_context(|| format!("{program} is not installed"))
}

/// Returns the path of one of our examples, which `scripts/bench` builds.
pub fn example(name: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_tasklist")).with_file_name("examples").join(name);
    ensure!(path.exists(), "{} is missing; cargo build --release --examples", path.display());
    Ok(path)
}
