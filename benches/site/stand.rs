//! Where the contest takes place: servers, databases with tasks in them, the program and the two examples.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::contest::Contestant;
use super::http::Client;
use super::load::Target;
use super::process::{Process, example, find, wait_for};
use super::servers::{Memcached, Postgres, free_port};

/// As long as names are, when people write them.
pub const NAME: &str = "Water the plants on the balcony, no. ";

pub struct Stand {
    pub runtime: Runtime,
    pub postgres: Postgres,
    pub memcached: Memcached,
    directory: TempDir,
}

/// The program, as it is deployed: not in development, its log in a file.
pub struct App {
    pub process: Process,
    pub url: String,
    _directory: TempDir,
}

/// One of the examples.
pub struct Example {
    pub process: Process,
    pub url: String,
}

impl Stand {
    pub fn new() -> Result<Self> {
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            postgres: Postgres::start()?,
            memcached: Memcached::start()?,
            directory: tempfile::tempdir()?,
        })
    }

    /// Makes a database of Postgres with the program's tables and so many tasks, and returns its URL.
    pub fn database(&self, name: &str, tasks: usize) -> Result<String> {
        self.execute(&self.postgres.url("postgres"), &format!("create database {name}"))?;
        let url = self.postgres.url(name);
        self.migrate(&url)?;
        self.fill(&url, tasks, NAME)?;
        Ok(url)
    }

    /// The same in a file, in SQLite.
    pub fn file(&self, name: &str, tasks: usize) -> Result<String> {
        let url = format!("sqlite://{}", self.directory.path().join(name).display());
        self.migrate(&url)?;
        self.fill(&url, tasks, NAME)?;
        Ok(url)
    }

    fn migrate(&self, database: &str) -> Result<()> {
        let mut command = program(&[("DATABASE_URL", database.into())]);
        let output = command.arg("migrate").output()?;
        ensure!(output.status.success(), "tasklist migrate: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Leaves so many tasks in a database, of names that begin alike.
    pub fn fill(&self, database: &str, tasks: usize, name: &str) -> Result<()> {
        self.execute(database, "delete from tasks")?;
        self.add(database, tasks, name)?;
        // As happens by itself after a while.
        self.execute(database, if database.starts_with("postgres") { "vacuum analyze" } else { "vacuum" })
    }

    /// Adds so many tasks.
    pub fn add(&self, database: &str, tasks: usize, name: &str) -> Result<()> {
        if tasks == 0 {
            return Ok(());
        }
        let numbers = "with recursive numbers (number) as \
                       (select 1 union all select number + 1 from numbers where number <";
        let insert = format!("insert into tasks (name) select '{name}' || number from numbers");
        self.execute(database, &format!("{numbers} {tasks}) {insert}"))
    }

    /// Carries out a statement by hand.
    pub fn execute(&self, database: &str, sql: &str) -> Result<()> {
        let sql = AssertSqlSafe(sql.to_owned());
        self.runtime.block_on(async {
            if database.starts_with("postgres") {
                let mut connection = PgConnection::connect(database).await?;
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                Ok(connection.close().await?)
            } else {
                let mut connection = SqliteConnection::connect(database).await?;
                sqlx::raw_sql(sql).execute(&mut connection).await?;
                Ok(connection.close().await?)
            }
        })
    }

    /// The environment of a program that uses Postgres and memcached, where others have keys of theirs.
    pub fn variables(&self, database: &str) -> Vec<(&'static str, String)> {
        let mut variables = self.memcached.variables();
        let name = database.rsplit('/').next().unwrap_or_default();
        variables.push(("CACHE_KEY_PREFIX", name.to_owned()));
        variables.push(("DATABASE_URL", database.to_owned()));
        variables
    }

    /// The program as a contestant, with all that works for it.
    pub fn contestant(&self, apps: &[&App], target: &Target) -> Contestant {
        let at = |app: &&App| Target { url: app.url.clone(), ..target.clone() };
        let servers = [self.postgres.process.id(), self.memcached.process.id()];
        let processes = apps.iter().map(|app| app.process.id()).chain(servers).collect();
        Contestant { targets: apps.iter().map(at).collect(), processes }
    }
}

/// A `tasklist` in production, with these variables.
fn program(variables: &[(&'static str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasklist"));
    let fixed = [
        ("HOST", "127.0.0.1"),
        ("DEVELOPMENT_MODE", "False"),
        ("SECRET_KEY", "the benchmark's own, which keeps no secret"),
    ];
    command.env_clear().envs(fixed).envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

impl App {
    /// Starts it and waits until it answers.
    pub fn start(variables: &[(&'static str, String)]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let log = File::create(directory.path().join("log"))?;
        let port = free_port()?;
        let mut command = program(variables);
        command.env("PORT", port.to_string()).current_dir(directory.path());
        let process = Process::start(command.arg("serve").stdout(log.try_clone()?).stderr(log))?;
        let url = format!("http://127.0.0.1:{port}/");
        wait_for("tasklist answers", || {
            let answer = Client::connect(&url).and_then(|mut client| client.get("/", &[]));
            answer.ok().filter(|answer| answer.status == 200)
        })?;
        Ok(Self { process, url, _directory: directory })
    }

    /// Asks until the answer comes from the cache, and returns what is asked for.
    pub fn warm(&self, target: &Target) -> Result<Target> {
        let target = Target { url: self.url.clone(), ..target.clone() };
        wait_for("a page is cached", || target.look().ok())?;
        Ok(target)
    }
}

impl Example {
    /// Starts it and reads where it serves.
    fn start(name: &str, arguments: &[String]) -> Result<Self> {
        let mut command = Command::new(example(name)?);
        let mut process = Process::start(command.args(arguments).stdout(Stdio::piped()))?;
        let output = process.child().stdout.take().context("there is a pipe")?;
        let mut url = String::new();
        BufReader::new(output).read_line(&mut url)?;
        ensure!(url.starts_with("http://"), "{name} does not start");
        Ok(Self { process, url: url.trim().to_owned() })
    }

    /// The limit, for what is asked of a program that has it cached.
    pub fn static_page(target: &Target) -> Result<Self> {
        // Whoever has the page already asked for it without saying so.
        let is_asked = |header: &&String| !header.starts_with("if-none-match");
        let headers = target.headers.iter().filter(is_asked).cloned();
        Self::start("static_page", &[target.url.clone()].into_iter().chain(headers).collect::<Vec<_>>())
    }

    /// What one would write on a Sunday, with as many connections to memcached as the crate makes by itself, or with so
    /// many.
    pub fn naive(stand: &Stand, database: &str, connections: Option<u32>) -> Result<Self> {
        let arguments = [database.to_owned(), stand.memcached.url()].into_iter();
        Self::start(
            "naive",
            &arguments.chain(connections.map(|number| number.to_string())).collect::<Vec<_>>(),
        )
    }

    /// As a contestant that is asked the same.
    pub fn contestant(&self, target: &Target, others: &[u32]) -> Contestant {
        let processes: Vec<_> = others.iter().copied().chain([self.process.id()]).collect();
        Contestant::new(Target { url: self.url.clone(), ..target.clone() }, &processes)
    }
}

/// Checks for what is not part of the project.
pub fn check_programs() -> Result<()> {
    for program in ["wrk", "pgbench", "postgres", "initdb", "memcached", "saslpasswd2", "nginx"] {
        find(program)?;
    }
    Ok(())
}
