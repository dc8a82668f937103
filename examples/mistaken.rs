//! The program as it must not be: with the mistake that `TASKLIST_MISTAKE` names. Tests build it, nobody ships it.

use std::process::ExitCode;

use tasklist::cli;

fn main() -> ExitCode {
    cli::main()
}
