//! Programs of `examples/`, built when they are first needed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the path of one. It is built as the tests are, beside what they have built, so that only our own crate is
/// compiled again, if anything.
pub fn build(name: &str, features: &[&str]) -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_tasklist")).parent().unwrap();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--example", name, "--features", &features.join(",")]);
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
    profile.join("examples").join(name)
}
