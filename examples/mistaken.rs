//! The program as it must not be: with the mistake that `TASKLIST_MISTAKE` names. Tests build it, nobody ships it.

use std::process::ExitCode;

use clap::Parser;
use tasklist::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mistaken: {error:#}");
            ExitCode::FAILURE
        }
    }
}
