//! A Postgres of the tests' own: one for all tests, with a database for each, or one that a test may stop.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr};
use tempfile::TempDir;

use super::port::{on_free_port, on_same_port};
use super::process::{Process, find, is_root};
use super::{eventually, wait_until};

/// Where a server says in its directory who it is, and whether it is ready.
const PID_FILE: &str = "postmaster.pid";

pub struct Postgres {
    process: Process,
    _directory: TempDir,
    data: PathBuf,
    port: u16,
    settings: Vec<String>,
}

/// A database that is one test's own.
pub struct TestDatabase {
    pub url: String,
    server: SocketAddr,
}

impl Postgres {
    /// The server for all tests that leave it running.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further settings, such as `max_connections=10`.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::launch(settings, |_| {})
    }

    /// Refuses whoever does not speak TLS, as hosted ones do. Certificate and key are in PEM.
    pub fn start_with_tls(certificate: &str, key: &str) -> Self {
        Self::launch(&["ssl=on"], |data| {
            let owner = fs::metadata(data).unwrap();
            let write = |name: &str, text: &str| {
                let path = data.join(name);
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
                chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            };
            write("server.crt", certificate);
            write("server.key", key);
            write("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\n");
        })
    }

    fn launch(settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let settings: Vec<_> = settings.iter().copied().map(String::from).collect();
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let data = directory.path().join("data");
        let mut initdb = unprivileged("initdb");
        initdb.arg("-D").arg(&data).args(["-U", "tasks", "--auth=trust", "--no-sync", "-E", "UTF8"]);
        assert!(initdb.stdout(Stdio::null()).status().unwrap().success());
        prepare(&data);
        let start = |port| run(&data, port, &settings, directory.path());
        let (process, port) = on_free_port("Postgres", start, |_| is_ready(&data));
        Self { process, _directory: directory, data, port, settings }
    }

    /// Makes an empty database.
    pub async fn database(&self) -> TestDatabase {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await.unwrap();
        TestDatabase { url: self.url(&name), server: ([127, 0, 0, 1], self.port).into() }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://tasks@127.0.0.1:{}/{database}", self.port)
    }

    /// Stops the server and all its sessions in the middle of what they do.
    pub fn hang(&self) {
        self.signal_all("STOP");
    }

    pub fn go_on(&self) {
        self.signal_all("CONT");
    }

    fn signal_all(&self, name: &str) {
        let postmaster = fs::read_to_string(self.data.join(PID_FILE)).unwrap();
        let parent = postmaster.lines().next().unwrap();
        let signal_sessions =
            || Command::new(find("pkill")).args([&format!("-{name}"), "-P", parent]).status();
        let _ = signal_sessions();
        self.process.signal(name);
        wait_until("Postgres has heeded it", || self.process.is_stopped() == (name == "STOP"));
        // A session that had just begun may have been missed before. Now none begins.
        let _ = signal_sessions();
    }

    pub fn kill(&mut self) {
        self.process.signal("QUIT");
        self.process.wait();
    }

    /// Stops it as an upgrade does: what runs is ended, and told so.
    pub fn shut_down(&mut self) {
        self.process.signal("INT");
        self.process.wait();
    }

    pub fn restart(&mut self) {
        let directory = self.data.parent().unwrap();
        let start = || run(&self.data, self.port, &self.settings, directory);
        self.process = on_same_port("Postgres", start, || is_ready(&self.data));
    }
}

impl TestDatabase {
    /// The URL with the server under another name, and with options.
    pub fn url_with(&self, host: &str, options: &str) -> String {
        self.url.replace("127.0.0.1", host) + options
    }

    /// The server's `host:port`.
    pub fn address(&self) -> String {
        self.server.to_string()
    }

    /// The URL by way of a proxy.
    pub fn url_through(&self, proxy: SocketAddr) -> String {
        self.url.replace(&self.address(), &proxy.to_string())
    }

    /// Keeps others from writing tasks until the connection is dropped.
    pub async fn lock_tasks(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql("begin; lock table tasks in share mode").execute(&mut connection).await.unwrap();
        connection
    }

    /// Keeps others from changing the sessions there are until the connection is dropped. They can be read.
    pub async fn lock_sessions(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let sql = "begin; select 1 from sessions for update";
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection
    }

    /// Keeps others from reading sessions until the connection is dropped.
    pub async fn keep_sessions_unread(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql("begin; lock table sessions").execute(&mut connection).await.unwrap();
        connection
    }

    /// Counts the connections of apps.
    pub async fn connections(&self) -> usize {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let sql = "select count(*) from pg_stat_activity \
                   where datname = current_database() and application_name = 'tasklist'";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        count.try_into().unwrap()
    }

    /// Ends all connections but its own, and waits until they are gone.
    pub async fn end_connections(&self) {
        let sql = "select pg_terminate_backend(pid, 5000) from pg_stat_activity \
                   where datname = current_database() and pid <> pg_backend_pid()";
        self.execute(sql).await;
    }

    /// Reads the tasks, ordered by id.
    pub async fn tasks(&self) -> Vec<(i64, String)> {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query_as("select id, name from tasks order by id").fetch_all(&mut connection).await.unwrap()
    }

    /// Reads the sessions' names, what is in them and when they expire.
    pub async fn sessions(&self) -> Vec<(String, String, i64)> {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let sql = "select id, data, expires_at from sessions order by expires_at";
        sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap()
    }

    /// Waits until at least so many wait for what another holds.
    pub async fn wait_for_waiting(&self, expected: i64) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let sql = "select count(*) from pg_stat_activity \
                   where datname = current_database() and wait_event_type = 'Lock'";
        eventually("they wait for a lock", async || {
            let (count,): (i64,) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
            count >= expected
        })
        .await;
    }

    /// Runs statements by hand, as with `psql`.
    pub async fn execute(&self, sql: impl SqlSafeStr) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
}

fn run(data: &Path, port: u16, more: &[String], directory: &Path) -> Process {
    let mut command = unprivileged("postgres");
    command.arg("-D").arg(data).args(["-p", &port.to_string()]);
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "max_connections=300",
        "shared_buffers=32MB",
    ];
    let more = more.iter().map(String::as_str);
    command.args(settings.into_iter().chain(more).flat_map(|setting| ["-c", setting]));
    // A server that was killed has left it behind.
    let _ = fs::remove_file(data.join(PID_FILE));
    Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()), directory)
}

/// Whether the server of this directory, and not another on the same port, says that it takes connections.
fn is_ready(data: &Path) -> bool {
    fs::read_to_string(data.join(PID_FILE)).is_ok_and(|said| said.lines().any(|line| line.trim() == "ready"))
}

/// Postgres refuses to run as root, so root runs it as the user that its package makes.
fn unprivileged(program: &str) -> Command {
    as_postgres(&find(program))
}

/// A command that root runs as the user of Postgres, and others as themselves.
pub fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new(find("setpriv"));
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program).current_dir("/");
    command
}
