//! Programs of `examples/`, built when they are first needed.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
        Self::run(&build(name), arguments)
    }

    /// As [`start`](Self::start), of any program.
    pub fn run(program: &Path, arguments: &[&str]) -> Self {
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

/// Returns the path of an example. It is built as the tests are, beside what they have built, so that only our own
/// crate is compiled again, if anything.
pub fn build(name: &str) -> PathBuf {
    build_by(cargo(), name)
}

/// As [`build`], with fault injection. Cargo keeps what it compiles by another wrapper apart, so that neither build
/// spoils the other.
pub fn build_with_faults(name: &str) -> PathBuf {
    let mut cargo = cargo();
    let wrapper = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/with-faults.sh");
    cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper);
    build_by(cargo, name)
}

fn build_by(mut cargo: Command, name: &str) -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_tasklist")).parent().unwrap();
    cargo.args(["build", "--quiet", "--locked", "--example", name]);
    cargo.arg("--target-dir").arg(target()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
    profile.join("examples").join(name)
}

/// Where what is built is kept.
pub fn target() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tasklist")).ancestors().nth(2).unwrap()
}

/// Another cargo.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo tells tests of the package is no business of another cargo: scripts of crates would run again for it.
    for (name, _) in env::vars_os() {
        let is_of_package = |name: &str| {
            name == "OUT_DIR" || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        };
        if name.to_str().is_some_and(is_of_package) {
            cargo.env_remove(name);
        }
    }
    cargo
}
