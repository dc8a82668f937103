//! `check` and `serve` are of one opinion on every configuration, common or odd. (A cache that fails is the exception:
//! pages are served without it, and `check` says so.)

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use tasklist::db::Database;

use super::text;
use crate::support::app::{BINARY, Settings};
use crate::support::database::open_database;
use testkit::postgres::Postgres;
use testkit::process::{find, require_root};

/// Returns whether `serve` says that it serves, before it ends.
fn starts(settings: &Settings, by: &str) -> bool {
    let mut command = settings.shell(&format!("exec {by} {BINARY} serve"));
    let mut serve =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
    let has_started = lines.any(|line| line.unwrap().starts_with("  sessions"));
    serve.kill().unwrap();
    serve.wait().unwrap();
    has_started
}

/// Runs `check`, then `serve`, as a user that `by` chooses.
#[track_caller]
fn assert_verdict(settings: &Settings, by: &str, expected: bool) {
    let check = settings.shell(&format!("exec {by} {BINARY} check")).output().unwrap();
    let said = format!("{}{}", text(&check.stdout), text(&check.stderr));
    assert_eq!(check.status.success(), expected, "check: {said}");
    assert!(!said.contains("panicked"), "{said}");
    let named = said.contains("remedy: ") || said.contains("expected ") || said.contains("is not set");
    assert!(expected || named, "what is to be done is not said: {said}");
    let left = fs::read_dir(settings.directory()).unwrap().map(|file| file.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("-check-")).collect();
    assert!(left.is_empty(), "check leaves nothing behind: {left:?}");
    assert_eq!(starts(settings, by), expected, "serve is of another opinion: {said}");
}

#[test]
fn values_that_are_odd_or_wrong() {
    for (variable, value, expected) in [
        ("DATABASE_URL", "sqlite://missing_directory/x.db", false),
        ("DATABASE_URL", "sqlite:///missing_directory/x.db", false),
        ("DATABASE_URL", "sqlite://directory", false),
        ("DATABASE_URL", "sqlite://garbage", false),
        ("DATABASE_URL", "sqlite://garbage/x.db", false),
        ("DATABASE_URL", "sqlite://link_to_nowhere", false),
        ("DATABASE_URL", "sqlite://read_only.db?mode=ro", false),
        ("DATABASE_URL", "sqlite::memory:", false),
        ("DATABASE_URL", "sqlite://link_to_new", true),
        ("DATABASE_URL", "sqlite://directory/with%20blank%3F.db", true),
        ("DATABASE_URL", "sqlite:relative.db", true),
        ("DATABASE_URL", "sqlite://./directory/../dotted.db", true),
        ("DATABASE_URL", "sqlite://empty", true),
        ("HOST", "192.0.2.1", false),
        ("HOST", "localhost", true),
        ("HOST", "0.0.0.0", true),
        ("API_URL", "nonsense", false),
        ("CACHE_URL", "dummy://", true),
        ("CACHE_URL", "db://", true),
        ("SESSION_ENGINE", "cache", true),
    ] {
        let settings = Settings::new();
        let at = |name: &str| settings.directory().join(name);
        fs::create_dir(at("directory")).unwrap();
        fs::write(at("garbage"), "no database ".repeat(1000)).unwrap();
        fs::write(at("empty"), "").unwrap();
        symlink("missing_directory/x.db", at("link_to_nowhere")).unwrap();
        symlink("directory/new.db", at("link_to_new")).unwrap();
        eprintln!("{variable}={value}");
        assert_verdict(&settings.with(variable, value), "", expected);
    }
}

#[test]
fn a_cache_directory_that_does_not_exist_yet() {
    let settings = Settings::new();
    let url = format!("file://{}/not%20yet/here", settings.directory().display());
    assert_verdict(&settings.with("CACHE_URL", &url), "", true);
}

/// The cache makes a directory and files that only their user can read, whatever the umask.
#[test]
fn the_umask_makes_no_difference() {
    for umask in ["000", "022", "077"] {
        let settings = Settings::new();
        let made = settings.directory().join("made");
        let cache = made.join("cache");
        let settings = settings.with("CACHE_URL", &format!("file://{}", cache.display()));
        let output = settings.shell(&format!("umask {umask}; exec {BINARY} check")).output().unwrap();
        let said = text(&output.stdout);
        let expected = format!("ok      cache {}: writes, reads and deletes", cache.display());
        assert!(output.status.success() && said.contains(&expected), "{said}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(&made), mode(&cache)], [0o700; 2], "umask {umask}");
        for file in fs::read_dir(&cache).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600, "umask {umask}");
        }
    }
}

#[test]
fn a_directory_and_a_file_that_may_not_be_written() {
    require_root();
    let nobody = format!("{} --reuid=65534 --regid=65534 --clear-groups", find("setpriv").display());
    let settings = Settings::new();
    let mode = |name: &str, mode| {
        fs::set_permissions(settings.directory().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("", 0o755);
    assert_verdict(&settings, &nobody, false);
    fs::write(settings.directory().join("db.sqlite3"), "").unwrap();
    mode("", 0o777);
    mode("db.sqlite3", 0o444);
    assert_verdict(&settings, &nobody, false);
    mode("db.sqlite3", 0o666);
    assert_verdict(&settings, &nobody, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_are_missing_or_of_another_build() {
    let database = Postgres::shared().database().await;
    for url in ["sqlite://db.sqlite3", &database.url] {
        let development = Settings::new().with("DATABASE_URL", url).with("SECRET_KEY", &"k".repeat(40));
        let production = development.clone().with("DEVELOPMENT_MODE", "False");
        assert_verdict(&production, "", false);
        assert_verdict(&development, "", true);
        assert_verdict(&production, "", true);
        let at = format!("sqlite://{}/db.sqlite3", development.directory().display());
        let db = open_database(if url.starts_with("sqlite") { &at } else { url });
        alter(&db).await;
        assert_verdict(&development, "", false);
        assert_verdict(&production, "", true);
    }
}

async fn alter(db: &Database) {
    let sql = db.choose(
        "update _sqlx_migrations set checksum = x'00' where version = 1",
        "update _sqlx_migrations set checksum = '\\x00' where version = 1",
    );
    db.fetch_all::<()>(sql, &[]).await.unwrap();
}

#[test]
fn a_port_that_is_in_use_is_no_fault_of_the_configuration() {
    let app = Settings::new().serve();
    let port = app.address().rsplit(':').next().unwrap().to_owned();
    let output = Settings::new().with("PORT", &port).run(&["check"]);
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("in use, perhaps by `serve` itself"), "{said}");
}

#[test]
fn commands_migrate_a_new_sqlite_file_in_development() {
    let new = || Settings::new().with("CACHE_URL", "db://");
    let output = new().run(&["cache", "set", "foo", "bar"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = new().run_with_input(&["shell"], b"set foo bar\nget foo\n");
    assert_eq!(
        (output.status.code(), text(&output.stdout).trim()),
        (Some(0), "bar"),
        "{}",
        text(&output.stderr)
    );
    for engine in ["db", "cached_db", "cache"] {
        let output = Settings::new().with("SESSION_ENGINE", engine).run(&["clearsessions"]);
        assert!(output.status.success(), "{engine}: {}", text(&output.stderr));
    }
}

#[test]
fn a_cache_in_a_database_that_fails_has_a_remedy_of_its_own() {
    for url in ["sqlite://missing_directory/x.db", "postgres://u@127.0.0.1:1/d"] {
        let settings = Settings::new().with("CACHE_URL", "db://").with("DATABASE_URL", url);
        for output in [
            settings.run(&["cache", "get", "foo"]),
            settings.run(&["cache", "--json", "set", "foo", "bar"]),
            settings.run_with_input(&["shell"], b"set foo bar\n"),
        ] {
            let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("remedy") && said.contains("DATABASE_URL"), "{said}");
            assert!(!said.contains("memcached") && !said.contains("MEMCACHIER"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_kept_nowhere_says_why() {
    let app = Settings::new().with("CACHE_URL", "dummy://").serve();
    for _ in 0..2 {
        let page = app.get("/").await;
        let status = page.header("cache-status").unwrap();
        assert_eq!(status, "tasklist; fwd=miss; detail=\"cache-keeps-nothing\"");
    }
}
