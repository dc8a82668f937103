//! A program on a terminal of its own, typed to key by key.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use super::process::find;
use super::wait_until;

/// `script` gives the program a pseudo-terminal and is in every Debian.
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    seen: usize,
}

impl Terminal {
    /// Opens a terminal for a command whose arguments need no quotes. `home` is its home directory.
    pub fn open(command: &Command, home: &Path) -> Self {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let line: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        let mut terminal = Command::new(find("script"));
        terminal.args(["-qec", &line.join(" "), "/dev/null"]).current_dir(home).env_clear();
        terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        terminal.env("HOME", home).env("TERM", "xterm").env("SHELL", "/bin/sh");
        let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (screen, mut output) = (Arc::<Mutex<Vec<u8>>>::default(), child.stdout.take().unwrap());
        let sink = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                sink.lock().unwrap().extend_from_slice(&bytes[..read]);
            }
        });
        Self { keyboard: child.stdin.take().unwrap(), child, screen, seen: 0 }
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until a text is written behind what was waited for before, and returns all up to it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let mut found = None;
        wait_until(&format!("{text:?} is on the terminal, which shows {:?}", self.screen()), || {
            let screen = self.screen();
            found = screen[self.seen..].find(text).map(|at| screen[self.seen..self.seen + at].to_owned());
            found.is_some()
        });
        let before = found.unwrap();
        self.seen += before.len() + text.len();
        before
    }

    /// What was written so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Terminal {
    /// Hangs up, at which what runs on it ends.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
