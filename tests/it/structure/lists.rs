//! Lists that stand in two places and must be the same in both.

use std::collections::BTreeSet;

use clap::CommandFactory;
use tasklist::cli::Cli;

use super::{files, is_variable, read, variable};
use crate::documents::markdown::{quoted, section};

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| -> Vec<_> {
        files(folder).iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names("migrations/sqlite"), names("migrations/postgres"));
}

#[test]
fn every_variable_is_documented_and_every_documented_one_is_read() {
    let readme = read("README.md");
    let table = readme.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<_> = table
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(quoted)
        .filter(|word| is_variable(word))
        .map(str::to_owned)
        .collect();
    let command = Cli::command();
    let options = command.get_arguments().filter(|option| !option.is_hide_set());
    assert_eq!(documented, options.filter_map(variable).collect());
    let example = read(".env.example");
    for name in &documented {
        assert!(example.contains(&format!("{name}=")), "{name} is not in .env.example");
    }
}

/// What stands in back-ticks in the first cells of a page's tables below a heading.
fn first_cells(text: &str, heading: &str) -> Vec<String> {
    let section = section(text, heading);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| quoted(row.split('|').nth(1).unwrap())).map(str::to_owned).collect()
}

#[test]
fn every_dependency_has_its_line_in_the_architecture() {
    let crates = ["neverstale", "neverstale-axum", "neverstale-sessions", "tokio-memcached", "testkit"];
    let crates = crates.map(|name| format!("crates/{name}/Cargo.toml"));
    let ours =
        ["tasklist", "neverstale", "neverstale-axum", "neverstale-sessions", "tokio-memcached", "testkit"];
    for manifest in crates.iter().map(String::as_str).chain(["Cargo.toml", "fuzz/Cargo.toml"]) {
        let text = read(manifest);
        for line in text.lines().skip_while(|line| !line.ends_with("dependencies]")) {
            assert!(!line.starts_with("[dependencies."), "{manifest}: a line each, so that this finds it");
        }
    }
    let named = |manifest: &str, tables: &[&str]| -> BTreeSet<String> {
        let text = read(manifest);
        let lines = tables.iter().flat_map(|table| {
            section_of_manifest(&text, table).filter_map(|line| line.split_once(" = ")).collect::<Vec<_>>()
        });
        lines.map(|(name, _)| name.to_owned()).filter(|name| !ours.contains(&&**name)).collect()
    };
    let mut all = named("fuzz/Cargo.toml", &["[dependencies]"]);
    for manifest in crates.iter().map(String::as_str).chain(["Cargo.toml"]) {
        all.extend(named(manifest, &["[dependencies]", "[build-dependencies]", "[dev-dependencies]"]));
    }
    let architecture = read("docs/ARCHITECTURE.md");
    let documented = first_cells(&architecture, "## Dependencies");
    let unique: BTreeSet<_> = documented.iter().cloned().collect();
    assert_eq!(unique.len(), documented.len(), "a crate has two lines");
    assert_eq!(unique, all);
}

/// The lines of a table of a manifest, comments left out.
fn section_of_manifest<'a>(text: &'a str, table: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().skip_while(move |line| *line != table).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with('#'))
}

/// The modules of the library, in its order.
fn modules(lib: &str) -> Vec<&str> {
    let lines = lib.lines().map(|line| line.trim_start_matches("pub "));
    lines.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect()
}

#[test]
fn every_module_has_its_line_in_the_architecture() {
    let lib = read("src/lib.rs");
    assert_eq!(first_cells(&read("docs/ARCHITECTURE.md"), "## Code map"), modules(&lib));
}

#[test]
fn the_guided_tour_leads_to_every_module() {
    let lib = read("src/lib.rs");
    let (_, tour) = lib.split_once("# The guided tour").unwrap();
    for module in modules(&lib) {
        assert!(tour.contains(&format!("`{module}`")), "{module} is left out");
    }
}

#[test]
fn every_lint_and_every_forbidden_call_has_its_reason() {
    let manifest = read("Cargo.toml");
    for table in ["[workspace.lints.rust]", "[workspace.lints.clippy]"] {
        let lints: Vec<_> = section_of_manifest(&manifest, table).filter(|line| !line.is_empty()).collect();
        assert!(lints.len() > 2, "{table}");
        for lint in lints {
            assert!(lint.split_once(" # ").is_some_and(|(_, reason)| reason.len() > 10), "why {lint}?");
        }
    }
    let clippy = read("clippy.toml");
    let calls: Vec<_> = clippy.lines().filter(|line| line.contains("path = ")).collect();
    assert!(calls.len() > 2);
    for call in calls {
        assert!(call.split_once("reason = \"").is_some_and(|(_, reason)| reason.len() > 10), "why {call}?");
    }
}
