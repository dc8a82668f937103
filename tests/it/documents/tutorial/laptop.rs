//! The reader's laptop: an empty directory, a few terminals, and a network of its own, where the ports that the
//! tutorial names are free whatever else runs here.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::console::{Keys, PROGRAM_PROMPT, Place, Typed};
use super::transcript;
use crate::support::app::BINARY;
use testkit::process::{Process, find, leave_out};
use testkit::terminal::Terminal;

/// Keeps the network that there is.
const HOLD: &str = "ip link set lo up && echo up && exec sleep infinity";

/// Makes the shell's prompt known: the last command's exit code between two characters that nothing else writes.
const PROMPT: &str = r"stty -echo; PS1=$'\x1e$?\x1e' PS2=; unset HISTFILE; export TERM=dumb; cd work";
const MARK: char = '\u{1e}';

/// Programs that stand in for those that take minutes, or an account.
const STAND_INS: [(&str, &str); 3] = [
    ("cargo", include_str!("stand-in/cargo")),
    ("doctl", include_str!("stand-in/doctl")),
    ("heroku", include_str!("stand-in/heroku")),
];

pub struct Laptop {
    // Before the directory, which it is in.
    terminals: BTreeMap<Place, Screen>,
    holder: Process,
    home: TempDir,
    is_full: bool,
}

struct Screen {
    terminal: Terminal,
    /// How much of it was compared.
    seen: usize,
}

/// When a line that was typed is done.
pub enum Until<'a> {
    /// With the shell's next prompt.
    Prompt,
    /// With the next prompt of the program that runs.
    ProgramPrompt,
    /// Not yet: it runs on once this was seen.
    Begun(&'a [String]),
}

/// What came of a line that was typed.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The shell is back, with this exit code.
    Exit(i32),
    /// The program runs on, as it should.
    GoesOn,
    /// Nothing that was waited for, in all the time there was.
    Late,
}

impl Laptop {
    /// `is_full` is whether the real cargo builds.
    pub fn new(is_full: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("work")).unwrap();
        write_stand_ins(&home.path().join("bin"), is_full);
        publish(&home.path().join("origin"));
        // The reader is no root: memcached would ask why.
        let mut command = Command::new(find("unshare"));
        command.args(["-U", "-n", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c", HOLD]);
        find("ip");
        command.env("PATH", path(&[]));
        let mut holder = Process::start(command.stdout(Stdio::piped()), home.path());
        let mut said = String::new();
        BufReader::new(holder.child().stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "up\n" {
            leave_out("namespaces for users and networks");
        }
        Self { terminals: BTreeMap::new(), holder, home, is_full }
    }

    /// Types a line and checks what is to be seen.
    pub fn type_in(&mut self, typed: &Typed, until: &Until<'_>) {
        let terminal = if typed.place == Place::Platform { Place::First } else { typed.place };
        if !self.terminals.contains_key(&terminal) {
            let screen = self.open();
            self.terminals.insert(terminal, screen);
        }
        let limit = Duration::from_secs(if self.is_full { 1800 } else { 60 });
        let screen = self.terminals.get_mut(&terminal).unwrap();
        let (keys, is_interrupt) = match &typed.keys {
            Keys::Command(line) | Keys::Line(line) => (format!("{line}\n"), false),
            Keys::Interrupt => ("\u{3}".into(), true),
        };
        if is_interrupt {
            screen.seen = screen.terminal.screen().len();
        }
        screen.terminal.press(&keys);
        let (seen, end) = screen.wait(until, limit);
        let Typed { line, expected, .. } = typed;
        let expected = trimmed(expected);
        let is_as_expected = match until {
            Until::Begun(_) => transcript::begins(&expected, &seen),
            // What a program that is told to stop still says is its log.
            _ if is_interrupt && expected.is_empty() => true,
            _ => typed.place == Place::Platform || transcript::matches(&expected, &seen),
        };
        let difference = transcript::difference(&expected, &seen);
        assert!(is_as_expected, "docs/tutorial.md:{line}: after {keys:?} this was expected:\n{difference}");
        let is_fine = match (until, end) {
            // Who shows nothing must not fail in silence.
            (Until::Prompt, End::Exit(code)) => code == 0 || is_interrupt || !expected.is_empty(),
            (Until::Prompt, _) | (_, End::Late | End::Exit(_)) => false,
            (Until::ProgramPrompt | Until::Begun(_), End::GoesOn) => true,
        };
        assert!(is_fine, "docs/tutorial.md:{line}: {keys:?} came to {end:?}:\n{}", seen.join("\n"));
    }

    fn open(&self) -> Screen {
        let mut command = Command::new(find("nsenter"));
        let holder = self.holder.id().to_string();
        command.args(["-t", &holder, "-U", "-n", "--preserve-credentials"]);
        command.args(["bash", "--norc", "--noprofile", "--noediting", "-i"]);
        let home = self.home.path();
        command.env("PATH", path(&[&home.join("bin")])).env("TASKLIST", home.join("origin"));
        command.env("PROGRAM", BINARY).env("REAL_CARGO", env!("CARGO"));
        command.env("REAL_HOME", std::env::var("HOME").unwrap());
        for name in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            command.envs(std::env::var(name).map(|value| (name, value)));
        }
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tutorial");
        command.env("LANG", "C.UTF-8").env("FULL_TARGET", target);
        let mut screen = Screen { terminal: Terminal::open(&command, home), seen: 0 };
        screen.terminal.press(&format!("{PROMPT}\n"));
        screen.wait(&Until::Prompt, Duration::from_secs(20));
        screen
    }
}

impl Drop for Laptop {
    /// What was left running in the background ends with the laptop: memcached, if it is in this network.
    fn drop(&mut self) {
        let network = |id: &str| fs::read_link(format!("/proc/{id}/ns/net")).ok();
        let Ok(id) = fs::read_to_string(self.home.path().join("work/tasklist/memcached.pid")) else { return };
        if network(id.trim()).is_some_and(|other| Some(other) == network(&self.holder.id().to_string())) {
            let _ = Command::new("kill").args(["-KILL", id.trim()]).status();
        }
    }
}

impl Screen {
    /// Returns the lines that came of what was typed, and how it went on.
    #[track_caller]
    fn wait(&mut self, until: &Until<'_>, limit: Duration) -> (Vec<String>, End) {
        let started = Instant::now();
        loop {
            let screen = self.terminal.screen();
            let new = &screen[self.seen..];
            let is_late = started.elapsed() > limit;
            if let Some((output, rest)) = new.split_once(MARK)
                && let Some((status, _)) = rest.split_once(MARK)
            {
                self.seen += output.len() + status.len() + 2;
                return (lines(output), End::Exit(status.parse().unwrap()));
            }
            match until {
                Until::Prompt => {}
                Until::ProgramPrompt => {
                    if let Some(output) = new.strip_suffix(PROGRAM_PROMPT) {
                        self.seen = screen.len();
                        return (lines(output), End::GoesOn);
                    }
                }
                Until::Begun(expected) => {
                    let seen = lines(new);
                    if transcript::begins(&trimmed(expected), &seen) {
                        return (seen, End::GoesOn);
                    }
                }
            }
            if is_late {
                return (lines(new), End::Late);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What stands on the screen, without colours.
fn lines(output: &str) -> Vec<String> {
    let mut text = String::new();
    let mut pieces = output.split('\u{1b}');
    text += pieces.next().unwrap_or_default();
    for piece in pieces {
        text += piece.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    let text = text.replace('\r', "");
    trimmed(&text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>())
}

/// Without the empty lines at the end.
fn trimmed(lines: &[String]) -> Vec<String> {
    let length = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    lines[..length].to_vec()
}

fn path(first: &[&Path]) -> String {
    let path = std::env::var("PATH").unwrap();
    let first = first.iter().map(|path| path.display().to_string());
    first.chain([path, "/usr/sbin:/sbin".into()]).collect::<Vec<_>>().join(":")
}

fn write_stand_ins(bin: &Path, is_full: bool) {
    fs::create_dir(bin).unwrap();
    for (name, script) in STAND_INS {
        let script = if name == "cargo" && is_full { include_str!("stand-in/full-cargo") } else { script };
        let path: PathBuf = bin.join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
}

/// Makes a repository of the package as it is, changes that are not committed included.
fn publish(repository: &Path) {
    let package = env!("CARGO_MANIFEST_DIR");
    let git = |arguments: &[&str]| {
        let mut command = Command::new(find("git"));
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        command.args(["-c", "user.name=tutorial", "-c", "user.email=tutorial@localhost"]);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "--quiet", "--initial-branch=main", repository.to_str().unwrap()]);
    let directory = format!("--git-dir={}", repository.join(".git").display());
    let tree = format!("--work-tree={package}");
    // What is ignored is left out, and so is what was built, wherever that is.
    if let Some(built) = Path::new(BINARY).strip_prefix(package).ok().and_then(|path| path.iter().next()) {
        fs::write(repository.join(".git/info/exclude"), format!("/{}\n", built.display())).unwrap();
    }
    git(&[&directory, &tree, "add", "--all"]);
    git(&[&directory, &tree, "commit", "--quiet", "--message=The task list"]);
}
