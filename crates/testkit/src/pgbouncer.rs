//! PgBouncer in front of a test's Postgres.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::postgres::{TestDatabase, as_postgres};
use super::process::{Process, find};
use super::{free_port, wait_until};

pub struct PgBouncer {
    process: Process,
    directory: TempDir,
    port: u16,
}

impl PgBouncer {
    /// Lends the connections to a database's server, with lines for the configuration, such as
    /// `pool_mode = transaction`. What is not said is as PgBouncer has it.
    pub fn start(database: &TestDatabase, lines: &[&str]) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (host, server_port) = database
            .address()
            .rsplit_once(':')
            .map(|(host, port)| (host.to_owned(), port.to_owned()))
            .unwrap();
        let configuration = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n{}\n",
            path("users"),
            lines.join("\n"),
        );
        fs::write(path("users"), "\"tasks\" \"\"\n").unwrap();
        fs::write(path("pgbouncer.ini"), configuration).unwrap();
        let process = run(&directory.path().join("pgbouncer.ini"), port);
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
        self.process = run(&self.directory.path().join("pgbouncer.ini"), self.port);
    }
}

fn run(configuration: &Path, port: u16) -> Process {
    let mut command: Command = as_postgres(&find("pgbouncer"));
    command.arg("-q").arg(configuration).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::start(&mut command, configuration.parent().unwrap());
    wait_until("PgBouncer listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    process
}
