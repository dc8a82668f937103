//! A child process that does not outlive the tests, however they end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::wait_until;

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
    #[cfg(target_os = "linux")]
    pub fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut states = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")));
        states.all(|state| state.is_ok_and(|state| state.contains(") T ")))
    }

    /// Whether it has heeded a `STOP`.
    #[cfg(not(target_os = "linux"))]
    pub fn is_stopped(&self) -> bool {
        self.says("state").starts_with('T')
    }

    /// How much memory it holds, in bytes.
    pub fn memory(&self) -> usize {
        self.says("rss").parse::<usize>().unwrap() * 1024
    }

    /// The most memory that it has held at once, in bytes.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// The most memory that it has held at once is known on Linux only.
    #[cfg(not(target_os = "linux"))]
    pub fn peak_memory(&self) -> usize {
        leave_out("the peak of a process's memory, which Linux counts")
    }

    /// The number of the user that it runs as.
    pub fn owner(&self) -> u32 {
        self.says("uid").parse().unwrap()
    }

    /// Returns what `ps` says of it in one column.
    fn says(&self, column: &str) -> String {
        let mut ps = Command::new(find("ps"));
        let output = ps.args(["-o", &format!("{column}="), "-p", &self.child.id().to_string()]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.child.try_wait().expect("the child can be waited for");
            status.is_some()
        });
        status.expect("it has ended")
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

/// Ends a test that cannot run on this machine, and says what it needs. `scripts/test` knows these words, and lists the
/// test among those that were left out and not among those that failed.
#[track_caller]
pub fn leave_out(needs: &str) -> ! {
    panic!("left out: needs {needs}")
}

/// Returns a program's path. Without the program, the test is left out.
#[track_caller]
pub fn find(program: &str) -> PathBuf {
    find_any(&[program])
}

/// Returns the path of the first of these programs that is installed. Without any of them, the test is left out.
#[track_caller]
pub fn find_any(programs: &[&str]) -> PathBuf {
    let directories = directories();
    let paths =
        programs.iter().flat_map(|program| directories.iter().map(move |directory| directory.join(program)));
    let found = paths.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| leave_out(&format!("`{}`", programs[0])))
}

/// Leaves the test out unless root runs it.
#[track_caller]
pub fn require_root() {
    if !is_root() {
        leave_out("root");
    }
}

/// Leaves the test out where a file of the system is missing, such as `/dev/full`.
#[track_caller]
pub fn require_file(path: &str) {
    if !Path::new(path).exists() {
        leave_out(&format!("`{path}`"));
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The directories that may hold programs: those in `PATH`, and those where packages put theirs.
fn directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin", "/sbin", "/opt/homebrew/bin"].map(PathBuf::from));
    // Postgres has a directory for each of its versions, and the newest is as good as any.
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql"),
        ("/usr/local/opt", "postgresql"),
    ] {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let names = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        let mut versions: Vec<_> = names.map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        directories.extend(versions.into_iter().rev());
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::find_any;

    #[test]
    fn the_first_program_that_is_installed_is_found() {
        assert!(find_any(&["no-such-program", "sh"]).ends_with("sh"));
    }

    /// `scripts/test` looks for these words.
    #[test]
    #[should_panic(expected = "left out: needs `no-such-program`")]
    fn a_test_whose_program_is_missing_is_left_out() {
        find_any(&["no-such-program", "none-either"]);
    }
}
