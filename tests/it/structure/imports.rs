//! Which module of ours imports which others.

use std::collections::{BTreeMap, BTreeSet};

use super::{code, files, read};

/// Every module at the top, in the order of `lib.rs`, and what it imports: this and nothing else. A part of a module
/// that knows more or less than the rest of it has a row of its own.
const IMPORTS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "cache", "config", "db", "error", "router", "server", "session", "tasks", "telemetry"]),
    ("config", &["cache", "memcached"]),
    ("telemetry", &["config"]),
    (
        "app",
        &[
            "admin", "cache", "config", "db", "error", "listing", "monitor", "session", "tasks", "upstream",
            "views",
        ],
    ),
    ("router", &["app", "assets", "error", "middleware", "templates", "views"]),
    ("server", &["monitor"]),
    ("error", &["cache", "db", "session", "upstream"]),
    ("middleware", &["app", "cache", "config", "error", "monitor", "session", "templates"]),
    ("no_store", &[]),
    ("admin", &["cache", "config"]),
    ("assets", &[]),
    ("templates", &["assets", "monitor", "tasks", "upstream", "visitor"]),
    (
        "views",
        &[
            "admin",
            "cache",
            "config",
            "db",
            "error",
            "listing",
            "mistake",
            "monitor",
            "no_store",
            "tasks",
            "templates",
            "upstream",
            "visitor",
        ],
    ),
    ("db", &["config"]),
    ("listing", &["cache", "config", "db", "error", "mistake", "tasks", "templates", "visitor"]),
    ("monitor", &["cache", "session", "telemetry"]),
    ("tasks", &["db", "mistake"]),
    ("upstream", &["config"]),
    ("visitor", &["error", "session", "tasks"]),
    ("session", &["cache"]),
    ("session::db_store", &["db"]),
    ("cache", &[]),
    ("cache::backend", &[]),
    ("db::cache", &["db"]),
    ("memcache_crate", &["memcached"]),
    ("cache::backend::memcached", &["memcached"]),
    ("cache::version", &[]),
    ("memcached", &[]),
    ("mistake", &["cache"]),
];

/// The modules at the top that code names, by `crate::` or by as many `super::` as lead there.
fn imports(code: &str, depth: usize) -> BTreeSet<String> {
    let code = code.replace(&"super::".repeat(depth), "crate::");
    let mut found = BTreeSet::new();
    for (place, root) in code.match_indices("crate::") {
        if code[..place].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        match code[place + root.len()..].strip_prefix('{') {
            None => found.extend(first_name(&code[place + root.len()..])),
            Some(group) => found.extend(members(group).iter().filter_map(|member| first_name(member))),
        }
    }
    found
}

/// What stands between the braces of a group that has just been opened, cut at its own commas.
fn members(group: &str) -> Vec<String> {
    let (mut members, mut depth) = (vec![String::new()], 0_i32);
    for c in group.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            _ if depth < 0 => break,
            ',' if depth == 0 => members.push(String::new()),
            c => members.last_mut().unwrap().push(c),
        }
    }
    members
}

fn first_name(path: &str) -> Option<String> {
    let name = path.trim_start().split(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The row that says most exactly where a file is.
fn row_of(module: &str) -> &'static str {
    let rows = IMPORTS.iter().map(|(row, _)| *row);
    let is_in =
        |row: &&str| module.strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    rows.filter(is_in).max_by_key(|row| row.len()).unwrap_or_else(|| panic!("{module} is in no row"))
}

#[test]
fn every_module_imports_what_its_row_says_and_nothing_else() {
    let mut found: BTreeMap<_, _> = IMPORTS.iter().map(|(row, _)| (*row, BTreeSet::new())).collect();
    for path in files("src").into_iter().filter(|path| path != "src/lib.rs") {
        let module = path["src/".len()..path.len() - ".rs".len()].replace('/', "::");
        let parts: Vec<_> = module.split("::").collect();
        // The program sees the library as any other would.
        let code = code(&path);
        let code = if module == "main" { code.replace("tasklist::", "crate::") } else { code };
        let imported = imports(&code, parts.len()).into_iter().filter(|name| name != parts[0]);
        found.get_mut(row_of(&module)).unwrap().extend(imported);
    }
    for (row, known) in IMPORTS {
        let known: BTreeSet<_> = known.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found[row], known, "{row} imports the left; its row says the right");
    }
}

#[test]
fn no_module_imports_itself_by_way_of_others() {
    // Again and again those are taken away that import nothing which is left.
    let mut left: BTreeMap<_, _> = IMPORTS.iter().copied().collect();
    loop {
        let is_last = |row: &&str| !left[row].iter().any(|name| left.contains_key(name));
        let last: Vec<_> = left.keys().copied().filter(is_last).collect();
        if last.is_empty() {
            break;
        }
        left.retain(|row, _| !last.contains(row));
    }
    assert!(left.is_empty(), "among these some import each other: {left:?}");
}

#[test]
fn every_module_of_the_library_has_a_row_in_its_order() {
    let lib = read("src/lib.rs");
    let declared = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let rows = IMPORTS.iter().map(|(row, _)| *row).filter(|row| *row != "main" && !row.contains("::"));
    assert_eq!(rows.collect::<Vec<_>>(), declared.collect::<Vec<_>>());
}

#[test]
fn an_import_is_seen_in_every_form() {
    #[track_caller]
    fn check(code: &str, depth: usize, expected: &[&str]) {
        assert_eq!(imports(code, depth).into_iter().collect::<Vec<_>>(), expected, "{code}");
    }
    check("use crate::db::{self, Database};", 1, &["db"]);
    check(
        "use crate::{assets, error::{Error, Kind},\n    views as pages};",
        1,
        &["assets", "error", "views"],
    );
    check("let now = crate::tasks::stamp(db); memcache_crate::new()", 1, &["tasks"]);
    check("use super::db; use super::super::tasks;", 2, &["tasks"]);
    check("pub(in crate::cli) use std::fmt;", 2, &["cli"]);
}
