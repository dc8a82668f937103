//! What no compiler checks: which parts know what, and the sizes.

mod absences;
mod circles;
mod commands;
mod django;

mod links;
mod lists;
mod sizes;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What is not ours below a folder: what tools have made there.
const FOREIGN: [&str; 3] = [".git", "target", "node_modules"];

/// All files below a folder of the package, by their path in it; with a blank, all there are.
pub fn files(folder: &str) -> Vec<String> {
    let mut found = vec![];
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder)).unwrap().flatten() {
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.extend((!FOREIGN.iter().any(|name| path.ends_with(name))).then_some(path));
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

/// The folders with our code: the application's, and those of the crates.
pub const SOURCES: [&str; 6] = [
    "src",
    "crates/neverstale/src",
    "crates/neverstale-axum/src",
    "crates/neverstale-sessions/src",
    "crates/testkit/src",
    "crates/tokio-memcached/src",
];

/// A file's code: without comments, and without its tests.
pub fn code(path: &str) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
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
