//! Why a command failed, how that is reported, and the exit code.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use crate::app::AppError;
use crate::bench::BenchError;
use crate::certificate::CertificateError;
use crate::cli::admin_client::AdminError;
use crate::cli::audit::AuditError;
use crate::config::error::ConfigError;
use crate::config::logs::write_within;
use crate::health::HealthError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandFailure {
    /// Also `--help` and `--version`, which are not failures.
    #[error(transparent)]
    Arguments(clap::Error),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("expected a machine without faults, found {faults}, listed above; each has its remedy below it")]
    Unfit { faults: usize },
    #[error("expected to start threads: {0}; raise the limit of processes (ulimit -u)")]
    Runtime(io::Error),
    #[error("expected to write to stdout: {0}")]
    Output(io::Error),
}

impl CommandFailure {
    pub(super) fn report(&self) -> ExitCode {
        let usage = match self {
            CommandFailure::Arguments(error) => {
                let code = u8::try_from(error.exit_code()).unwrap_or(2);
                // With stderr closed too, there is nowhere left to report to.
                let _ = if error.use_stderr() && !io::stderr().is_terminal() {
                    write_within(io::stderr(), error.render().to_string())
                } else {
                    error.print()
                };
                return ExitCode::from(code);
            }
            CommandFailure::Usage(_) | CommandFailure::Config(_) => true,
            CommandFailure::App(error) => error.is_usage(),
            CommandFailure::Bench(error) => error.is_usage(),
            CommandFailure::Health(error) => error.is_usage(),
            CommandFailure::Admin(error) => error.is_usage(),
            CommandFailure::Audit(error) => error.is_usage(),
            CommandFailure::Certificate(_)
            | CommandFailure::Unfit { .. }
            | CommandFailure::Runtime(_)
            | CommandFailure::Output(_) => false,
        };
        let mut report = String::new();
        let mut cause: Option<&dyn Error> = Some(self);
        let mut reported = String::new();
        while let Some(error) = cause {
            let text = error.to_string();
            // A cause that its parent already contains is not repeated.
            if !reported.contains(&text) {
                report.extend(text.lines().map(|line| format!("error: {line}\n")));
            }
            reported = text;
            cause = error.source();
        }
        // With stderr closed too, there is nowhere left to report to; a stalled reader must not delay the end.
        let _ = write_within(io::stderr(), report);
        ExitCode::from(if usage { 2 } else { 1 })
    }
}
