//! Two processes, a memcached and a Postgres, a proxy on each way between them, and what their visitors saw.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinHandle;

use super::Making;
use crate::consistency::checker::{
    Add, Fault, History, Id, Moment, Name, Outcome, Read, Remove, Row, Span, check,
};
use crate::consistency::load::parse;
use crate::support::app::{App, Settings};
use testkit::line::Line;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::postgres::{Postgres, TestDatabase};
use testkit::process::find;
use testkit::proxy::Proxy;
use testkit::{eventually, http};

/// How many visitors come at once where it matters what they wait for together.
const VISITORS: usize = 5;

/// Where the list is, up to the number of the page.
const LIST: &str = "/?page=";

/// Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Parts>);

pub struct Parts {
    pub processes: [Process; 2],
    pub database: TestDatabase,
    pub memcached: Memcached,
    pub is_mistaken: bool,
    clock: Instant,
    history: Mutex<History>,
}

/// A process, the way to it, and its ways to the servers.
pub struct Process {
    app: App,
    http: reqwest::Client,
    door: Proxy,
    pub to_database: Proxy,
    /// The same way further on.
    pub line: Line,
    pub to_memcached: Proxy,
}

impl World {
    pub async fn new(making: Option<Making>) -> Self {
        let (memcached, database) = (Memcached::start(), Postgres::shared().database().await);
        let processes = [
            Process::new(&memcached, &database, making).await,
            Process::new(&memcached, &database, making).await,
        ];
        if let Some(Making::Trigger(fires)) = making {
            let trigger = format!("trigger tasks_will_change {fires} execute function tasks_will_change()");
            let sql = format!("drop trigger tasks_will_change on tasks; create {trigger}");
            database.execute(AssertSqlSafe(sql)).await;
        }
        let (clock, history) = (Instant::now(), Mutex::default());
        Self(Arc::new(Parts {
            processes,
            database,
            memcached,
            is_mistaken: making.is_some(),
            clock,
            history,
        }))
    }

    pub fn process(&self, index: usize) -> &Process {
        &self.0.processes[index]
    }

    pub fn database(&self) -> &TestDatabase {
        &self.0.database
    }

    pub fn memcached(&self) -> &Memcached {
        &self.0.memcached
    }

    /// Whether the mistake is made in this one.
    pub fn is_mistaken(&self) -> bool {
        self.0.is_mistaken
    }

    /// How often a process has made its mistake.
    pub fn mistakes(&self, process: usize) -> usize {
        self.process(process).app.output().matches("a mistake is made").count()
    }

    /// The version of the list, as it stands in keys.
    pub async fn version(&self) -> String {
        let mut connection = PgConnection::connect(&self.database().url).await.unwrap();
        let sql = "select v || '-' || tok from list_state";
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    }

    /// All that is wrong with what visitors were shown.
    pub fn verdict(&self) -> BTreeSet<Fault> {
        check(&self.history()).into_iter().map(|finding| finding.fault).collect()
    }

    /// Adds a task by the form.
    pub async fn add(&self, process: usize, name: Name) {
        let span = self.post(process, "/add", ("name", &task(name))).await;
        self.history().adds.push(Add { name, span, outcome: Outcome::Acknowledged });
    }

    /// Removes a task by the form.
    pub async fn remove(&self, process: usize, id: Id) {
        let span = self.post(process, "/remove", ("id", &id.to_string())).await;
        self.history().removes.push(Remove { id, span, outcome: Outcome::Acknowledged });
    }

    async fn post(&self, process: usize, path: &str, field: (&str, &str)) -> Span {
        let begin = self.now();
        let answer = Page::read(self.process(process).request(Method::POST, path).form(&[field])).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        Span { begin, end: self.now() }
    }

    /// Reads the first page and returns its rows; none if there is no page.
    pub async fn read(&self, process: usize) -> Option<Vec<Row>> {
        self.read_page(process, 1).await
    }

    /// Reads the page of a number.
    pub async fn read_page(&self, process: usize, number: usize) -> Option<Vec<Row>> {
        let begin = self.now();
        let answer = Page::read(self.process(process).request(Method::GET, &format!("{LIST}{number}"))).await;
        let span = Span { begin, end: self.now() };
        if answer.status != 200 {
            return None;
        }
        let page = Arc::new(parse(&answer.body, number).expect("a list page"));
        self.history().reads.push(Read { span, page: page.clone() });
        Some(page.rows.clone())
    }

    pub fn begin_add(&self, process: usize, name: Name) -> JoinHandle<()> {
        let world = self.clone();
        tokio::spawn(async move { world.add(process, name).await })
    }

    pub fn begin_read(&self, process: usize) -> JoinHandle<Option<Vec<Row>>> {
        let world = self.clone();
        tokio::spawn(async move { world.read(process).await })
    }

    /// Lets some visitors ask, and returns when they have been heard.
    pub async fn begin_reads(&self, process: usize) -> Vec<JoinHandle<Option<Vec<Row>>>> {
        let sent = || self.process(process).door.messages_with(LIST);
        let before = sent();
        let reads = (0..VISITORS).map(|_| self.begin_read(process)).collect();
        eventually("they are at the door", async || sent() == before + VISITORS).await;
        self.probe(process).await;
        reads
    }

    /// Asks something else again and again: what has reached the process before the last of these questions has been
    /// heard when that is answered.
    pub async fn probe(&self, process: usize) {
        for _ in 0..VISITORS {
            let probes =
                (0..VISITORS).map(|_| Page::read(self.process(process).request(Method::GET, "/healthz")));
            assert!(join_all(probes).await.iter().all(|answer| answer.status == 200));
        }
    }

    /// Changes something by hand that counts as an add of these tasks.
    pub async fn add_by_hand(&self, names: impl IntoIterator<Item = Name>, sql: &'static str) {
        let span = self.by_hand(sql).await;
        let add = |name| Add { name, span, outcome: Outcome::Acknowledged };
        self.history().adds.extend(names.into_iter().map(add));
    }

    /// Changes something by hand that counts as the removal of these tasks.
    pub async fn remove_by_hand(&self, ids: impl IntoIterator<Item = Id>, sql: &'static str) {
        let span = self.by_hand(sql).await;
        self.removed(ids, span);
    }

    async fn by_hand(&self, sql: &'static str) -> Span {
        let begin = self.now();
        self.database().execute(sql).await;
        Span { begin, end: self.now() }
    }

    fn removed(&self, ids: impl IntoIterator<Item = Id>, span: Span) {
        let remove = |id| Remove { id, span, outcome: Outcome::Acknowledged };
        self.history().removes.extend(ids.into_iter().map(remove));
    }

    /// The whole database, as it is saved for a bad day.
    pub fn dump(&self) -> Vec<u8> {
        let mut dump = Command::new(find("pg_dump"));
        let dump = dump.args(["--clean", "--if-exists", &self.database().url]).output().unwrap();
        assert!(dump.status.success(), "{dump:?}");
        dump.stdout
    }

    /// Brings a dump back, in which these tasks are not. No id is used again, by which the checker knows tasks.
    pub async fn restore(&self, dump: &[u8], without: impl IntoIterator<Item = Id>) {
        let begin = self.now();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), dump).unwrap();
        let mut psql = Command::new(find("psql"));
        psql.args(["-q", "-1", "-v", "ON_ERROR_STOP=1", &self.database().url, "-f"]).arg(file.path());
        assert!(psql.stdout(Stdio::null()).status().unwrap().success());
        self.database().execute("select setval(pg_get_serial_sequence('tasks', 'id'), 1000)").await;
        self.removed(without, Span { begin, end: self.now() });
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        u64::try_from(self.0.clock.elapsed().as_nanos()).unwrap()
    }
}

impl Process {
    async fn new(memcached: &Memcached, database: &TestDatabase, making: Option<Making>) -> Self {
        let line = Line::start(database.address(), &[""]).await.remove(0);
        let to_database = Proxy::start(line.address.to_string()).await;
        let to_memcached = Proxy::start(memcached.address()).await;
        let settings = Settings::new()
            .with("DATABASE_URL", &database.url_through(to_database.address))
            .with("MEMCACHIER_SERVERS", &to_memcached.address.to_string())
            .with("RUST_LOG", "error");
        let settings = match making {
            Some(Making::Code(mistake)) => settings.with_mistake(mistake),
            Some(Making::Variable(variable, value)) => settings.with(variable, value),
            Some(Making::Trigger(_)) | None => settings,
        };
        let app = settings.serve();
        let door = Proxy::start(app.address().to_owned()).await;
        Self { app, http: http(), door, to_database, line, to_memcached }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.door.address))
    }
}

fn task(name: Name) -> String {
    format!("Task {name}")
}
