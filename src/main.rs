//! Parses the command line, runs the command, and turns its error into an exit code.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use tasklist::cli::Cli;

/// Takes less time for a request than the system's own, and holds less memory after a crowd has left.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tasklist: {error:#}");
            ExitCode::FAILURE
        }
    }
}
