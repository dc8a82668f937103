//! Commands whose standard output cannot be written.

use std::fs::File;
use std::io::{Write, pipe};
use std::process::Output;

use super::text;
use crate::support::app::{BINARY, Settings};
use testkit::memcached::Memcached;
use testkit::process::require_file;

/// Commands that print something.
const COMMANDS: [&[&str]; 10] = [
    &["check"],
    &["check", "--json"],
    &["migrate"],
    &["clearsessions"],
    &["cache", "get", "foo"],
    &["cache", "--json", "get", "foo"],
    &["cache", "stats"],
    &["--help"],
    &["--version"],
    &["help", "cache"],
];

fn settings(memcached: &Memcached) -> Settings {
    let settings = Settings::new().with_memcached(memcached);
    assert!(settings.run(&["migrate"]).status.success());
    assert!(settings.run(&["cache", "set", "foo", "bar"]).status.success());
    settings
}

#[track_caller]
fn assert_fails(output: &Output, said: &str, command: &[&str]) {
    assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(1), said), "{command:?}");
}

#[test]
fn a_command_whose_output_cannot_be_written_says_so() {
    require_file("/dev/full");
    let memcached = Memcached::start();
    let settings = settings(&memcached);
    for command in COMMANDS {
        assert!(settings.run(command).status.success(), "{command:?}");
        let full = settings.run_into(File::create("/dev/full").unwrap(), command);
        let said = "tasklist: failed to write to standard output: No space left on device (os error 28)\n";
        assert_fails(&full, said, command);
        let unwritable = settings.run_into(File::open("/dev/null").unwrap(), command);
        assert_fails(&unwritable, &said.replace("No space left on device (os error 28)", BAD), command);
    }
}

const BAD: &str = "Bad file descriptor (os error 9)";

#[test]
fn a_reader_who_has_gone_is_told_by_the_exit_code_alone() {
    let memcached = Memcached::start();
    let settings = settings(&memcached);
    for command in COMMANDS {
        assert_fails(&settings.run_into_closed_pipe(command), "", command);
    }
}

#[test]
fn the_shell_does_all_lines_although_nobody_reads_their_results() {
    let memcached = Memcached::start();
    let settings = settings(&memcached);
    let (lines, mut input) = pipe().unwrap();
    input.write_all(b"get foo\nhelp\nget nothing\nset foo again\n").unwrap();
    drop(input);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut shell = settings.shell(&format!("exec {BINARY} shell"));
    let shell = shell.stdin(lines).stdout(writer).output().unwrap();
    assert_fails(&shell, "", &["shell"]);
    assert_eq!(text(&settings.run(&["cache", "get", "foo"]).stdout), "again\n");
}

#[test]
fn a_standard_error_that_cannot_be_written_changes_no_exit_code() {
    require_file("/dev/full");
    for (errors, arguments, code) in [
        ("2>/dev/full", "cache get nothing", 1),
        ("2>/dev/full", "nonsense", 2),
        ("2>/dev/full", "check", 0),
        ("2>&-", "cache get nothing", 1),
    ] {
        let line = format!("exec {BINARY} {arguments} {errors}");
        let status = Settings::new().shell(&line).output().unwrap().status;
        assert_eq!(status.code(), Some(code), "{arguments} {errors}");
    }
    let settings = Settings::new();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let line = format!("exec {BINARY} shell");
    let mut shell = settings.shell(&line);
    let (lines, mut input) = pipe().unwrap();
    input.write_all(b"nonsense\nset foo bar\nget foo\n").unwrap();
    drop(input);
    let output = shell.stdin(lines).stderr(writer).output().unwrap();
    assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(1), "bar\n"));
}
