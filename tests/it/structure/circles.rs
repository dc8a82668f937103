//! No file imports a file that imports it, whether directly or by way of others. What crosses the borders between
//! crates the compiler refuses; within a crate it lets everything pass.

use std::collections::{BTreeMap, BTreeSet};

use super::{SOURCES, code, files};

/// The modules of a crate, by their path in it, each with its code. The root's path is empty.
struct Modules(BTreeMap<String, String>);

impl Modules {
    fn of(folder: &str) -> Self {
        let module = |path: &str| path[folder.len() + 1..path.len() - ".rs".len()].replace('/', "::");
        let name = |path: &str| Some(module(path)).filter(|name| name != "lib").unwrap_or_default();
        let paths = files(folder).into_iter().filter(|path| !path.ends_with("/main.rs"));
        Self(paths.map(|path| (name(&path), code(&path))).collect())
    }

    /// What each module imports. That a module declares another, or hands its names on, is no import.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let handed_on = self.handed_on();
        let imported = |(module, code): (_, &String)| {
            let (_, own) = split_uses(code, |line| line.starts_with("pub"));
            let starts = self.children(module).chain(["crate", "super", "self"].map(str::to_owned));
            let starts: BTreeSet<_> = starts.collect();
            let found = paths(&own, &starts).into_iter().filter_map(|path| {
                let (home, name) = self.resolve(module, &path)?;
                Some(handed_on.get(&(home.clone(), name)).cloned().unwrap_or(home))
            });
            found.filter(|home| home != module).collect()
        };
        self.0.iter().map(|(module, code)| (module.as_str(), imported((module, code)))).collect()
    }

    /// For each name that a module hands on from a module below it, where the name is from.
    fn handed_on(&self) -> BTreeMap<(String, String), String> {
        let mut found = BTreeMap::new();
        for (module, code) in &self.0 {
            let (uses, _) = split_uses(code, |line| line.starts_with("pub"));
            let starts = self.children(module).chain(["self".to_owned()]).collect();
            for path in paths(&uses, &starts) {
                if let Some((home, name)) = self.resolve(module, &path) {
                    found.insert((module.clone(), name), home);
                }
            }
        }
        found
    }

    /// The names of the modules that are directly below a module.
    fn children(&self, module: &str) -> impl Iterator<Item = String> {
        let names = self.0.keys().filter(move |name| !name.is_empty()).filter_map(move |name| {
            let rest =
                if module.is_empty() { name } else { name.strip_prefix(module)?.strip_prefix("::")? };
            (!rest.contains("::")).then(|| rest.to_owned())
        });
        names.collect::<Vec<_>>().into_iter()
    }

    /// The module that a path leads to from another, and the name that is meant in it.
    fn resolve(&self, module: &str, path: &[String]) -> Option<(String, String)> {
        let mut base: Vec<_> = module.split("::").filter(|part| !part.is_empty()).collect();
        let mut rest = path;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" => base.clear(),
                "super" => _ = base.pop(),
                "self" => {}
                _ => break,
            }
            rest = others;
        }
        let parts: Vec<_> = base.into_iter().chain(rest.iter().map(String::as_str)).collect();
        let length =
            (0..=parts.len()).rev().find(|length| self.0.contains_key(&parts[..*length].join("::")))?;
        Some((parts[..length].join("::"), parts.get(length).copied().unwrap_or_default().to_owned()))
    }
}

/// Divides code into the `use` lines that are asked for and the rest.
fn split_uses(code: &str, is_asked_for: impl Fn(&str) -> bool) -> (String, String) {
    let (mut uses, mut rest) = (String::new(), String::new());
    for statement in code.split_inclusive(';') {
        let start =
            statement.rfind("use ").map_or(0, |at| statement[..at].rfind('\n').map_or(0, |end| end + 1));
        let is_use = statement[start..].contains("use ") && is_asked_for(statement[start..].trim_start());
        if is_use {
            rest += &statement[..start];
            uses += &statement[start..];
        } else {
            rest += statement;
        }
    }
    (uses, rest)
}

/// All paths in code that begin with one of these words.
fn paths(code: &str, starts: &BTreeSet<String>) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    // That a module may see something is no import of it.
    let begins = |place: &usize| !code[..*place].ends_with(is_part) && !code[..*place].ends_with("pub(in ");
    let words = starts.iter().flat_map(|word| code.match_indices(&format!("{word}::")).collect::<Vec<_>>());
    words.map(|(place, _)| place).filter(begins).flat_map(|place| tree(&code[place..])).collect()
}

/// The paths that a tree such as `a::{b, c::d}` stands for.
fn tree(text: &str) -> Vec<Vec<String>> {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = (text[..end].to_owned(), &text[end..]);
    let below = match rest.strip_prefix("::") {
        Some(group) if group.starts_with('{') => {
            members(&group[1..]).iter().flat_map(|one| tree(one)).collect()
        }
        Some(rest) => tree(rest),
        None => vec![vec![]],
    };
    below.into_iter().map(|path| [vec![name.clone()], path].concat()).collect()
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
    members.retain(|member| !member.trim().is_empty());
    members
}

/// Those that import each other, directly or by way of others, and what lies between such.
fn circles(mut left: BTreeMap<&str, BTreeSet<String>>) -> BTreeMap<&str, BTreeSet<String>> {
    loop {
        let imports_none = |module: &str| !left[module].iter().any(|name| left.contains_key(name.as_str()));
        let is_imported = |module: &str| left.values().any(|imports| imports.contains(module));
        let is_at_an_end = |module: &&str| imports_none(module) || !is_imported(module);
        let Some(end) = left.keys().copied().find(is_at_an_end) else { return left };
        left.remove(end);
    }
}

#[test]
fn no_file_imports_itself_by_way_of_others() {
    for folder in SOURCES {
        let modules = Modules::of(folder);
        let imports = modules.imports();
        assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 5, "{folder}: {imports:?}");
        let circles = circles(imports);
        assert!(circles.is_empty(), "{folder}: among these some import each other: {circles:#?}");
    }
}

#[test]
fn an_import_is_seen_in_every_form() {
    let code = |text: &str| text.to_owned();
    let modules = |root: &str, one: &str| {
        Modules(
            [("", root), ("a", one), ("a::b", ""), ("c", "")]
                .map(|(name, text)| (name.into(), code(text)))
                .into(),
        )
    };
    for (text, expected) in [
        ("use crate::c::{self, D};", &["c"][..]),
        ("use crate::{c::D,\n    x};", &["", "c"]),
        ("let now = crate::c::now(); xc::new()", &["c"]),
        ("use super::c;", &["c"]),
        ("b::new()", &["a::b"]),
        ("pub use self::b::E;", &[]),
        ("use super::F;", &["c"]),
        ("pub(in crate::c) fn g() {}", &[]),
        ("use std::fmt;", &[]),
    ] {
        let modules = modules("pub use self::c::F;", text);
        let found = modules.imports()["a"].iter().cloned().collect::<Vec<_>>();
        assert_eq!(found, expected, "{text}");
    }
    let modules = modules("use self::a::A;", "use super::B;");
    assert_eq!(circles(modules.imports()).into_keys().collect::<Vec<_>>(), ["", "a"]);
}
