//! Programs that tests run beside tasklist itself.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use reqwest::RequestBuilder;
use tempfile::TempDir;

use testkit::http;
use testkit::page::Page;
use testkit::process::Process;

/// One that serves, and prints where.
pub struct Example {
    pub url: String,
    process: Process,
    _directory: TempDir,
}

impl Example {
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        Self::run(&built(name), arguments)
    }

    fn run(program: &Path, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        let mut process = Process::start(command.args(arguments).stdout(Stdio::piped()), directory.path());
        let mut url = String::new();
        BufReader::new(process.child().stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { url: url.trim().to_owned(), process, _directory: directory }
    }

    /// Ends it without a word, and waits until it has ended.
    pub fn kill(mut self) {
        self.process.kill();
    }

    pub fn request(&self) -> RequestBuilder {
        http().get(&self.url)
    }

    pub async fn get(&self) -> Page {
        Page::read(self.request()).await
    }
}

/// Returns the path of a program below `target/debug` that `scripts/test-programs` has built.
pub fn built(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_tasklist")).ancestors().nth(2).unwrap();
    let program = target.join("debug").join(name);
    let sources = fs::read_to_string(program.with_extension("d"));
    let (Ok(sources), Ok(time)) = (sources, time_of(&program)) else {
        panic!("{} is missing: run scripts/test-programs", program.display());
    };
    let sources = sources.lines().next().and_then(|line| line.split_once(": ")).unwrap().1;
    for source in sources.replace("\\ ", "\0").split(' ').map(|path| path.replace('\0', " ")) {
        let is_newer = time_of(Path::new(&source)).is_ok_and(|changed| changed > time);
        assert!(!is_newer, "{} is older than {source}: run scripts/test-programs", program.display());
    }
    program
}

fn time_of(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}
