//! What no compiler checks: which parts know what, and the sizes.

mod absences;
mod circles;
mod commands;
mod django;

mod links;
mod lists;
mod scripts;
mod sizes;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, CommandFactory};
use tasklist::cli::Cli;

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

/// The variables that the program reads.
pub fn variables() -> BTreeSet<String> {
    let command = Cli::command();
    command.get_arguments().filter_map(variable).collect()
}

/// The variable of an option.
fn variable(option: &Arg) -> Option<String> {
    option.get_env().map(|name| name.to_str().unwrap().to_owned())
}

fn is_variable(word: &str) -> bool {
    word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}
