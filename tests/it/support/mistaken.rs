//! The program in a build with fault injection: `examples/mistaken.rs`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::example;

/// Returns its path.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| example::built("tasklist-with-faults"))
}
