//! A panic is in the log. The test binary runs itself for this, since what it changes is the process's.

use std::env;
use std::io::{self, PipeWriter, Read};
use std::process::{Command, ExitStatus};

use tasklist::config::{LogConfig, log::LogFormat};
use tasklist::telemetry::{self, Output};

use super::{copy, full_pipe};
use testkit::process::Process;
use testkit::wait_until;

const TEST: &str = "output::panics::a_panic_is_logged_and_waits_for_no_reader";

/// Says that this is the process which panics.
const CHILD: &str = "TEST_OF_PANICS";

/// Logs to standard error, as a server does to standard output, and goes on after a thread has panicked.
fn panic_in_a_thread() {
    let output = Output::new(&io::stderr()).unwrap();
    let config = LogConfig { filter: None, format: LogFormat::Text };
    telemetry::init(&config, "info", output.writer(), false);
    telemetry::log_panics();
    let panicking = std::thread::Builder::new().name("careless".into()).spawn(|| panic!("out of luck"));
    assert!(panicking.unwrap().join().is_err());
}

fn run(errors: &PipeWriter) -> ExitStatus {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture", "--test-threads=1"]).env(CHILD, "1").stderr(copy(errors));
    let directory = tempfile::tempdir().unwrap();
    let mut child = Process::start(&mut command, directory.path());
    wait_until("it ends", || child.child().try_wait().unwrap().is_some());
    child.wait()
}

#[test]
fn a_panic_is_logged_and_waits_for_no_reader() {
    if env::var_os(CHILD).is_some() {
        return panic_in_a_thread();
    }
    let (mut reader, writer) = io::pipe().unwrap();
    assert!(run(&writer).success());
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    let line = said.lines().find(|line| line.contains("ERROR")).unwrap_or_else(|| panic!("{said}"));
    for part in ["panicked: out of luck", "thread=\"careless\"", "place=tests/it/output/panics.rs:"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert_eq!(said.lines().count(), 1, "nothing else is said: {said}");

    let (_reader, writer) = full_pipe();
    assert!(run(&writer).success());
}
