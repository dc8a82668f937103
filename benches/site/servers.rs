//! Postgres and memcached of the benchmark's own, as they are installed: but for where they listen, with their
//! defaults.

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, find, wait_for};

const USER: &str = "bench";
const PASSWORD: &str = "sesame";

/// A memcached that asks for a login, as MemCachier does.
pub struct Memcached {
    pub process: Process,
    pub address: String,
    _directory: TempDir,
}

impl Memcached {
    pub fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        write_sasl_files(directory.path())?;
        let port = free_port()?;
        let mut command = Command::new(find("memcached")?);
        command.args(["-u", "root", "-l", "127.0.0.1", "-U", "0", "-S", "-p", &port.to_string()]);
        command.env("SASL_CONF_PATH", directory.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::start(&mut command)?;
        let address = format!("127.0.0.1:{port}");
        wait_for("memcached listens", || std::net::TcpStream::connect(&address).ok())?;
        Ok(Self { process, address, _directory: directory })
    }

    /// What the application's environment says of it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("MEMCACHIER_SERVERS", self.address.clone()),
            ("MEMCACHIER_USERNAME", USER.into()),
            ("MEMCACHIER_PASSWORD", PASSWORD.into()),
        ]
    }

    /// As the `memcache` crate has it.
    pub fn url(&self) -> String {
        format!("memcache://{USER}:{PASSWORD}@{}?protocol=binary", self.address)
    }
}

fn write_sasl_files(directory: &Path) -> Result<()> {
    let users = directory.join("sasldb2");
    let settings = format!(
        "mech_list: plain\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\n",
        users.display()
    );
    fs::write(directory.join("memcached.conf"), settings)?;
    let mut command = Command::new(find("saslpasswd2")?);
    command.args(["-p", "-c", "-a", "memcached", "-f"]).arg(&users).arg(USER);
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("there is a pipe")?.write_all(PASSWORD.as_bytes())?;
    ensure!(child.wait()?.success(), "saslpasswd2 fails");
    Ok(())
}

/// Postgres as `initdb` configures it, with a log that can be asked what was done.
pub struct Postgres {
    pub process: Process,
    pub port: u16,
    log: PathBuf,
    _directory: TempDir,
}

impl Postgres {
    pub fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777))?;
        let data = directory.path().join("data");
        let mut initdb = unprivileged("initdb")?;
        initdb.arg("-D").arg(&data).args(["-U", "tasks", "--auth=trust", "--no-sync", "-E", "UTF8"]);
        ensure!(initdb.stdout(Stdio::null()).status()?.success(), "initdb fails");
        let port = free_port()?;
        let mut command = unprivileged("postgres")?;
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        let place = ["listen_addresses=127.0.0.1", "unix_socket_directories="];
        let log =
            ["logging_collector=on", "log_destination=jsonlog", "log_filename=log", "log_rotation_age=0"];
        command.args(place.into_iter().chain(log).flat_map(|setting| ["-c", setting]));
        let process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let is_ready = find("pg_isready")?;
        wait_for("Postgres listens", || {
            let mut command = Command::new(&is_ready);
            let status = command.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status();
            status.is_ok_and(|status| status.success()).then_some(())
        })?;
        Ok(Self { process, port, log: data.join("log/log.json"), _directory: directory })
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://tasks@127.0.0.1:{}/{database}", self.port)
    }

    /// The statements that the application's connections have carried out since they are logged, and their parameters.
    pub fn statements(&self) -> Result<Vec<(String, Vec<i64>)>> {
        let log = fs::read_to_string(&self.log)?;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours = lines.filter(|line| line["application_name"] == "tasklist");
        Ok(ours.filter_map(|line| statement(&line)).collect())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.process.end_by("QUIT"); // at once, with all its sessions
    }
}

/// What a line of the log says that was carried out: `duration: 0.1 ms  execute name: select …`.
fn statement(line: &Value) -> Option<(String, Vec<i64>)> {
    let (_, named) = line["message"].as_str()?.split_once("  execute ")?;
    let (_, sql) = named.split_once(": ")?;
    // `parameters: $1 = '5001', $2 = '0'`
    let quoted = line["detail"].as_str().unwrap_or_default().split('\'').skip(1).step_by(2);
    Some((sql.to_owned(), quoted.map(|value| value.parse().ok()).collect::<Option<_>>()?))
}

/// Postgres refuses to run as root, so root runs it as the user that its package makes.
fn unprivileged(program: &str) -> Result<Command> {
    let program = find(program)?;
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(Command::new(program));
    }
    let mut command = Command::new(find("setpriv")?);
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program).current_dir("/");
    Ok(command)
}

/// Returns a port that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
