//! `fanline audit`: verifies an audit log, and reports usage from it.

use std::path::PathBuf;

use clap::Subcommand;

use crate::audit::files::{self, FilesError, LineHash};
use crate::audit::report::CsvReport;
use crate::audit::usage::{Period, UsageError, count};
use crate::audit::verify::{VerifyError, verify};

const VERIFY_EXAMPLES: &str = "\
Examples:
  fanline audit verify /var/lib/fanline/audit
  fanline audit verify --contains 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 /var/lib/fanline/audit

Exit code 0 if the chain is unbroken, 1 if it is not; the first fault is named with file and line.";

const REPORT_EXAMPLES: &str = "\
Examples:
  fanline audit report --month 2027-01 /var/lib/fanline/audit > 2027-01.csv
  fanline audit report --month 2027-01 --subjects /var/lib/fanline/audit > 2027-01-subjects.csv";

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Check that no line of an audit log was changed, removed or reordered.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// The directory of the log, or files of it.
        #[arg(value_name = "DIR|FILE", required = true)]
        places: Vec<PathBuf>,
        /// A hash that an earlier verification has shown, and that was kept elsewhere: a line must have it.
        #[arg(long, value_name = "SHA256", value_parser = hash)]
        contains: Option<LineHash>,
    },
    /// Print a month's usage as CSV: unique subjects by tier, status, patterns and delay, first and last day, peaks.
    #[command(after_help = REPORT_EXAMPLES)]
    Report {
        /// The directory of the log, or files of it.
        #[arg(value_name = "DIR|FILE", required = true)]
        places: Vec<PathBuf>,
        /// The month, in UTC.
        #[arg(long, value_name = "YYYY-MM")]
        month: String,
        /// A row for each subject, instead of the summary.
        #[arg(long)]
        subjects: bool,
    },
}

/// Why a log was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Usage(#[from] UsageError),
}

impl AuditError {
    /// Whether the command line is wrong, rather than the log.
    pub fn is_usage(&self) -> bool {
        matches!(self, AuditError::Files(_) | AuditError::Usage(UsageError::Month { .. }))
    }
}

/// Performs the command; returns what is to be printed.
pub(super) fn perform(command: AuditCommand) -> Result<String, AuditError> {
    match command {
        AuditCommand::Verify { places, contains } => Ok(verify(&files::expand(&places)?, contains)?.to_string()),
        AuditCommand::Report { places, month, subjects } => {
            let usage = count(&files::expand(&places)?, Period::month(&month)?)?;
            Ok(CsvReport { month: &month, usage: &usage, by_subject: subjects }.to_string())
        }
    }
}

fn hash(text: &str) -> Result<LineHash, String> {
    LineHash::from_hex(text).ok_or_else(|| format!("expected 64 hexadecimal digits, found `{text}`"))
}
