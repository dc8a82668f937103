//! What the memcached client costs beside a bare socket that sends the same bytes, and beside the `memcache` crate.
//!
//! All talk to one memcached of the benchmark's own. They take turns, round after round, and what is reported is the
//! median of the rounds' ratios: what else the machine does meanwhile hits all of them alike.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{self, Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tokio_memcached::protocol::{HEADER, Opcode, Request};
use tokio_memcached::{Client, Expiration, Options, ServerAddress};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEYS: usize = 50;
const CALLERS: usize = 64;

/// Bytes of a value: a rendered fragment, and a row.
const LONG: usize = 4096;
const SHORT: usize = 100;

/// Gets of one contestant in one round.
const GETS: usize = 64 * CALLERS;
const GETS_OF_MANY: usize = 400;
const GETS_OF_THE_CRATE: usize = 4;

/// Bytes before a value, behind the header.
const FLAGS: usize = 4;

/// How long anything may take before it is an error.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let memcached = Memcached::start()?;
    let mut contest = Contest::new(memcached.port)?;
    contest.round()?; // warms up
    let rounds: Vec<_> =
        (0..if is_quick { 5 } else { 21 }).map(|_| contest.round()).collect::<Result<_>>()?;
    report(&rounds, contest.allocations()?, contest.syscalls(1)?, contest.syscalls(CALLERS)?);
    Ok(())
}

/// Seconds per operation, of every contestant.
struct Round {
    raw_get: f64,
    get: f64,
    get_on_main: f64,
    get_of_many_callers: f64,
    get_short: f64,
    get_short_of_many_callers: f64,
    raw_short: f64,
    get_many_short: f64,
    crate_short: f64,
    raw_long: f64,
    get_many_long: f64,
}

fn report(rounds: &[Round], allocations: f64, syscalls: Option<f64>, syscalls_of_many: Option<f64>) {
    println!("| median of {} rounds | ratio | target | met |", rounds.len());
    println!("|---|---|---|---|");
    let at_most = |what: &str, limit: f64, ratio: fn(&Round) -> f64| {
        let ratio = median(rounds, ratio);
        println!("| {what} | {ratio:.2} | at most {limit} | {} |", yes_or_no(ratio <= limit));
    };
    let at_least = |what: &str, limit: f64, ratio: fn(&Round) -> f64| {
        let ratio = median(rounds, ratio);
        println!("| {what} | {ratio:.2} | at least {limit} | {} |", yes_or_no(ratio >= limit));
    };
    at_most("`get` of 4 KiB, time over a bare round trip", 1.5, |round| round.get / round.raw_get);
    at_most("`get_many` of 50 keys of 100 bytes, time over a bare pipeline", 1.5, |round| {
        round.get_many_short / round.raw_short
    });
    at_most("`get_many` of 50 keys of 4 KiB, time over a bare pipeline", 1.5, |round| {
        round.get_many_long / round.raw_long
    });
    at_least("`gets` of the `memcache` crate, 50 keys of 100 bytes, time over `get_many`", 20.0, |round| {
        round.crate_short / round.get_many_short
    });
    at_least("64 callers on one connection, 100 bytes, operations over those of one", 4.0, |round| {
        round.get_short / round.get_short_of_many_callers
    });
    at_least("64 callers on one connection, 4 KiB, operations over those of one", 4.0, |round| {
        round.get / round.get_of_many_callers
    });
    let bare = median(rounds, |round| round.crate_short / round.raw_short);
    println!("| `gets` of the `memcache` crate, time over the bare pipeline | {bare:.2} | – | – |");
    let on_main = median(rounds, |round| round.get_on_main / round.raw_get);
    println!("| `get` outside the runtime's workers, time over a bare round trip | {on_main:.2} | – | – |");
    println!("| allocations per `get` | {allocations:.2} | – | – |");
    let or_unknown = |count: Option<f64>| count.map_or("no strace".into(), |count| format!("{count:.2}"));
    println!("| system calls per `get`, one caller | {} | – | – |", or_unknown(syscalls));
    println!("| system calls per `get`, 64 callers | {} | – | – |", or_unknown(syscalls_of_many));
}

fn yes_or_no(is_met: bool) -> &'static str {
    if is_met { "yes" } else { "**no**" }
}

fn median(rounds: &[Round], ratio: fn(&Round) -> f64) -> f64 {
    let mut ratios: Vec<_> = rounds.iter().map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// All who take part, connected to one server.
struct Contest {
    runtime: Runtime,
    client: Client,
    other: memcache::Client,
    raw_get: Raw,
    raw_short: Raw,
    raw_long: Raw,
}

impl Contest {
    fn new(port: u16) -> Result<Self> {
        // Two workers, as on the small machines that the application is for.
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let server = ServerAddress { host: "127.0.0.1".into(), port };
        let client = {
            let _guard = runtime.enter();
            Client::new(Options::new([server])?)
        };
        let never = Expiration::Never;
        for length in [SHORT, LONG] {
            let values = keys(length).into_iter().map(|key| (key, Bytes::from(vec![b'x'; length])));
            let stored = runtime.block_on(client.set_many(&values.collect::<Vec<_>>(), never));
            stored.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        let other = memcache::connect(format!("memcache://127.0.0.1:{port}?protocol=binary"))?;
        Ok(Self {
            runtime,
            client,
            other,
            raw_get: Raw::get(port, LONG)?,
            raw_short: Raw::get_many(port, SHORT)?,
            raw_long: Raw::get_many(port, LONG)?,
        })
    }

    fn round(&mut self) -> Result<Round> {
        Ok(Round {
            raw_get: self.raw_get.time(GETS)?,
            get: self.time(gets_of_one(self.client.clone(), LONG, GETS))?,
            get_on_main: self.time_on_main(gets_of_one(self.client.clone(), LONG, GETS))?,
            get_of_many_callers: self.time(gets(self.client.clone(), LONG, CALLERS, GETS))?,
            get_short: self.time(gets_of_one(self.client.clone(), SHORT, GETS))?,
            get_short_of_many_callers: self.time(gets(self.client.clone(), SHORT, CALLERS, GETS))?,
            raw_short: self.raw_short.time(GETS_OF_MANY)?,
            get_many_short: self.time(gets_of_many(self.client.clone(), SHORT, GETS_OF_MANY))?,
            crate_short: self.time_of_the_crate()?,
            raw_long: self.raw_long.time(GETS_OF_MANY)?,
            get_many_long: self.time(gets_of_many(self.client.clone(), LONG, GETS_OF_MANY))?,
        })
    }

    /// Runs as the application's views do: as a task, on one of the runtime's workers.
    fn time(&self, load: impl Future<Output = Result<usize>> + Send + 'static) -> Result<f64> {
        let timed = async {
            let started = Instant::now();
            let count = load.await?;
            Ok(per_operation(started, count))
        };
        self.runtime.block_on(self.runtime.spawn(timed))?
    }

    fn time_on_main(&self, load: impl Future<Output = Result<usize>>) -> Result<f64> {
        let started = Instant::now();
        let count = self.runtime.block_on(load)?;
        Ok(per_operation(started, count))
    }

    fn time_of_the_crate(&self) -> Result<f64> {
        let keys = keys(SHORT);
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let started = Instant::now();
        for _ in 0..GETS_OF_THE_CRATE {
            let values = self.other.gets::<Vec<u8>>(&keys)?;
            ensure!(values.len() == KEYS, "a key is missing");
        }
        Ok(per_operation(started, GETS_OF_THE_CRATE))
    }

    fn allocations(&self) -> Result<f64> {
        let count = || ALLOCATOR.stats().allocations + ALLOCATOR.stats().reallocations;
        let before = count();
        self.time(gets_of_one(self.client.clone(), LONG, GETS))?;
        Ok((count() - before) as f64 / GETS as f64)
    }

    /// Counts with strace, which slows what it counts: under load batches may be a little larger than without it.
    fn syscalls(&self, callers: usize) -> Result<Option<f64>> {
        let Some(strace) = Strace::attach()? else { return Ok(None) };
        self.time(gets(self.client.clone(), LONG, callers, GETS))?;
        Ok(Some(strace.detach()? / GETS as f64))
    }
}

fn per_operation(started: Instant, count: usize) -> f64 {
    started.elapsed().as_secs_f64() / count as f64
}

/// Every caller is a task of its own; together they get `count` times.
async fn gets(client: Client, length: usize, callers: usize, count: usize) -> Result<usize> {
    let callers = (0..callers).map(|_| tokio::spawn(gets_of_one(client.clone(), length, count / callers)));
    join_all(callers).await.into_iter().map(|ended| ended?).sum()
}

async fn gets_of_one(client: Client, length: usize, count: usize) -> Result<usize> {
    let key = key(length, 0);
    for _ in 0..count {
        let value = client.get(&key).await?.context("the key is missing")?;
        ensure!(value.data.len() == length, "the value is another");
    }
    Ok(count)
}

async fn gets_of_many(client: Client, length: usize, count: usize) -> Result<usize> {
    let keys = keys(length);
    for _ in 0..count {
        for value in client.get_many(&keys).await {
            ensure!(value?.context("a key is missing")?.data.len() == length, "a value is another");
        }
    }
    Ok(count)
}

fn key(length: usize, number: usize) -> String {
    format!("tasklist:{length}:{number}")
}

fn keys(length: usize) -> Vec<String> {
    (0..KEYS).map(|number| key(length, number)).collect()
}

/// A blocking socket that sends the same bytes again and again, and reads as many as the answer has.
struct Raw {
    stream: TcpStream,
    question: BytesMut,
    answer: usize,
    buffer: Vec<u8>,
}

impl Raw {
    fn get(port: u16, length: usize) -> Result<Self> {
        Self::new(port, [Request::of(Opcode::Get, key(length, 0).into())], HEADER + FLAGS + length)
    }

    fn get_many(port: u16, length: usize) -> Result<Self> {
        let gets = keys(length).into_iter().map(|key| Request::of(Opcode::GetQuiet, key.into()));
        let requests = gets.chain([Request::of(Opcode::Noop, Bytes::new())]);
        Self::new(port, requests, KEYS * (HEADER + FLAGS + length) + HEADER)
    }

    fn new(port: u16, requests: impl IntoIterator<Item = Request>, answer: usize) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut question = BytesMut::new();
        for (opaque, request) in (0..).zip(requests) {
            request.put(opaque, &mut question);
        }
        Ok(Self { stream, question, answer, buffer: vec![0; 1024 * 1024] })
    }

    fn time(&mut self, count: usize) -> Result<f64> {
        let started = Instant::now();
        for _ in 0..count {
            self.stream.write_all(&self.question)?;
            let mut missing = self.answer;
            while missing > 0 {
                let count = self.stream.read(&mut self.buffer)?;
                missing =
                    missing.checked_sub(count).filter(|_| count > 0).context("the answer is another")?;
            }
        }
        Ok(per_operation(started, count))
    }
}

/// A server that ends with the benchmark.
struct Memcached {
    process: Child,
    port: u16,
    _directory: TempDir,
}

impl Memcached {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let port_file = directory.path().join("port");
        let process = Command::new("memcached")
            .args(["-u", "root", "-l", "127.0.0.1", "-U", "0", "-p", "-1"])
            .env("MEMCACHED_PORT_FILENAME", &port_file)
            .stdin(Stdio::null())
            .spawn()
            .context("memcached is not installed")?;
        let mut memcached = Self { process, port: 0, _directory: directory };
        let started = Instant::now();
        while memcached.port == 0 {
            ensure!(started.elapsed() < PATIENCE, "memcached does not start");
            // The file is renamed into place: when it is there, it is whole.
            let text = fs::read_to_string(&port_file).unwrap_or_default();
            memcached.port = text.trim().strip_prefix("TCP INET: ").map_or(Ok(0), str::parse)?;
            thread::yield_now();
        }
        Ok(memcached)
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A strace that counts the system calls of this process.
struct Strace(Child);

impl Strace {
    /// Returns none where there is no strace.
    fn attach() -> Result<Option<Self>> {
        let arguments = ["--follow-forks", "--summary-only", "--summary-columns=calls,name", "--attach"];
        let strace = Command::new("strace")
            .args(arguments)
            .arg(process::id().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut process) = strace else { return Ok(None) };
        let started = Instant::now();
        while !is_traced()? {
            ensure!(process.try_wait()?.is_none() && started.elapsed() < PATIENCE, "strace does not attach");
            thread::yield_now();
        }
        Ok(Some(Self(process)))
    }

    /// Returns the number of calls.
    fn detach(self) -> Result<f64> {
        Command::new("kill").args(["-s", "INT", &self.0.id().to_string()]).status()?;
        let output = self.0.wait_with_output()?;
        let summary = String::from_utf8(output.stderr)?;
        let total = summary.lines().find_map(|line| line.trim().strip_suffix(" total"));
        total.and_then(|count| count.trim().parse().ok()).with_context(|| format!("strace: {summary}"))
    }
}

/// Whether all threads are.
fn is_traced() -> Result<bool> {
    for thread in fs::read_dir("/proc/self/task")? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        if status.contains("TracerPid:\t0\n") {
            return Ok(false);
        }
    }
    Ok(true)
}
