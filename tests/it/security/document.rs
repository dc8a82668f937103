//! docs/security.md: each of its promises names a test that there is.

use crate::documents::markdown::quoted;
use crate::structure::{SOURCES, read};

/// The promises: what is in the rows of the tables, cell by cell.
fn promises(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// The file in which a test's module is: of the application (`tasklist::…`), of a crate, of the contract of all
/// backends (`testkit::…`), or of these tests.
fn file_of(path: &[&str]) -> String {
    match path {
        ["tasklist", module @ .., "tests"] => format!("src/{}.rs", module.join("/")),
        ["testkit", module @ ..] => format!("crates/testkit/src/{}.rs", module.join("/")),
        [name, module @ ..] if is_crate(name) => {
            let folder = format!("crates/{}", name.replace('_', "-"));
            match module {
                [module @ .., "tests"] => format!("{folder}/src/{}.rs", module.join("/")),
                module => format!("{folder}/tests/it/{}.rs", module.join("/")),
            }
        }
        module => format!("tests/it/{}.rs", module.join("/")),
    }
}

fn is_crate(name: &str) -> bool {
    SOURCES.contains(&&*format!("crates/{}/src", name.replace('_', "-")))
}

/// Whether there is such a test.
pub fn is_test(path: &str) -> bool {
    let parts: Vec<_> = path.split("::").collect();
    let Some((name, module)) = parts.split_last() else { return false };
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file_of(module));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.match_indices(&format!("fn {name}(")).any(|(place, _)| {
        // Of a contract, each backend has a test by the function's name.
        let before = text[..place].trim_end().trim_end_matches("async").trim_end();
        before.ends_with("test]") || before.ends_with(")]") || before.ends_with("pub")
    })
}

#[test]
fn every_promise_names_a_test_that_there_is() {
    let text = read("docs/security.md");
    let promises = promises(&text);
    assert!(promises.len() > 20, "{}", promises.len());
    for row in promises {
        assert_eq!(row.len(), 3, "threat, answer, tests: {row:?}");
        let tests: Vec<_> = quoted(row[2]).collect();
        assert!(!tests.is_empty(), "no test for: {}", row[0]);
        for test in tests {
            assert!(is_test(test), "{test} is no test");
        }
    }
}

#[test]
fn a_test_that_is_not_there_is_found_out() {
    assert!(is_test("security::document::a_test_that_is_not_there_is_found_out"));
    assert!(is_test("neverstale::integrity::tests::a_signature_is_good_for_one_name"));
    for wrong in
        ["security::document::nothing_of_the_kind", "security::document::promises", "nowhere::at_all", ""]
    {
        assert!(!is_test(wrong), "{wrong}");
    }
    assert_eq!(promises("| threat | a | b |\n|---|\n| x | y | `z` |"), [["x", "y", "`z`"]]);
}
