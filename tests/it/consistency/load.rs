//! Clients who add, remove and read, each one thing after the other, and write down what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::checker::{Add, History, Id, Moment, Name, Outcome, Page, Read, Remove, Row, Span};
use super::cluster::Cluster;
use testkit::http;

/// How long a client waits for an answer: longer than the program takes for one, whatever happens.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Longest pause between two requests, so that the machine is left something.
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// How many tasks there are, about.
const TARGET: usize = 15;

/// One of so many steps is a write.
const STEPS_PER_WRITE: usize = 12;

/// What is asked for, and which page that is.
const PATHS: [(&str, usize); 4] = [("", 1), ("", 1), ("?page=1", 1), ("?page=2", 2)];
const PER_PAGE: usize = 100;

pub struct Load<'a> {
    pub cluster: &'a Cluster,
    clock: Instant,
    http: reqwest::Client,
    names: AtomicU32,
    /// How many have succeeded.
    reads: AtomicU32,
    adds: AtomicU32,
    removes: AtomicU32,
    reads_database: bool,
    has_guests: bool,
}

/// What clients saw.
#[derive(Default)]
pub struct Log {
    pub history: History,
    pub failures: Vec<Failure>,
}

/// A request that was not answered as it should have been.
pub struct Failure {
    /// Of which process.
    pub instance: usize,
    pub span: Span,
    pub request: &'static str,
    /// A status, or why there is none.
    pub answer: String,
}

struct Client<'a> {
    load: &'a Load<'a>,
    rng: fastrand::Rng,
    seen: Arc<Page>,
    log: Log,
}

impl<'a> Load<'a> {
    /// Clients read pages, or instead of them the database itself.
    pub fn new(cluster: &'a Cluster, reads_database: bool) -> Self {
        Self {
            cluster,
            clock: Instant::now(),
            http: http(),
            names: AtomicU32::new(0),
            reads: AtomicU32::new(0),
            adds: AtomicU32::new(0),
            removes: AtomicU32::new(0),
            reads_database,
            has_guests: false,
        }
    }

    /// Others add and remove tasks as well, of which nothing is asserted here.
    pub fn with_guests(self) -> Self {
        Self { has_guests: true, ..self }
    }

    pub fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    pub fn moment(&self, instant: Instant) -> Moment {
        u64::try_from((instant - self.clock).as_nanos()).unwrap()
    }

    /// Whether enough has happened for a run to be worth something. It ends no sooner, however slow the machine.
    pub fn has_been_busy(&self) -> bool {
        let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        count(&self.reads) >= 100 && count(&self.adds) >= 5 && count(&self.removes) >= 1
    }

    /// Runs a client until it is over.
    pub async fn run(&self, seed: u64, is_over: impl Fn() -> bool) -> Log {
        let rng = fastrand::Rng::with_seed(seed);
        let mut client = Client { load: self, rng, seen: Arc::new(Page::only(vec![])), log: Log::default() };
        while !is_over() {
            client.step().await;
            sleep(LONGEST_PAUSE.mul_f64(client.rng.f64())).await;
        }
        client.log
    }

    /// Reads every page of every instance once all is well again, each until it is given.
    pub async fn read_all(&self) -> Log {
        let (rng, seen) = (fastrand::Rng::with_seed(0), Arc::new(Page::only(vec![])));
        let mut client = Client { load: self, rng, seen, log: Log::default() };
        for instance in 0..self.cluster.instances.len() {
            for path in PATHS {
                while !client.read(instance, path).await {
                    assert!(client.log.failures.len() < 100, "{path:?} of {instance} stays lost");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        client.log
    }

    /// Reads the list from the database itself.
    pub async fn read_database(&self) -> Read {
        let begin = self.now();
        let tasks = self.cluster.database.tasks().await;
        let rows = tasks.into_iter().map(|(id, name)| Row { id, name: number_in(&name) }).collect();
        Read { span: Span { begin, end: self.now() }, page: Arc::new(Page::only(rows)) }
    }
}

impl Log {
    pub fn merge(&mut self, other: Self) {
        self.history.adds.extend(other.history.adds);
        self.history.removes.extend(other.history.removes);
        self.history.reads.extend(other.history.reads);
        self.failures.extend(other.failures);
    }

    /// How many reads got no page.
    pub fn failed_reads(&self) -> usize {
        self.failures.iter().filter(|failure| failure.request.starts_with("GET")).count()
    }
}

impl Client<'_> {
    /// Reads somewhere; or writes, and then reads elsewhere, where an old list would be seen first.
    async fn step(&mut self) {
        let instances = self.load.cluster.instances.len();
        let mut instance = self.rng.usize(..instances);
        if self.rng.usize(..STEPS_PER_WRITE) == 0 {
            self.write(instance).await;
            instance = (instance + self.rng.usize(1..instances)) % instances;
        }
        let path = PATHS[self.rng.usize(..PATHS.len())];
        self.read(instance, path).await;
    }

    async fn read(&mut self, instance: usize, (path, number): (&str, usize)) -> bool {
        if self.load.reads_database {
            let read = self.load.read_database().await;
            self.seen = read.page.clone();
            self.load.reads.fetch_add(1, Ordering::Relaxed);
            self.log.history.reads.push(read);
            return true;
        }
        let begin = self.load.now();
        let url = format!("{}{path}", self.load.cluster.instances[instance].url);
        let answer = async {
            let response = self.load.http.get(url).timeout(PATIENCE).send().await?;
            Ok((response.status(), response.text().await?))
        };
        let answer: reqwest::Result<_> = answer.await;
        let span = Span { begin, end: self.load.now() };
        match answer {
            Ok((status, body)) if status == 200 => {
                let page = parse(&body, number).unwrap_or_else(|| panic!("no list page: {body}"));
                self.seen = Arc::new(if self.load.has_guests { page.of_ours() } else { page });
                self.load.reads.fetch_add(1, Ordering::Relaxed);
                self.log.history.reads.push(Read { span, page: self.seen.clone() });
                true
            }
            Ok((status, _)) => self.fail(instance, span, "GET /", status.to_string()),
            Err(error) => self.fail(instance, span, "GET /", format!("{error:?}")),
        }
    }

    /// Returns whether it was answered well.
    fn fail(&mut self, instance: usize, span: Span, request: &'static str, answer: String) -> bool {
        self.log.failures.push(Failure { instance, span, request, answer });
        false
    }

    /// Keeps the list at about its length.
    async fn write(&mut self, instance: usize) {
        let is_long = self.seen.rows.len() > TARGET;
        let removes = self.rng.u8(..4) < if is_long { 3 } else { 1 };
        if removes && !self.seen.rows.is_empty() {
            let row = self.rng.usize(..self.seen.rows.len());
            self.remove(instance, self.seen.rows[row].id).await;
        } else {
            self.add(instance).await;
        }
    }

    async fn add(&mut self, instance: usize) {
        let name = self.load.names.fetch_add(1, Ordering::Relaxed);
        let (span, outcome) = self.post(instance, "POST /add", ("name", format!("Task {name}"))).await;
        self.log.history.adds.push(Add { name, span, outcome });
    }

    async fn remove(&mut self, instance: usize, id: Id) {
        let (span, outcome) = self.post(instance, "POST /remove", ("id", id.to_string())).await;
        self.log.history.removes.push(Remove { id, span, outcome });
    }

    async fn post(
        &mut self,
        instance: usize,
        request: &'static str,
        field: (&str, String),
    ) -> (Span, Outcome) {
        let begin = self.load.now();
        let url = format!("{}{}", self.load.cluster.instances[instance].url, &request["POST /".len()..]);
        let answer = self.load.http.post(url).form(&[field]).timeout(PATIENCE).send().await;
        let span = Span { begin, end: self.load.now() };
        let outcome = match &answer {
            Ok(response) if response.status() == 303 => {
                let done = if request == "POST /add" { &self.load.adds } else { &self.load.removes };
                done.fetch_add(1, Ordering::Relaxed);
                return (span, Outcome::Acknowledged);
            }
            Ok(response) if response.status().is_client_error() => Outcome::Failed,
            Err(error) if error.is_connect() => Outcome::Failed,
            _ => Outcome::Unknown,
        };
        let answer =
            answer.map_or_else(|error| format!("{error:?}"), |response| response.status().to_string());
        self.fail(instance, span, request, answer);
        (span, outcome)
    }
}

/// Reads a list page, the one of this number or the last before it. In place of an HTML parser, which would take longer
/// than all else.
pub fn parse(body: &str, asked: usize) -> Option<Page> {
    let total: usize = between(body, r#"<span class="count">"#, "<")?.parse().ok()?;
    let number = asked.min(total.div_ceil(PER_PAGE).max(1));
    let rows = body.split(r#"<tr data-id=""#).skip(1).map(|row| {
        let id = row.split('"').next()?.parse().ok()?;
        Some(Row { id, name: number_in(between(row, r#"<td class="name">"#, "<")?) })
    });
    Some(Page::new(rows.collect::<Option<_>>()?, number, total, PER_PAGE))
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split(after).next()
}

fn number_in(name: &str) -> Option<Name> {
    name.strip_prefix("Task ")?.parse().ok()
}
