//! PgBouncer in front of a test's Postgres.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::port::{on_free_port, on_same_port};
use super::postgres::{TestDatabase, as_postgres};
use super::process::{Process, find};

/// Its files.
const CONFIGURATION: &str = "pgbouncer.ini";
const LOG: &str = "log";

pub struct PgBouncer {
    process: Process,
    directory: TempDir,
    port: u16,
}

impl PgBouncer {
    /// Lends the connections to a database's server, with lines for the configuration, such as
    /// `pool_mode = transaction`. What is not said is as PgBouncer has it.
    pub fn start(database: &TestDatabase, lines: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // It writes its log there, as another user than root.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let address = database.address();
        let (host, server_port) = address.rsplit_once(':').unwrap();
        fs::write(path("users"), "\"tasks\" \"\"\n").unwrap();
        let start = |port| {
            let configuration = format!(
                "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\nlogfile = {}\n{}\n",
                path("users"),
                path(LOG),
                lines.join("\n"),
            );
            fs::write(path(CONFIGURATION), configuration).unwrap();
            run(directory.path())
        };
        let (process, port) = on_free_port("PgBouncer", start, |_| is_up(directory.path()));
        Self { process, directory, port }
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Kills it with all its connections, and starts it again.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn start_again(&mut self) {
        let directory = self.directory.path();
        self.process = on_same_port("PgBouncer", || run(directory), || is_up(directory));
    }
}

fn run(directory: &Path) -> Process {
    let mut command: Command = as_postgres(&find("pgbouncer"));
    command.arg("-q").arg(directory.join(CONFIGURATION)).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = fs::remove_file(directory.join(LOG));
    Process::start(&mut command, directory)
}

/// Whether the one of this directory says that it listens. It ends if it cannot.
fn is_up(directory: &Path) -> bool {
    fs::read_to_string(directory.join(LOG)).is_ok_and(|log| log.contains("process up"))
}
