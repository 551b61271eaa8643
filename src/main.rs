//! The `fanline` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    fanline::cli::run(std::env::args_os(), std::env::vars_os())
}
