//! What commands print.

use std::fmt;
use std::io::{self, Write};

use crate::cli::failure::CommandFailure;

/// Prints to stdout. A closed pipe (`| head`) is not an error.
pub(super) fn print(text: impl fmt::Display) -> Result<(), CommandFailure> {
    let text = text.to_string();
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CommandFailure::Output(error)),
        _ => Ok(()),
    }
}

/// Prints progress on stderr. The command continues if nobody reads it.
pub(super) fn progress(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
