//! The program `tasklist`.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use tasklist::cli;

/// Holds a third of the memory of the system's own after a crowd has left (docs/performance.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
