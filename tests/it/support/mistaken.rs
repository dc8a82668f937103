//! The program in a build with fault injection: `examples/mistaken.rs`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::example;

/// Returns its path. It is an example, since a binary of this name would take the place of the one that all other tests
/// run.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| example::build_with_faults("mistaken"))
}
