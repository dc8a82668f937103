//! The tables in `scripts`: which tests are about which part, and which packages hold the programs that tests run.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{files, read};
use testkit::process::find;

/// Programs that are wherever a test can run.
const EVERYWHERE: [&str; 3] = ["sh", "/bin/sh", "kill"];

/// Programs of POSIX, which need no package.
const POSIX: [&str; 6] = ["cp", "false", "grep", "head", "mkfifo", "sleep"];

/// The rows of `scripts/test parts`: a part, and the tests that are about it.
fn parts() -> Vec<(String, Vec<String>)> {
    let mut script = Command::new(find("bash"));
    let output =
        script.args(["scripts/test", "parts"]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    rows.map(|row| (row[0].clone(), row[1..].to_vec())).collect()
}

#[test]
fn every_part_has_its_tests() {
    let first_two = |path: &str| path.split('/').take(2).collect::<Vec<_>>().join("/");
    let tree = ["src", "crates"].into_iter().flat_map(files);
    let expected: BTreeSet<_> =
        tree.map(|path| first_two(&path).trim_end_matches(".rs").to_owned()).collect();
    let rows: BTreeSet<_> = parts().into_iter().map(|(part, _)| part).collect();
    assert_eq!(rows, expected, "the table in scripts/test, and the parts that there are");
}

#[test]
fn every_test_of_a_part_is_there() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (part, tests) in parts() {
        assert!(!tests.is_empty(), "{part} has no tests");
        for test in tests {
            let file = format!("{}.rs", test.trim_end_matches("::").replace("::", "/"));
            let places = ["tests/it", "tests/it/alone"];
            let is_there = places.iter().any(|place| package.join(place).join(&file).is_file());
            assert!(is_there, "{part} is tested by {test}, and there is no {file} in {places:?}");
        }
    }
}

/// The words that stand between this and a quote in the code of the tests, each with its file.
fn named_after(call: &str) -> Vec<(String, String)> {
    let of_tests = |path: &String| {
        let is_test = path.starts_with("tests/it/")
            || path.starts_with("crates/testkit/")
            || path.contains("/tests/it/");
        is_test && path.ends_with(".rs") && !path.ends_with("structure/scripts.rs")
    };
    let mut found = vec![];
    for path in ["tests", "crates"].into_iter().flat_map(files).filter(of_tests) {
        for rest in read(&path).split(call).skip(1) {
            found.push((rest.split('"').next().unwrap().to_owned(), path.clone()));
        }
    }
    assert!(!found.is_empty(), "{call}");
    found
}

/// So that a test whose program is missing is left out, and says what it needs.
#[test]
fn tests_look_for_the_programs_that_they_run() {
    for (program, path) in named_after("Command::new(\"") {
        assert!(EVERYWHERE.contains(&program.as_str()), "{path}: Command::new(find(\"{program}\"))");
    }
}

#[test]
fn every_program_that_tests_run_has_a_package() {
    let script = read("scripts/install");
    let table = script.split("END_OF_LIST").nth(1).unwrap();
    let table = table.lines().filter_map(|line| line.split_once('|'));
    let packaged: BTreeSet<_> = table.flat_map(|(programs, _)| programs.split_whitespace()).collect();
    assert!(packaged.contains("memcached"), "{packaged:?}");
    for (program, path) in named_after(" find(\"").into_iter().chain(named_after("(find(\"")) {
        // Others have a `find` as well, of texts.
        let is_name =
            program.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
        let is_known = packaged.contains(program.as_str()) || POSIX.contains(&program.as_str());
        assert!(!is_name || is_known, "{path} runs {program}, which is not in the table of scripts/install");
    }
}
