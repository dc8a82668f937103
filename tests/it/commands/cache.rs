//! `tasklist cache`: what is printed where, and with which exit code.

use std::process::Output;

use serde_json::{Value, json};

use super::text;
use crate::support::app::Settings;
use testkit::memcached::{Memcached, PASSWORD};
use testkit::wait_until;

/// Exit code, standard output, and what standard error has to hold.
type Expected<'a> = (i32, &'a str, &'a str);

fn run(settings: &Settings, line: &str) -> Output {
    let words: Vec<_> = line.split(' ').collect();
    settings.run(&[&["cache"], &words[..]].concat())
}

#[track_caller]
fn check(settings: &Settings, line: &str, (code, printed, said): Expected) {
    let output = run(settings, line);
    let errors = text(&output.stderr);
    assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(code), printed), "{line}: {errors}");
    assert!(if said.is_empty() { errors.is_empty() } else { errors.contains(said) }, "{line}: {errors}");
    assert!(!errors.contains("panicked") && !errors.contains(PASSWORD), "{errors}");
}

#[track_caller]
fn json(settings: &Settings, line: &str) -> Value {
    let printed = text(&run(settings, line).stdout);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let mut value: Value = serde_json::from_str(&printed).unwrap();
    assert!(value.as_object_mut().unwrap().remove("took_ms").unwrap().is_f64(), "{printed}");
    value
}

#[test]
fn every_verb_prints_its_result_and_nothing_else() {
    let memcached = Memcached::start_with_sasl();
    for client in ["native", "memcache"] {
        let settings = Settings::new().with_login(&memcached).with("MEMCACHE_CLIENT", client);
        let steps: &[(&str, Expected)] = &[
            ("clear", (0, "", "")),
            ("get foo", (1, "", "tasklist: foo: not in the cache\n")),
            ("set foo bar", (0, "", "")),
            ("get foo", (0, "bar\n", "")),
            ("add foo other", (1, "", "foo: in the cache already")),
            ("add new -x", (0, "", "")),
            ("get new", (0, "-x\n", "")),
            ("replace foo 9", (0, "", "")),
            ("replace missing 9", (1, "", "missing: not in the cache")),
            ("incr foo", (0, "10\n", "")),
            ("incr foo 5", (0, "15\n", "")),
            ("decr foo 20", (0, "0\n", "")),
            ("incr new", (1, "", "new: the value is no number")),
            ("delete new", (0, "", "")),
            ("delete new", (1, "", "new: not in the cache")),
            ("touch foo --ttl 60", (0, "", "")),
            ("touch missing --ttl 60", (1, "", "missing: not in the cache")),
            ("touch foo --ttl=-1", (0, "", "")),
            ("get foo", (1, "", "foo: not in the cache")),
            ("clear", (0, "", "")),
        ];
        for (line, expected) in steps {
            check(&settings, line, *expected);
        }
    }
}

#[test]
fn a_number_that_is_missing_is_not_made() {
    let memcached = Memcached::start();
    let settings = Settings::new().with_memcached(&memcached);
    for line in ["incr missing", "decr missing 2", "get missing"] {
        check(&settings, line, (1, "", "missing: not in the cache"));
    }
}

#[test]
fn a_lifetime_of_nothing_or_less_is_over_at_once_and_one_of_half_a_second_soon() {
    let memcached = Memcached::start();
    let settings = Settings::new().with_memcached(&memcached);
    for ttl in ["--ttl=-1", "--ttl 0", "--ttl -0.5"] {
        check(&settings, "set foo old", (0, "", ""));
        check(&settings, &format!("set foo bar {ttl}"), (0, "", ""));
        check(&settings, "get foo", (1, "", "not in the cache"));
    }
    check(&settings, "set foo bar --ttl 0.5", (0, "", ""));
    wait_until("it expires", || run(&settings, "get foo").status.code() == Some(1));
    check(&settings, "set foo bar --ttl 3000000", (0, "", ""));
    check(&settings, "get foo", (0, "bar\n", ""));
}

#[test]
fn what_is_asked_for_wrongly_is_exit_code_2() {
    let settings = Settings::new();
    for (arguments, said) in [
        (&["get", ""][..], "is empty or holds a blank or a control character"),
        (&["get", "a b"], "is empty or holds a blank or a control character"),
        (&["delete", "a\r\nflush_all"], "is empty or holds a blank or a control character"),
        (&["set", "k", "v", "--ttl", "soon"], "a number of seconds is expected"),
        (&["set", "k", "v", "--ttl", "NaN"], "longer than anything lives"),
        (&["touch", "k"], "--ttl <SECONDS>"),
        (&["incr", "k", "-1"], "a whole number is expected"),
        (&["incr", "k", "1.5"], "a whole number is expected"),
        (&["put", "k", "v"], "unrecognized subcommand"),
        (&["set", "k"], "<VALUE>"),
    ] {
        let output = settings.run(&[&["cache"], arguments].concat());
        let errors = text(&output.stderr);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(2), &b""[..]), "{errors}");
        assert!(errors.contains(said), "{said:?} is not in:\n{errors}");
    }
}

#[test]
fn values_are_bare_bytes_under_the_prefix() {
    let memcached = Memcached::start();
    let settings = Settings::new().with_memcached(&memcached).with("CACHE_KEY_PREFIX", "shop");
    check(&settings, "set foo bar", (0, "", ""));
    let client = memcached.client();
    assert_eq!(client.get::<String>("shop:foo").unwrap().as_deref(), Some("bar"));
    client.set("shop:foo", &b"\xff\0\r\n"[..], 0).unwrap();
    assert_eq!(run(&settings, "get foo").stdout, b"\xff\0\r\n\n");
    assert_eq!(json(&settings, "get foo --json")["value_base64"], "/wANCg==");
    client.set("other", "o", 0).unwrap();
    check(&settings, "clear", (0, "", ""));
    assert_eq!(client.get::<String>("other").unwrap(), None, "all is emptied, as Django does");
}

#[test]
fn a_server_that_cannot_be_asked_is_said_with_a_remedy() {
    let (memcached, hung) = (Memcached::start_with_sasl(), Memcached::start());
    hung.stop();
    let refusing = Settings::new().with("MEMCACHIER_SERVERS", "127.0.0.1:1");
    let wrong = Settings::new().with_login(&memcached).with("MEMCACHIER_PASSWORD", "wrong");
    let cases = [
        (refusing, "not reachable", "is MEMCACHIER_SERVERS right"),
        (
            Settings::new().with_memcached(&hung),
            "no answer within 750 ms",
            "it accepts connections and does not",
        ),
        (wrong, "user name or password refused", "check MEMCACHIER_USERNAME"),
    ];
    for (settings, cause, remedy) in cases {
        let lines = ["get foo", "set foo bar", "add foo bar", "delete foo", "incr foo", "clear", "stats"];
        std::thread::scope(|scope| {
            for line in lines {
                scope.spawn(|| check(&settings, line, (1, "", cause)));
            }
        });
        check(&settings, "touch foo --ttl 1", (1, "", &format!("\n  remedy: {remedy}")));
        let told = json(&settings, "get foo --json");
        assert_eq!((&told["ok"], &told["key"]), (&json!(false), &json!("foo")));
        assert!(told["cause"].as_str().unwrap().contains(cause), "{told}");
        assert!(told["remedy"].as_str().unwrap().starts_with(remedy), "{told}");
        let told = &json(&settings, "--json stats")["servers"][0];
        assert!(told["ok"] == false && told["cause"].as_str().unwrap().contains(cause), "{told}");
    }
}

#[test]
fn a_value_that_the_server_does_not_take_leaves_no_older_one() {
    let memcached = Memcached::start_with(&["-I", "512k"]);
    let settings = Settings::new().with_memcached(&memcached);
    check(&settings, "set foo old", (0, "", ""));
    // No argument of a command line is longer than 128 KiB.
    let lines = [&b"set foo "[..], &[b'x'; 700_000], b"\nget foo\n"].concat();
    let output = settings.run_with_input(&["shell"], &lines);
    let errors = text(&output.stderr);
    assert!(errors.contains("did not store the value") && errors.contains("memcached -I"), "{errors}");
    assert_eq!(text(&output.stdout), "foo: not in the cache\n", "{errors}");
}

#[test]
fn json_has_the_same_keys_whatever_happens() {
    let memcached = Memcached::start();
    let settings = Settings::new().with_memcached(&memcached);
    for (line, expected) in [
        ("--json get foo", json!({ "ok": false, "key": "foo", "found": false })),
        ("--json set foo bar", json!({ "ok": true, "key": "foo", "stored": true })),
        ("get foo --json", json!({ "ok": true, "key": "foo", "found": true, "value": "bar" })),
        ("--json add foo bar", json!({ "ok": false, "key": "foo", "stored": false })),
        ("--json replace foo 41", json!({ "ok": true, "key": "foo", "stored": true })),
        ("--json incr foo", json!({ "ok": true, "key": "foo", "found": true, "value": 42 })),
        ("--json touch foo --ttl 5", json!({ "ok": true, "key": "foo", "touched": true })),
        ("--json delete foo", json!({ "ok": true, "key": "foo", "deleted": true })),
        ("--json delete foo", json!({ "ok": false, "key": "foo", "deleted": false })),
        ("--json clear", json!({ "ok": true, "cleared": true })),
    ] {
        assert_eq!(json(&settings, line), expected, "{line}");
    }
}

#[test]
fn stats_show_the_most_telling_numbers_first() {
    let (first, second) = (Memcached::start(), Memcached::start());
    let servers = format!("{},{}", first.address(), second.address());
    let settings = Settings::new().with("MEMCACHIER_SERVERS", &servers);
    first.client().get::<String>("missing").unwrap();
    let table = text(&run(&settings, "stats").stdout);
    let names: Vec<_> =
        table.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(names[..4], [&*first.address(), "version", "uptime", "curr_items"], "{table}");
    assert!(names.contains(&&*second.address()) && !names.contains(&"pid"), "{table}");
    assert!(table.contains("hit_rate                 0.0 %"), "{table}");
    assert!(text(&run(&settings, "stats --all").stdout).contains("\n  pid "));
    let told = json(&settings, "stats --json");
    assert_eq!((&told["ok"], &told["servers"][1]["server"]), (&json!(true), &json!(second.address())));
    assert_eq!(told["servers"][0]["stats"]["get_misses"], "1");
}

#[test]
fn one_server_that_is_away_does_not_hide_the_others_statistics() {
    let memcached = Memcached::start();
    let servers = format!("127.0.0.1:1,{}", memcached.address());
    let output = run(&Settings::new().with("MEMCACHIER_SERVERS", &servers), "stats");
    let (printed, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        printed.starts_with(&memcached.address()) && said.contains("127.0.0.1:1: not reachable"),
        "{said}"
    );
}

#[test]
fn the_log_stays_quiet_unless_it_is_asked_for() {
    let memcached = Memcached::start();
    // That the server knows no login is worth a line of information.
    let settings = Settings::new().with_login(&memcached).with("MEMCACHE_CLIENT", "memcache");
    check(&settings, "set foo bar", (0, "", ""));
    let output = run(&settings.with("RUST_LOG", "info"), "get foo");
    assert!(output.stdout == b"bar\n" && !output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn a_cache_that_ends_with_the_command_is_said_to() {
    let output = run(&Settings::new(), "set foo bar");
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(text(&output.stderr).contains("`tasklist shell` keeps one longer"));
}
