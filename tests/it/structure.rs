//! The borders between the parts, each an absence; and the sizes, names and lists that are easily forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where something must not appear, and what.
const ABSENCES: &[(&str, &[&str])] = &[
    (
        "src/cache",
        &["crate::tasks", "crate::templates", "crate::views", "crate::config", "crate::app", "crate::db"],
    ),
    ("src/cache", &["crate::error", "crate::mistake", "crate::session", "crate::listing"]),
    ("src/cache", &["axum", "http::", "askama", "sqlx"]),
    ("src/cache/version", &["crate::", "tasks", "Stamp", "sqlx"]),
    (
        "src/session",
        &[
            "crate::tasks",
            "crate::templates",
            "crate::views",
            "crate::config",
            "crate::app",
            "crate::db",
            "crate::error",
            "crate::mistake",
            "askama",
            "sqlx",
        ],
    ),
    ("src/memcached", &["crate::", "axum"]),
    ("src/memcached/protocol", &["async", "tokio", "Instant", "SystemTime", "std::net", "std::io"]),
    ("src/tasks", &["crate::cache", "axum", "askama"]),
    ("src/db", &["crate::cache", "crate::tasks", "axum", "askama"]),
    ("src/upstream", &["crate::cache", "axum", "askama"]),
    ("src/views", &["CACHE_CONTROL", "cache-control", "sqlx", "crate::cache::backend", ".layer("]),
    ("src/templates", &["sqlx", "crate::cache", "crate::db"]),
    (
        "src/monitor",
        &["crate::tasks", "crate::templates", "crate::views", "crate::config", "crate::app", "crate::db"],
    ),
    ("src/monitor", &["axum", "http::", "askama", "sqlx"]),
    ("src/admin", &["crate::cache", "crate::monitor", "crate::templates", "askama", "sqlx"]),
    ("src/router", &["ServiceBuilder", "from_fn"]),
    ("src/", &["todo!(", "unimplemented!(", "#[ignore"]),
];

/// What may appear in a place all the same.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("src/cache/backend/database", "crate::db"),
    ("src/session/db_store", "crate::db"),
    ("src/cache/view", "axum"),
    ("src/cache/view", "http::"),
];

/// What may appear in these places and nowhere else.
const ONLY_IN: &[(&str, &[&str])] = &[
    // The second is no configuration: it is compiled for tests only, which must not come by way of `.env`.
    ("env::var", &["src/config/env.rs", "src/cache/mistake.rs"]),
    ("backend::database", &["src/app.rs"]),
    ("backend::dummy", &["src/app.rs"]),
    ("backend::file", &["src/app.rs", "src/cache/backend/file"]),
    ("backend::locmem", &["src/app.rs"]),
    ("backend::memcache", &["src/app.rs", "src/cache/backend/memcache"]),
    ("prometheus_client", &["src/monitor/metrics.rs"]),
    ("reqwest", &["src/upstream.rs", "src/config/api.rs"]),
    ("anyhow", &["src/cli", "src/main.rs"]),
    (".layer(", &["src/middleware.rs", "src/router.rs"]),
    ("sqlx::", &["src/db", "src/tasks", "src/config/database.rs", "src/config/log.rs"]),
];

const LONGEST_FILE: usize = 400;

/// All files below a folder of the package, by their path in it.
pub fn files(folder: &str) -> Vec<String> {
    let mut found = vec![];
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder)).unwrap().flatten() {
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

pub fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("failed to read {path}: {error}"))
}

/// A file's code: without comments, and without its tests.
pub fn code(path: &str) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_part_knows_only_what_it_may() {
    for path in files("src") {
        let code = code(&path);
        for (place, absent) in ABSENCES {
            for word in absent.iter().filter(|_| path.starts_with(place)) {
                let is_exception =
                    EXCEPTIONS.iter().any(|(place, known)| path.starts_with(place) && known == word);
                assert!(is_exception || !code.contains(word), "{path} must not know {word}");
            }
        }
        for (word, places) in ONLY_IN {
            let allowed = places.iter().any(|place| path.starts_with(place));
            assert!(allowed || !code.contains(word), "{word} belongs into {places:?}, not into {path}");
        }
    }
}

#[test]
fn files_are_short_and_named_after_their_module() {
    for path in files("src").into_iter().chain(files("tests")) {
        assert!(!path.ends_with("mod.rs"), "{path}: foo.rs beside foo/");
        let lines = read(&path).lines().count();
        assert!(lines <= LONGEST_FILE, "{path} has {lines} lines");
    }
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| -> Vec<_> {
        files(folder).iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names("migrations/sqlite"), names("migrations/postgres"));
}

/// The variables that the program reads, as they stand in its configuration.
pub fn variables() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files("src/config").into_iter().chain(["src/config.rs".into()]) {
        let code = code(&path);
        found.extend(code.split('"').skip(1).step_by(2).filter(|word| is_variable(word)).map(str::to_owned));
    }
    // The families of names for memcached's servers stand there without their last part.
    for family in ["MEMCACHIER", "MEMCACHE", "MEMCACHEDCLOUD"] {
        assert!(found.remove(family), "{family}");
        found.extend(["SERVERS", "USERNAME", "PASSWORD"].map(|part| format!("{family}_{part}")));
    }
    for part in ["SERVERS", "USERNAME", "PASSWORD"] {
        found.remove(part);
    }
    found
}

fn is_variable(word: &str) -> bool {
    word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

#[test]
fn every_variable_is_documented_and_every_documented_one_is_read() {
    let readme = read("README.md");
    let table = readme.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<_> = table
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .filter(|word| is_variable(word))
        .collect();
    let fallbacks = |name: &String| {
        let family = name.starts_with("MEMCACHE_") || name.starts_with("MEMCACHEDCLOUD_");
        !family || name == "MEMCACHE_CLIENT"
    };
    assert_eq!(documented, variables().into_iter().filter(fallbacks).collect());
    let (example, help) = (read(".env.example"), read("src/cli.rs"));
    for name in documented.iter() {
        assert!(example.contains(&format!("{name}=")), "{name} is not in .env.example");
        assert!(
            help.contains(&format!(" {name},")) || help.contains(&format!(" {name}.")),
            "{name} is not in --help"
        );
    }
}
