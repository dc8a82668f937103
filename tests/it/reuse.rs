//! docs/reuse.md, followed to the letter: packages of somebody else's that take what it says as it says, and compile.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::documents::{excerpts_stand_in_their_files, markdown};
use crate::structure::read;
use crate::support::example::{cargo, target};

const DOCUMENT: &str = "docs/reuse.md";

/// What is done under headings of the document, one after the other, in a new package, with what cargo is told to make
/// of warnings.
#[track_caller]
fn check(headings: &[&str], warnings: &str) {
    let document = read(DOCUMENT);
    let section = |heading| markdown::section(&document, &format!("### {heading}"));
    let sections: Vec<_> = headings.iter().map(section).collect();
    // In the same place each time, or what is compiled would be kept for each.
    let package = target().join("reuse").join(headings.concat().replace(' ', "")).join("mine");
    let _ = fs::remove_dir_all(&package);
    let init = cargo().args(["init", "--quiet", "--lib", "--vcs", "none"]).arg(&package).status();
    assert!(init.unwrap().success());
    fs::write(package.join("src/lib.rs"), "").unwrap();
    for script in sections.iter().flat_map(|section| blocks(section, "sh")) {
        let mut shell = Command::new("sh");
        shell.args(["-euc", &script]).env("TASKLIST", env!("CARGO_MANIFEST_DIR")).current_dir(&package);
        assert!(shell.status().unwrap().success(), "{script}");
    }
    let tables = sections.iter().flat_map(|section| blocks(section, "toml"));
    let lint = format!("[lints.rust]\nwarnings = \"{warnings}\"\n");
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    fs::write(package.join("Cargo.toml"), merged([manifest, lint].into_iter().chain(tables))).unwrap();
    compile(&package);
}

/// Compiles a package with the very crates that we are built of, which so need not be fetched.
#[track_caller]
fn compile(package: &Path) {
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let mut cargo = cargo();
    cargo.args(["check", "--quiet", "--offline", "--target-dir"]).arg(target().join("reuse"));
    let output = cargo.current_dir(package).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let blocks = markdown::blocks(text).unwrap();
    blocks.into_iter().filter(|block| block.info == language).map(|block| block.text()).collect()
}

/// One manifest of several, whose tables of the same name become one.
fn merged(manifests: impl Iterator<Item = String>) -> String {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for manifest in manifests {
        let mut name = String::new();
        for line in manifest.lines() {
            if line.starts_with('[') {
                name = line.to_owned();
            } else {
                tables.entry(name.clone()).or_default().push(line.to_owned());
            }
        }
    }
    tables.iter().fold(String::new(), |mut text, (name, lines)| {
        writeln!(text, "{name}\n{}", lines.join("\n")).unwrap();
        text
    })
}

/// One after the other, since they share what is compiled.
#[test]
fn what_the_document_takes_elsewhere_compiles_there_without_a_warning() {
    check(&["The client", "The cache", "Pages", "Sessions"], "deny");
    check(&["The client", "The cache", "Pages"], "deny");
    check(&["The client", "The cache", "No pages"], "warn");
    check(&["The client"], "deny");
}

#[test]
fn a_part_needs_what_the_document_lists_for_it() {
    let document = read(DOCUMENT);
    for (heading, folders) in [
        ("The client", &["memcached"][..]),
        ("The cache", &["cache"]),
        ("Pages", &["cache/view"]),
        ("Sessions", &["session"]),
    ] {
        let section = markdown::section(&document, &format!("### {heading}"));
        let tables = blocks(&section, "toml").concat();
        let (_, dependencies) = tables.split_once("[dependencies]\n").unwrap();
        let code: String = folders.iter().flat_map(|folder| sources(folder)).collect();
        for line in dependencies.lines() {
            let name = line.split(' ').next().unwrap().replace('-', "_");
            assert!(code.contains(&format!("{name}::")), "{heading} does not use {name}");
        }
    }
}

/// The code of a module and of those below it.
fn sources(module: &str) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module);
    let mut all = vec![fs::read_to_string(source.with_extension("rs")).unwrap()];
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let is_module = path.extension().is_some_and(|extension| extension == "rs");
        if is_module {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let below = format!("{module}/{name}");
            all.extend(if path.with_extension("").is_dir() {
                sources(&below)
            } else {
                vec![fs::read_to_string(&path).unwrap()]
            });
        }
    }
    all
}

#[test]
fn what_the_document_shows_of_the_example_is_what_stands_there() {
    assert_eq!(excerpts_stand_in_their_files(DOCUMENT, &["sh", "toml"]), 7);
}
