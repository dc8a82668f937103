//! The commands that files and pages name are those that the program has.

use std::collections::BTreeSet;
use std::process::Command;

use super::read;
use crate::documents::{self, markdown};
use crate::security::document::is_test;

/// What platforms run.
const DEPLOY_FILES: [&str; 7] = [
    "Procfile",
    "Dockerfile",
    "heroku.yml",
    "app.json",
    "spec.yaml",
    "compose.yaml",
    "deploy/tasklist@.service",
];

/// The commands below a command, as its help lists them.
fn below(path: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_tasklist")).args(path).arg("--help").output().unwrap();
    assert!(output.status.success(), "{path:?}");
    let help = String::from_utf8(output.stdout).unwrap();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Whether the program has a command, such as `migrate` or `cache get`.
pub fn is_command(words: &[&str]) -> bool {
    let is_below = |path: &[&str], name: &str| below(path).contains(name);
    match words {
        [] => true,
        ["cache", verb, ..] => is_below(&["cache"], verb),
        [name, ..] => is_below(&[], name),
    }
}

/// What follows the program's name in a line of a file that is run, as far as it is words.
fn commands_in(line: &str) -> Vec<Vec<String>> {
    // From the sources, the program is what cargo runs.
    let line = line.replace("cargo run -- ", "tasklist ").replace("cargo run --release -- ", "tasklist ");
    let line = line.replace(['"', '[', ']', ',', '\'', '`'], " ");
    let words: Vec<_> = line.split_whitespace().collect();
    let is_program = |word: &str| word.rsplit('/').next() == Some("tasklist");
    let is_plain = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase());
    let places = words.iter().enumerate().filter(|(_, word)| is_program(word)).map(|(place, _)| place + 1);
    places
        .map(|place| words[place..].iter().take_while(is_plain).take(2).map(|word| (*word).into()).collect())
        .collect()
}

/// The code of a page: what stands in back-ticks and runs the program, and its blocks by line.
fn code_of_page(text: &str) -> Vec<String> {
    let runs = |code: &&str| ["tasklist ", "cargo run "].iter().any(|start| code.starts_with(start));
    let (prose, blocks) = (markdown::prose(text), markdown::blocks(text).unwrap());
    let named = prose.lines().flat_map(markdown::quoted).filter(runs);
    let lines = blocks.iter().flat_map(|block| &block.lines);
    // Output has no prompt, and may well speak of the list.
    let typed = lines.filter_map(|line| line.trim_start().strip_prefix("$ "));
    named.chain(typed).map(str::to_owned).collect()
}

#[track_caller]
fn check(file: &str, line: &str) -> usize {
    let commands = commands_in(line);
    for words in &commands {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        assert!(is_command(&words), "{file}: there is no `tasklist {}`", words.join(" "));
    }
    commands.iter().filter(|words| !words.is_empty()).count()
}

#[test]
fn every_command_in_a_deploy_file_exists() {
    for file in DEPLOY_FILES {
        let text = read(file);
        let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
        let count: usize = lines.map(|line| check(file, line)).sum();
        assert!(count > 0 || file == "app.json", "{file}");
    }
}

#[test]
fn every_command_in_the_documents_exists() {
    let mut count = 0;
    for page in documents::all() {
        count += code_of_page(&read(&page)).iter().map(|code| check(&page, code)).sum::<usize>();
    }
    assert!(count > 20, "{count}");
}

#[test]
fn a_command_that_is_not_there_is_found_out() {
    assert!(is_command(&["migrate"]) && is_command(&["cache", "get"]));
    assert!(!is_command(&["migrations"]) && !is_command(&["cache", "flush"]) && !is_command(&["help"]));
    assert_eq!(commands_in("cargo run -- cache get foo && tasklist"), [["cache", "get"].as_slice(), &[]]);
    assert_eq!(commands_in("CMD [\"./target/tasklist\", \"serve\"]"), [["serve"]]);
    assert_eq!(
        code_of_page("`tasklist check`\n```console\n$ tasklist x\ntasklist y\n```"),
        ["tasklist check", "tasklist x"]
    );
}

#[test]
fn every_test_that_is_run_by_name_exists() {
    let mut count = 0;
    for file in ["scripts/consistency", "scripts/soak", "CONTRIBUTING.md"] {
        let text = read(file).replace("\\\n", " ");
        for line in text.lines().filter(|line| line.contains("--exact")) {
            let name = line.split_whitespace().next_back().unwrap();
            assert!(is_test(name), "{file}: there is no test {name}");
            count += 1;
        }
    }
    assert!(count >= 4, "{count}");
}
