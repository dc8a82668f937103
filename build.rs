//! Rebuilds when embedded files change, and writes the digests of cached templates.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

const TEMPLATES: &str = "templates";

/// Pages name these files by a hash of their content.
const ASSETS: &str = "static";

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script where to write by a variable")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed={ASSETS}");
    println!("cargo:rerun-if-changed={TEMPLATES}");
    let digests = [
        digest_of("TASK_ROW", &["tasks/_row.html"], &[])?,
        digest_of("INDEX_PAGE", &["index.html", "tasks/_row.html"], &assets()?)?,
        digest_of("API_CALLS_PAGE", &["api_calls.html"], &assets()?)?,
    ];
    Ok(fs::write(PathBuf::from(env::var("OUT_DIR")?).join("digests.rs"), digests.concat())?)
}

fn assets() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths =
        fs::read_dir(ASSETS)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    paths.sort();
    Ok(paths)
}

/// Returns a constant that changes with templates, with all that they include or extend, and with files beside them.
fn digest_of(name: &str, templates: &[&str], files: &[PathBuf]) -> Result<String, Box<dyn Error>> {
    let mut digest = Sha256::new();
    for template in templates {
        for path in with_dependencies(template)? {
            digest.update(fs::read(Path::new(TEMPLATES).join(path))?);
            digest.update([0]);
        }
    }
    for path in files {
        digest.update(fs::read(path)?);
        digest.update([0]);
    }
    let mut hex = String::new();
    for byte in &digest.finalize()[..4] {
        write!(hex, "{byte:02x}")?;
    }
    let list = templates.join("`, `");
    let besides = if files.is_empty() { "" } else { ", and of the assets" };
    let text = format!("/// Digest of `{list}` and of all templates that they include or extend{besides}.\n");
    Ok(format!("{text}pub const {name}: &str = \"{hex}\";\n"))
}

fn with_dependencies(template: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let (mut found, mut open) = (BTreeSet::new(), vec![template.to_owned()]);
    while let Some(path) = open.pop() {
        let text = fs::read_to_string(Path::new(TEMPLATES).join(&path))
            .map_err(|error| format!("{path}: {error}"))?;
        // `{% include "path" %}`, `{%- extends "path" -%}`, `{% import "path" as name %}`
        let tags = text.split("{%").skip(1).map(|tag| tag.trim_start_matches(['-', '+', '~']).trim_start());
        let needed =
            tags.filter(|tag| ["include", "extends", "import"].iter().any(|word| tag.starts_with(word)));
        open.extend(
            needed
                .filter_map(|tag| tag.split('"').nth(1))
                .filter(|path| !found.contains(*path))
                .map(String::from),
        );
        found.insert(path);
    }
    Ok(found)
}
