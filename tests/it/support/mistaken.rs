//! The program in a build that can make mistakes: `examples/mistaken.rs`, built when it is first needed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns its path. It is built as the tests are, beside what they have built, so that only our own crate is compiled
/// again; an example, since a binary of this name would take the place of the one that all other tests run.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(build)
}

fn build() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_tasklist")).parent().unwrap();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--example", "mistaken", "--features", "mistakes"]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    // What cargo tells tests of the package is no business of another cargo: scripts of crates would run again for it.
    for (name, _) in env::vars_os() {
        let is_of_package = |name: &str| {
            name == "OUT_DIR" || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        };
        if name.to_str().is_some_and(is_of_package) {
            cargo.env_remove(name);
        }
    }
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
    profile.join("examples/mistaken")
}
