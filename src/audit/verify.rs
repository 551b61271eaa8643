//! Verification of an audit log: every line is where it was written, as it was written.
//!
//! The chain cannot show that its newest lines are missing, or that its last line was changed: for that, somebody keeps
//! the last hash elsewhere, and `ChainEnd` is compared with it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::audit::files::{FilesError, LineHash, NO_HASH};
use crate::audit::record::LinkRecord;

/// Far more than the longest line: a file without line feeds must not fill the memory.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What was found in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub files: usize,
    pub lines: u64,
    /// Number of the first line; above 1 if older files are not here.
    pub first_seq: u64,
    pub last_seq: u64,
    /// Of the last line: keep it where those who can write the log cannot.
    pub last_hash: LineHash,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verified { files, lines, first_seq, last_seq, last_hash } = self;
        if *lines == 0 {
            return write!(f, "no lines, files: {files}");
        }
        write!(
            f,
            "unbroken, files: {files}, lines: {lines}, seq: {first_seq} to {last_seq}\nlast sha256: {last_hash}"
        )?;
        if *first_seq > 1 {
            write!(f, "\nthe log begins with seq 1; older files are not among these")?;
        }
        Ok(())
    }
}

/// Why a log is not in order.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("{}:{line}: {fault}", .path.display())]
    Broken { path: PathBuf, line: u64, fault: ChainFault },
    #[error("expected a line with the sha256 `{expected}`, found none: lines at the end are missing or were changed")]
    NoSuchLine { expected: LineHash },
}

/// The first fault of a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    #[error("expected a line of an audit log with `seq` and `prev_sha256`, found something else: it was changed")]
    Unreadable,
    #[error("expected a line feed at the end, found none: the line is torn, or is just being written")]
    Torn,
    #[error("expected the line whose sha256 the next line has, found another: it was changed, or the next one was")]
    Changed,
    #[error("expected seq {expected}, found {found}: lines before this one are missing or out of order")]
    Gap { expected: u64, found: u64 },
    #[error("expected seq {expected}, found {found}: the line is repeated or out of order")]
    OutOfOrder { expected: u64, found: u64 },
}

/// A line that was read, and where.
struct LastLine<'f> {
    path: &'f Path,
    line: u64,
    seq: u64,
    hash: LineHash,
}

/// Verifies files in this order. With `anchor`, one of the lines must have this hash.
///
/// # Errors
/// The first fault, with file and line.
pub fn verify(files: &[PathBuf], anchor: Option<LineHash>) -> Result<Verified, VerifyError> {
    let mut last: Option<LastLine<'_>> = None;
    let mut verified = Verified { files: files.len(), lines: 0, first_seq: 0, last_seq: 0, last_hash: NO_HASH };
    let mut anchored = anchor.is_none();
    let mut bytes = Vec::new();
    for path in files {
        let unreadable = |error| FilesError::Unreadable { path: path.clone(), error };
        let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(unreadable)?);
        let mut line = 0;
        while next_line(&mut reader, &mut bytes).map_err(unreadable)? {
            line += 1;
            let broken = |fault| VerifyError::Broken { path: path.clone(), line, fault };
            let Some(text) = bytes.strip_suffix(b"\n") else { return Err(broken(ChainFault::Torn)) };
            let record: LinkRecord<'_> = serde_json::from_slice(text).map_err(|_| broken(ChainFault::Unreadable))?;
            let prev = LineHash::from_hex(&record.prev_sha256).ok_or_else(|| broken(ChainFault::Unreadable))?;
            check_link(last.as_ref(), record.seq, prev).map_err(|(is_earlier, fault)| match &last {
                Some(last) if is_earlier => VerifyError::Broken { path: last.path.into(), line: last.line, fault },
                _ => broken(fault),
            })?;
            let hash = LineHash::of(text);
            anchored |= anchor == Some(hash);
            if verified.lines == 0 {
                verified.first_seq = record.seq;
            }
            verified.lines += 1;
            (verified.last_seq, verified.last_hash) = (record.seq, hash);
            last = Some(LastLine { path, line, seq: record.seq, hash });
        }
    }
    match anchor {
        Some(expected) if !anchored => Err(VerifyError::NoSuchLine { expected }),
        _ => Ok(verified),
    }
}

/// Whether a line follows the last one. A fault can be that of the earlier line.
fn check_link(last: Option<&LastLine<'_>>, seq: u64, prev: LineHash) -> Result<(), (bool, ChainFault)> {
    let Some(last) = last else {
        // What precedes the oldest file is not known, except that nothing precedes the first line of all.
        let is_first = seq == 1;
        return if is_first == (prev == NO_HASH) { Ok(()) } else { Err((false, ChainFault::Unreadable)) };
    };
    let expected = last.seq + 1;
    match seq {
        found if found > expected => Err((false, ChainFault::Gap { expected, found })),
        found if found < expected => Err((false, ChainFault::OutOfOrder { expected, found })),
        _ if prev != last.hash => Err((true, ChainFault::Changed)),
        _ => Ok(()),
    }
}

/// Reads a line with its line feed; false at the end of the file.
pub(super) fn next_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.clear();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', bytes)?;
    Ok(!bytes.is_empty())
}
