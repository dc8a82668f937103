//! What commands print: results to standard output, all else to standard error.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write to standard output")]
pub(super) struct Unwritten(#[from] io::Error);

impl Unwritten {
    /// Returns whether the reader has gone, such as `head` after its last line. That needs no words, only an exit code.
    pub(super) fn is_reader_gone(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Prints a line to standard output.
///
/// # Errors
///
/// If it could not be written.
pub(super) fn say(line: &str) -> Result<(), Unwritten> {
    print(line.as_bytes())
}

/// Prints a result and a newline to standard output.
///
/// # Errors
///
/// If it could not be written.
pub(super) fn print(result: &[u8]) -> Result<(), Unwritten> {
    // Not by `io::stdout()`: where the descriptor is not open for writing, that says nothing of it.
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    Ok(output.write_all(&[result, b"\n"].concat())?)
}

/// Prints a line to standard error, if that can be written.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Returns a duration as JSON has it: milliseconds, exact to a microsecond.
pub(super) fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
