//! A child process that does not outlive the tests, however they end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Waits for the end of the test process, which closes its standard input, and then ends the child.
const WATCHDOG: &str = r#"cat >/dev/null; kill -CONT "$0"; kill -INT "$0"; sleep 1; kill -KILL "$0"; rm -rf "$1"; pkill -KILL -f "$1""#;

pub struct Process {
    child: Child,
    watchdog: Child,
}

impl Process {
    /// Starts a command. `directory` is removed with it should the tests be killed.
    pub fn start(command: &mut Command, directory: &Path) -> Self {
        let program = PathBuf::from(command.get_program());
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("failed to start {}: {error}", program.display()));
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, &child.id().to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        Self { child, watchdog }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal, such as `STOP` and `CONT`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("there is a kill command").success());
    }

    /// Whether all its threads have heeded a `STOP`, which each does in its own time.
    pub fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut states = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")));
        states.all(|state| state.is_ok_and(|state| state.contains(") T ")))
    }

    /// How much memory it holds, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes("VmRSS:")
    }

    /// The most memory that it has held at once, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.bytes("VmHWM:")
    }

    /// The number of the user that it runs as.
    pub fn owner(&self) -> u32 {
        self.status("Uid:").split_whitespace().next().unwrap().parse().unwrap()
    }

    fn bytes(&self, field: &str) -> usize {
        self.status(field).trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// What the system says of it.
    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the child can be waited for")
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        self.kill();
    }
}

/// Returns a program's path, or says how to install it.
pub fn find(program: &str, directories: &[&str], package: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let candidates = path
        .split(':')
        .chain(directories.iter().copied())
        .map(|directory| Path::new(directory).join(program));
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    found
        .unwrap_or_else(|| panic!("the tests need {program}: apt-get install {package}, or run scripts/test"))
}
