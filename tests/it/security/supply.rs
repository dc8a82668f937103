//! What is built in, and how the code treats secrets: the main points of deny.toml, without its program, and what the
//! sources must and must not say.

use std::collections::BTreeMap;

use crate::structure::{SOURCES, code, files, read};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The versions of every crate in Cargo.lock, each with its source.
fn locked() -> BTreeMap<String, Vec<Option<String>>> {
    let lock = read("Cargo.lock");
    let mut crates = BTreeMap::<String, Vec<_>>::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        crates.entry(field("name").unwrap()).or_default().push(field("source"));
    }
    assert!(crates.len() > 100);
    crates
}

/// The names in a list of deny.toml whose lines have all these words.
fn denied(words: &str) -> Vec<String> {
    let deny = read("deny.toml");
    let lines = deny.lines().filter(|line| line.trim_start().starts_with("{ crate") && line.contains(words));
    let names: Vec<_> = lines.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect();
    assert!(!names.is_empty());
    names
}

/// Whether a package is the application or one of its crates.
fn is_ours(name: &str) -> bool {
    name == "tasklist" || SOURCES.contains(&&*format!("crates/{name}/src"))
}

#[test]
fn every_crate_is_from_crates_io() {
    for (name, sources) in locked() {
        let ours = is_ours(&name) && sources == [None];
        assert!(
            ours || sources.iter().all(|source| source.as_deref() == Some(CRATES_IO)),
            "{name}: {sources:?}"
        );
    }
    let deny = read("deny.toml");
    for line in ["unknown-registry = \"deny\"", "unknown-git = \"deny\"", "yanked = \"deny\""] {
        assert!(deny.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn no_banned_crate_is_built_in_and_the_main_ones_are_there_once() {
    let (locked, once) = (locked(), denied("deny-multiple-versions = true"));
    for name in denied("") {
        let versions = locked.get(&name).map_or(0, Vec::len);
        assert_eq!(versions, usize::from(once.contains(&name)), "versions of {name}");
    }
    for name in ["openssl", "native-tls"] {
        assert!(denied("").iter().any(|denied| denied == name), "{name}");
    }
}

#[test]
fn nothing_is_unsafe() {
    assert!(read("Cargo.toml").lines().any(|line| line.starts_with("unsafe_code = \"forbid\"")));
    for path in SOURCES.into_iter().flat_map(files) {
        assert!(!code(&path).contains("unsafe "), "{path}");
    }
}

/// The time of a comparison that ends at the first wrong byte reveals how many are right.
#[test]
fn secrets_are_compared_in_constant_time() {
    let places =
        ["src/admin.rs", "crates/neverstale-sessions/src/cookie.rs", "crates/neverstale/src/integrity.rs"];
    for path in SOURCES.into_iter().flat_map(files) {
        let code = code(&path);
        let is_place = places.contains(&path.as_str());
        assert_eq!(code.contains("hmac::verify("), is_place, "{path}");
        // A signature could be compared with the expected one as well.
        let exposes = ["expose_secret() ==", "== expected", "signature ==", "== signature"];
        assert!(!exposes.iter().any(|comparison| code.contains(comparison)), "{path}");
    }
}
