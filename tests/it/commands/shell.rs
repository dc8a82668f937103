//! `tasklist shell`: from a pipe, and on a terminal.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{assert_fails, text};
use crate::support::app::Settings;
use testkit::memcached::{Memcached, PASSWORD};

#[test]
fn lines_from_a_pipe_share_one_process_and_its_cache() {
    let lines = "set foo bar\nget foo\nset 'quoted' \"a b\" --ttl 60\nget quoted\nincr n\n# a comment\n\n";
    let output = Settings::new().run_with_input(&["shell"], lines.as_bytes());
    assert_eq!(text(&output.stdout), "bar\na b\nn: not in the cache\n");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn a_line_that_fails_does_not_keep_the_others_from_being_done() {
    let lines = "get foo\nset foo bar\nget foo\nput foo x\nset foo 'x\nget foo\n";
    let output = Settings::new().run_with_input(&["shell"], lines.as_bytes());
    assert_eq!(text(&output.stdout), "foo: not in the cache\nbar\nbar\n");
    let said = [
        "line 4: there is no such verb; `help` lists them",
        "line 5: a quote is not closed",
        "2 lines failed",
    ];
    assert_fails(&output, &said);
}

#[test]
fn a_miss_is_a_result_whatever_the_verb() {
    let lines = "get a\nincr a\ndecr a\ntouch a --ttl 5\nreplace a b\ndelete a\nset a b\nadd a c\n";
    let output = Settings::new().run_with_input(&["shell"], lines.as_bytes());
    let said = "a: not in the cache\n".repeat(6) + "a: in the cache already\n";
    assert_eq!((text(&output.stdout), text(&output.stderr)), (said, String::new()));
    assert!(output.status.success());
}

#[test]
fn a_number_that_is_none_and_a_server_that_is_down_are_errors() {
    let output = Settings::new().run_with_input(&["shell"], b"set a b\nincr a\n");
    assert_fails(&output, &["line 2: a: ", "1 line failed"]);
    let settings = Settings::new().with("MEMCACHIER_SERVERS", "127.0.0.1:1");
    assert_fails(&settings.run_with_input(&["shell"], b"get a\n"), &["line 1: ", "1 line failed"]);
}

#[test]
fn lines_may_come_from_windows() {
    let lines = "\u{feff}set foo bar\r\nget foo\r\n\r\nget 'foo'\r\nquit\r\n";
    let output = Settings::new().run_with_input(&["shell"], lines.as_bytes());
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("bar\nbar\n".into(), String::new()));
    assert!(output.status.success());
}

#[test]
fn quit_and_exit_end_it_before_what_follows() {
    for leave in ["quit", "exit"] {
        let output = Settings::new().run_with_input(&["shell"], format!("{leave}\nget foo").as_bytes());
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{leave}");
    }
}

#[test]
fn help_lists_the_verbs_and_their_arguments() {
    let output = Settings::new().run_with_input(&["shell"], b"help\nhelp set\nset --help\n");
    let said = text(&output.stdout);
    for part in ["replace", "quit", "exit", "--ttl <SECONDS>"] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn values_from_a_pipe_keep_their_bytes() {
    let output = Settings::new().run_with_input(&["shell"], b"set foo '\xff  \xfe'\nget foo\n");
    assert_eq!(output.stdout, b"\xff  \xfe\n", "{}", text(&output.stderr));
    let output = Settings::new().run_with_input(&["shell"], b"set foo bar\r\nget foo\r\n");
    assert_eq!(text(&output.stdout), "bar\n", "{}", text(&output.stderr));
}

#[test]
fn a_terminal_has_a_prompt_that_completes_recalls_and_survives_ctrl_c() {
    let memcached = Memcached::start_with_sasl();
    let mut terminal = Settings::new().with_login(&memcached).on_terminal(&["shell"]);
    let greeting = terminal.wait_for("tasklist> ");
    assert!(greeting.contains(&memcached.address()) && greeting.contains("Ctrl-D leaves"), "{greeting}");
    terminal.press("rep\tfoo no\r");
    terminal.wait_for("foo: not in the cache");
    terminal.wait_for("tasklist> ");
    terminal.press("set foo 'a b'\r");
    terminal.wait_for("stored in ");
    terminal.wait_for("tasklist> ");
    terminal.press("delete foo\u{3}");
    terminal.wait_for("tasklist> ");
    terminal.press("get foo\r");
    terminal.wait_for("\na b");
    terminal.wait_for("found in ");
    terminal.wait_for("tasklist> ");
    // Up: the same again.
    terminal.press("\u{1b}[A\r");
    terminal.wait_for("\na b");
    terminal.wait_for("tasklist> ");
    terminal.press("\u{4}");
    assert!(terminal.wait().success());
    assert!(!terminal.screen().contains(PASSWORD));
}

#[test]
fn the_history_outlives_the_prompt_without_values() {
    let settings = Settings::new();
    for line in ["get foo", "set foo s3cret", "st foo s3cret", "set foo 's3cret", "delete foo"] {
        let mut terminal = settings.on_terminal(&["shell"]);
        terminal.wait_for("tasklist> ");
        terminal.press(&format!("{line}\r"));
        terminal.wait_for("foo");
        terminal.wait_for("tasklist> ");
        terminal.press("quit\r");
        assert!(terminal.wait().success());
    }
    let file = settings.directory().join(".tasklist_history");
    let history = fs::read_to_string(&file).unwrap();
    assert!(history.contains("get foo\n") && history.contains("delete foo\n"), "{history}");
    assert!(!history.contains("s3cret"), "{history}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_history_that_cannot_be_written_is_no_error() {
    let settings = Settings::new();
    fs::create_dir(settings.directory().join(".tasklist_history")).unwrap();
    let mut terminal = settings.on_terminal(&["shell"]);
    terminal.wait_for("tasklist> ");
    terminal.press("get foo\r");
    terminal.wait_for("foo: not in the cache");
    terminal.wait_for("tasklist> ");
    terminal.press("exit\r");
    assert!(terminal.wait().success());
}
