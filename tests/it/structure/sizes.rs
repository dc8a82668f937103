//! How long a file and a function may be.

use super::{files, read};

const WIDEST_COMMENT: usize = 120;
const LONGEST_FILE: usize = 400;

/// clippy counts without blank lines and comments, and where warnings are denied only; this one counts what is read.
const LONGEST_FUNCTION: usize = 70;

fn all_code() -> impl Iterator<Item = String> {
    let folders = ["src", "crates", "tests", "benches", "examples", "fuzz/fuzz_targets"];
    let rust = |path: &String| path.ends_with(".rs");
    folders.into_iter().flat_map(files).filter(rust).chain(["build.rs".into()])
}

/// Every function of a formatted text: where it begins, and how many lines it has.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = vec![];
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| is_signature(line)) {
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        // One that has no body ends with its signature, and one of a single line with itself.
        let is_over = |line: &&str| line.ends_with(';') && line.len() - line.trim_start().len() < end.len();
        let ends = |line: &&str| **line == *end || is_over(line);
        let length = if line.ends_with('}') { 0 } else { lines[start..].iter().position(ends).unwrap_or(0) };
        found.push((start + 1, length + 1));
    }
    found
}

fn is_signature(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub") || ["in", "const", "async"].contains(word) || word.ends_with(')')
    });
    words.next() == Some("fn")
}

#[test]
fn files_are_short_and_named_after_their_module() {
    for path in all_code() {
        assert!(!path.ends_with("mod.rs"), "{path}: foo.rs beside foo/");
        let lines = read(&path).lines().count();
        assert!(lines <= LONGEST_FILE, "{path} has {lines} lines");
    }
}

#[test]
fn comments_are_not_wider_than_a_screen() {
    for path in all_code() {
        for (number, line) in (1..).zip(read(&path).lines()) {
            let is_wide = line.trim_start().starts_with("//") && line.chars().count() > WIDEST_COMMENT;
            assert!(!is_wide, "{path}:{number} is too wide: {line}");
        }
    }
}

#[test]
fn functions_are_short() {
    let limit = format!("too-many-lines-threshold = {LONGEST_FUNCTION}");
    assert!(read("clippy.toml").lines().any(|line| line == limit), "clippy.toml says something else");
    let mut count = 0;
    for path in all_code() {
        for (line, length) in functions(&read(&path)) {
            assert!(length <= LONGEST_FUNCTION, "{path}:{line}: a function of {length} lines");
            count += 1;
        }
    }
    assert!(count > 1000, "{count}");
}

#[test]
fn functions_are_found_with_their_length() {
    let text = "impl A {\n    pub(in crate::cli) async fn a(\n        b: u8,\n    ) -> u8 {\n        if b {\n        }\n\n    \
                }\n\n    fn b() {}\n    fn c();\n    fn d(\n        e: u8,\n    ) -> u8;\n}\n\npub const fn f() {\n    1\n}\n";
    assert_eq!(functions(text), [(2, 7), (10, 1), (11, 1), (12, 3), (17, 3)]);
}
