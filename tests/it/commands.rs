//! The command line: what is said, and with which exit code.

mod cache;
mod check;
mod output;
mod shell;
mod verdicts;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Output;

use crate::support::app::Settings;
use testkit::memcached::{Memcached, PASSWORD, USER};
use testkit::postgres::Postgres;
use testkit::process::find;
use testkit::{free_port, wait_until};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn assert_fails(output: &Output, messages: &[&str]) {
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{errors}");
    for message in messages {
        assert!(said.contains(message) || errors.contains(message), "{message:?} is not in:\n{said}{errors}");
    }
    for noise in ["panicked", "backtrace", "hunter2"] {
        assert!(!said.contains(noise) && !errors.contains(noise), "{noise} in:\n{said}{errors}");
    }
}

/// Wrong values, with what is said to be accepted.
const WRONG: [(&str, &str, &str); 11] = [
    ("PORT", "http", "expected a number from 0 to 65535"),
    ("HOST", "example", "expected an IP address"),
    ("DEBUG", "2", "[possible values: true, false]"),
    ("DEVELOPMENT_MODE", "prod", "[possible values: true, false]"),
    ("ALLOWED_HOSTS", "https://a", "expected host names"),
    ("CACHE_STRATEGY", "magic", "[possible values: versioned, expire, delete, rotate, update]"),
    ("MEMCACHE_CLIENT", "libmemcached", "[possible values: native, memcache]"),
    ("CACHE_KEY_PREFIX", "a b", "expected up to 64 characters"),
    ("SLOW_QUERY", "slow", "expected a duration"),
    ("RUST_LOG", "info,=,", "expected error, warn"),
    ("LOG_FORMAT", "xml", "[possible values: text, json]"),
];

/// As [`WRONG`], where a value may be a secret.
const WRONG_SECRETS: [(&str, &str, &str); 4] = [
    ("DATABASE_URL", "mysql://u:hunter2@h/d", "expected postgres://"),
    ("CACHE_URL", "redis://u:hunter2@h", "expected locmem://"),
    ("MEMCACHIER_SERVERS", "a:hunter2", "expected host:port"),
    ("API_URL", "ftp://me:hunter2@host/", "expected an address"),
];

fn option(variable: &str) -> String {
    format!("--{}", variable.to_lowercase().replace('_', "-"))
}

#[test]
fn a_wrong_value_ends_every_command_with_its_name_and_what_is_accepted() {
    let shown =
        WRONG.map(|(name, value, accepted)| (name, value, accepted, format!("invalid value '{value}'")));
    let masked =
        WRONG_SECRETS.map(|(name, value, accepted)| (name, value, accepted, "(not shown here)".into()));
    for (name, value, accepted, shown) in shown.into_iter().chain(masked) {
        let settings = Settings::new().with("RUST_BACKTRACE", "1").with(name, value);
        for command in [&["serve"][..], &["check"], &["migrate"], &["shell"], &["cache", "get", "k"]] {
            assert_fails(
                &settings.run(command),
                &[&shown, &format!("'{} <{name}>'", option(name)), accepted],
            );
        }
    }
    let settings = Settings::new().with("MEMCACHIER_USERNAME", "u");
    assert_fails(&settings.run(&["check"]), &["MEMCACHIER_PASSWORD is not set: half a set of credentials"]);
}

#[test]
fn what_is_typed_wins_over_a_variable_before_and_behind_the_command() {
    let settings = Settings::new().with("CACHE_STRATEGY", "update").with("ALLOWED_HOSTS", "from.environment");
    for arguments in [["--cache-strategy=Delete", "check"], ["check", "--cache-strategy=Delete"]] {
        let said = text(&settings.run(&arguments).stdout);
        assert!(said.contains("hosts from.environment, strategy delete"), "{said}");
    }
    let output = settings.run(&["cache", "set", "foo", "bar", "--cache-url", "memcached://127.0.0.1:1"]);
    assert_fails(&output, &["127.0.0.1:1: not reachable"]);
}

#[test]
fn an_option_that_is_typed_wrongly_is_exit_code_2() {
    for (name, value, accepted) in WRONG.into_iter().chain(WRONG_SECRETS) {
        // A wrong variable beside it makes no difference.
        let settings = Settings::new().with("TRUSTED_HOPS", "many");
        let output = settings.run(&["check", &format!("{}={value}", option(name))]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(accepted) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn the_help_of_a_command_lists_the_options_that_concern_it() {
    let help = |command: &[&str]| text(&Settings::new().run(&[command, &["--help"]].concat()).stdout);
    let lists = |command: &[&str], option: &str| help(command).contains(&format!("      --{option} <"));
    assert!(lists(&[], "port") && lists(&["serve"], "port") && lists(&["check"], "port"));
    assert!(lists(&["migrate"], "database-url") && !lists(&["migrate"], "cache-url"));
    assert!(lists(&["cache"], "cache-url") && !lists(&["cache"], "port"));
    assert!(!lists(&["cache", "touch"], "cache-url") && lists(&["cache", "touch"], "ttl"));
    let settings = Settings::new().with("SLOW_QUERY", "19s").with("DATABASE_URL", "sqlite://hunter2");
    let help = text(&settings.run(&["--help"]).stdout);
    assert!(!help.contains("19s") && !help.contains("hunter2"), "what is set is not shown: {help}");
}

#[test]
fn a_password_that_the_client_cannot_send_is_said_at_the_start() {
    let settings = Settings::new().with("CACHE_URL", "memcached://u:hunter2%40@127.0.0.1");
    let settings = settings.with("MEMCACHE_CLIENT", "memcache");
    assert_fails(&settings.run(&["serve"]), &["holds a character that the memcache crate cannot send"]);
}

#[test]
fn a_dot_env_file_is_read_below_the_environment() {
    let settings = Settings::new();
    let file = settings.directory().join(".env");
    // As some editors write it.
    fs::write(&file, "\u{feff}CACHE_STRATEGY=update\r\n# a comment\r\nALLOWED_HOSTS=from.file\r\n").unwrap();
    let settings = settings.with("SESSION_ENGINE", " ");
    let said = text(&settings.run(&["check"]).stdout);
    assert!(said.contains("hosts from.file, strategy update, sessions cached_db"), "{said}");
    let settings = settings.with("ALLOWED_HOSTS", "from.environment");
    let said = text(&settings.run(&["check"]).stdout);
    assert!(said.contains("hosts from.environment, strategy update"), "{said}");
    fs::write(&file, "DEBUG=True\nMEMCACHIER_PASSWORD=two hunter2\n").unwrap();
    assert_fails(&settings.run(&["check"]), &[".env, line 2: expected NAME=value"]);
    assert!(settings.run(&["--help"]).status.success());
}

#[test]
fn a_password_from_a_dot_env_file_keeps_its_blanks() {
    let memcached = Memcached::start_with_sasl();
    let settings = Settings::new().with_memcached(&memcached).with("MEMCACHIER_USERNAME", USER);
    let file = settings.directory().join(".env");
    for (password, code) in [(format!("'{PASSWORD}'"), 0), (format!("' {PASSWORD} '"), 1)] {
        fs::write(&file, format!("MEMCACHIER_PASSWORD={password}\r\n")).unwrap();
        assert_eq!(settings.run(&["cache", "set", "foo", "bar"]).status.code(), Some(code), "{password}");
    }
}

#[test]
fn a_wrong_command_shows_the_usage() {
    let output = Settings::new().run(&["server"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("Usage: tasklist"), "{}", text(&output.stderr));
    for word in ["serve", "migrate", "check", "cache", "shell"] {
        assert!(text(&Settings::new().run(&["--help"]).stdout).contains(word));
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = Settings::new().with("PORT", &address.port().to_string()).run(&["serve"]);
    assert_fails(&output, &[&format!("failed to listen on {address}; set PORT to one that is free")]);
}

#[tokio::test]
async fn check_says_what_works() {
    let (memcached, database) = (Memcached::start_with_sasl(), Postgres::shared().database().await);
    let settings = Settings::new().with("DATABASE_URL", &database.url).with_login(&memcached);
    let settings = settings.in_production();
    assert_fails(
        &settings.run(&["check"]),
        &[
            "not migrated, 0001 create tasks, 0002 create cache, 0003 list state, 0004 sessions, 0005 task counts, \
             0006 replicated tasks missing",
            "remedy: run `tasklist migrate`",
        ],
    );
    assert!(settings.run(&["migrate"]).status.success());
    let output = settings.run(&["check"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    for part in ["ok      database Postgres, 127.0.0.1:", "migrated", "binary protocol, logged in as tester"]
    {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(!said.contains("sesame"));
}

#[test]
fn check_makes_no_database_for_the_cache() {
    let settings = Settings::new().with("CACHE_URL", "db://");
    let output = settings.run(&["check"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("cache: in the database, table cache, which `serve` will make"), "{said}");
    assert!(!settings.directory().join("db.sqlite3").exists());
}

#[test]
fn check_says_what_is_wrong_and_what_to_do() {
    let (memcached, hung) = (Memcached::start_with_sasl(), Memcached::start());
    hung.stop();
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let not_memcached = web.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = vec![];
        for mut stream in web.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            open.push(stream);
        }
    });
    let settings = Settings::new;
    let cases = [
        (
            settings().with("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d"),
            ["Connection refused", "remedy: is the server of DATABASE_URL up"],
        ),
        (
            settings().with("MEMCACHIER_SERVERS", "127.0.0.1:1"),
            ["not reachable (Connection refused", "remedy: is MEMCACHIER_SERVERS right"],
        ),
        (
            settings().with("MEMCACHIER_SERVERS", "nowhere.invalid"),
            ["not reachable (", "remedy: is MEMCACHIER_SERVERS right"],
        ),
        (
            settings().with("DATABASE_URL", "postgres://u@127.0.0.1:1/d").with("CACHE_URL", "db://"),
            ["cache: in the database, table cache, which is not well", "remedy: mend the database"],
        ),
        (
            settings().with_memcached(&hung),
            ["no answer within 750 ms", "remedy: it accepts connections and does not answer"],
        ),
        (
            settings().with("MEMCACHIER_SERVERS", &not_memcached.to_string()),
            ["answers as no memcached does", "remedy: is the server of MEMCACHIER_SERVERS a memcached"],
        ),
        (
            settings().with_memcached(&memcached),
            ["user name or password refused", "remedy: check MEMCACHIER_USERNAME"],
        ),
        (
            settings().with_login(&memcached).with("MEMCACHIER_PASSWORD", "hunter2"),
            ["user name or password refused", "remedy: check MEMCACHIER_USERNAME"],
        ),
    ];
    std::thread::scope(|scope| {
        for (settings, messages) in cases {
            scope.spawn(move || {
                let _ = settings.run(&["migrate"]);
                assert_fails(&settings.run(&["check"]), &messages);
            });
        }
    });
}

#[tokio::test]
async fn serve_says_what_it_runs_on() {
    let (memcached, database) = (Memcached::start_with_sasl(), Postgres::shared().database().await);
    let app = Settings::new().with("DATABASE_URL", &database.url).with_login(&memcached).serve();
    let said = app.output();
    for part in [
        "(development)",
        "address   http://127.0.0.1:",
        "database  Postgres, 127.0.0.1:",
        &format!("cache     memcached at {}", memcached.address()),
        "logged in as tester",
        "strategy  versioned",
        "sessions  cached_db, in the database and read through the cache",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(!said.contains("sesame"));
}

#[test]
fn check_changes_nothing_and_ends_well_in_an_empty_directory() {
    let settings = Settings::new();
    let output = settings.run(&["check"]);
    assert!(output.status.success() && text(&output.stdout).contains("does not exist yet; `serve` makes it"));
    assert!(!settings.directory().join("db.sqlite3").exists());
}

// The request is sent while the app is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_lets_requests_end() {
    for signal in ["TERM", "INT"] {
        let app = Settings::new().with("SLOW_QUERY", "1s").with("RUST_LOG", "debug").serve();
        let request = tokio::spawn(app.request("GET", "/").send());
        wait_until("the query runs", || app.output().contains("cache get"));
        let idle = app.get("/healthz").await;
        assert_eq!(idle.status, 200);
        app.signal(signal);
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
        let (status, said) = app.terminate();
        assert!(status.success(), "{said}");
        assert!(
            said.contains("stopping: requests under way are ended") && !said.contains("are cut"),
            "{said}"
        );
    }
}

#[test]
fn a_process_that_is_stopped_as_it_starts_to_listen_ends_well() {
    let memcached = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings::new().with("MEMCACHIER_SERVERS", &memcached.local_addr().unwrap().to_string());
    for signal in ["TERM", "INT"] {
        let mut process = settings.start();
        // It listens by now, and before it serves it asks what the cache is.
        let asked = memcached.accept().unwrap();
        process.signal(signal);
        drop(asked);
        assert!(process.wait().success());
    }
}

// The request is sent while the app is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_end_is_cut_so_that_the_process_can() {
    let app = Settings::new().with("SLOW_QUERY", "20s").with("RUST_LOG", "debug").serve();
    let request = tokio::spawn(app.request("GET", "/").send());
    wait_until("the query runs", || app.output().contains("cache get"));
    // Somebody at a terminal waits for less time than a platform. How long is the subject.
    app.signal("INT");
    wait_until("it stops", || app.output().contains("stopping"));
    let (status, said) = app.terminate();
    assert!(status.success() && said.contains("requests that did not end in time are cut"), "{said}");
    assert!(request.await.unwrap().is_err());
}

// The request is sent while the app is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_interrupts_it_while_it_stops_does_not_wait_for_the_end() {
    let app = Settings::new().with("SLOW_QUERY", "20s").with("RUST_LOG", "debug").serve();
    let request = tokio::spawn(app.request("GET", "/").send());
    wait_until("the query runs", || app.output().contains("cache get"));
    app.signal("TERM");
    wait_until("it stops", || app.output().contains("stopping"));
    // Requests have 25 s, which is longer than this waits.
    wait_until("it ends", || {
        app.signal("INT");
        app.output().contains("are cut")
    });
    let (status, said) = app.terminate();
    assert!(status.success(), "{said}");
    assert!(request.await.unwrap().is_err());
}

#[test]
fn nobody_is_let_in_before_the_database_is_there() {
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://nobody@{}/nothing", database.local_addr().unwrap());
    let port = free_port();
    let settings = Settings::new().with("PORT", &port.to_string()).with("DATABASE_URL", &url);
    let timeout = find("timeout");
    let serving =
        std::thread::spawn(move || settings.run_by(&[timeout.to_str().unwrap(), "2"]).run(&["serve"]));
    let _silent = database.accept().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let output = serving.join().unwrap();
    assert_eq!(output.status.code(), Some(124), "it has waited: {}", text(&output.stderr));
}

#[test]
fn the_log_can_be_json_line_by_line() {
    let settings = Settings::new().with("LOG_FORMAT", "json").with("MEMCACHIER_SERVERS", "127.0.0.1:1");
    let app = settings.serve();
    let warning = |line: &&str| line.contains("\"WARN\"") && line.contains("memcached.server");
    wait_until("the server is left out", || app.output().lines().any(|line| warning(&line)));
    let output = app.output();
    for line in output.lines() {
        let log: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(log["message"].is_string(), "{line}");
    }
    let log: serde_json::Value = serde_json::from_str(output.lines().find(warning).unwrap()).unwrap();
    assert_eq!(log["memcached.server"], "127.0.0.1:1", "{output}");
}
