//! What the compiler does not know to be part of the build: embedded files, and the digests of templates.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

const TEMPLATES: &str = "templates";

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script where to write by a variable")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=static");
    println!("cargo:rerun-if-changed={TEMPLATES}");
    let digests = PathBuf::from(env::var("OUT_DIR")?).join("digests.rs");
    Ok(fs::write(digests, digest_of("tasks/_row.html", "TASK_ROW")?)?)
}

/// Returns a constant that changes with a template and with all that it includes or extends.
fn digest_of(template: &str, name: &str) -> Result<String, Box<dyn Error>> {
    let mut digest = Sha256::new();
    for path in with_all_it_needs(template)? {
        digest.update(fs::read(Path::new(TEMPLATES).join(path))?);
        digest.update([0]);
    }
    let mut hex = String::new();
    for byte in &digest.finalize()[..4] {
        write!(hex, "{byte:02x}")?;
    }
    Ok(format!(
        "/// Of `{template}` and all that it includes or extends.\npub const {name}: &str = \"{hex}\";\n"
    ))
}

fn with_all_it_needs(template: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
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
