//! Parses the command line, runs the command, and turns its error into an exit code.

use std::process::ExitCode;

use clap::Parser;
use tasklist::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tasklist: {error:#}");
            ExitCode::FAILURE
        }
    }
}
