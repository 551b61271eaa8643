//! The thread that writes the audit log: one file a day, each line with the hash of the line before, on disk each second.
//!
//! A write that fails is undone (the file is cut to its last whole line) and tried again, so a full disk leaves no torn
//! line. A process that is killed can leave one: the next start moves it to a file of its own, and the chain goes on from
//! the last whole line. One process at a time: the directory's file `lock` is held while the log is open. A process that
//! takes over from another waits for it, and its events with it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::audit::event::AuditEvent;
use crate::audit::files::{self, FilesError, LineHash, NO_HASH};
use crate::audit::log::WriterPresence;
use crate::audit::record::LinkRecord;

/// The most that a loss of power may cost.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Between two attempts to write to a disk that is full.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Between two looks whether the process before has ended.
const LOCKED_INTERVAL: Duration = Duration::from_millis(50);
/// For the process before to end, once this one stops as well: by default its clients have left within 15 s.
pub(super) const LOCKED_CLOSING: Duration = Duration::from_secs(18);
/// Of log lines about a disk that stays full.
const COMPLAIN_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes that are read at a time from the end of a file: most lines are shorter.
const TAIL_BYTES: u64 = 64 << 10;
/// The longest event, of control characters alone, has about 60 KB.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("audit.dir: expected a writable directory, found `{}`: {error}; create it, or choose another", .path.display())]
    Directory { path: PathBuf, error: io::Error },
    #[error("audit.dir: expected `{}` for this process alone, found another that writes there; stop it, or choose another directory", .path.display())]
    Locked { path: PathBuf },
    #[error(
        "audit.dir: expected a line of an audit log at the end of `{}`, found something else; \
         look with `fanline audit verify`, and move the file away to begin anew", .path.display()
    )]
    Foreign { path: PathBuf },
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("expected to start the thread of the audit log: {error}; raise the limit of processes (ulimit -u)")]
    Thread { error: io::Error },
}

/// The open log.
pub(super) struct AuditWriter {
    dir: PathBuf,
    /// The lock goes with it.
    _lock: File,
    current: Option<OpenFile>,
    /// Of the newest file, even if the clock is set back: names and lines have one order.
    day: String,
    /// The number and the hash of the last line.
    seq: u64,
    hash: LineHash,
}

struct OpenFile {
    path: PathBuf,
    file: File,
    /// Up to the end of the last whole line.
    bytes: u64,
    /// More may follow these bytes: a part of a line that could not be written.
    is_torn: bool,
}

/// Lines of one day, ready to be written.
struct DayLines {
    day: String,
    text: Vec<u8>,
    lines: usize,
}

impl AuditWriter {
    /// Locks the directory, finds the end of the chain, and moves a torn line aside; returns its length.
    pub(super) fn open(dir: &Path) -> Result<(AuditWriter, Option<u64>), OpenError> {
        let wrong = |error| OpenError::Directory { path: dir.into(), error };
        fs::create_dir_all(dir).map_err(wrong)?;
        let lock = private(OpenOptions::new().write(true).create(true)).open(dir.join("lock")).map_err(wrong)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Locked { path: dir.into() },
            TryLockError::Error(error) => wrong(error),
        })?;
        let mut writer =
            AuditWriter { dir: dir.into(), _lock: lock, current: None, day: String::new(), seq: 0, hash: NO_HASH };
        let existing = files::list(dir).map_err(wrong)?;
        let mut torn = None;
        if let Some(newest) = existing.last() {
            writer.day = files::day_of(newest).unwrap_or_default().to_owned();
            torn = move_torn_line_aside(newest).map_err(wrong)?;
        }
        // A file may be empty: made, and then the process was killed.
        for path in existing.iter().rev() {
            let Some(line) = last_line(path).map_err(wrong)? else { continue };
            let foreign = || OpenError::Foreign { path: path.clone() };
            let record: LinkRecord<'_> = serde_json::from_slice(&line).map_err(|_| foreign())?;
            LineHash::from_hex(&record.prev_sha256).ok_or_else(foreign)?;
            (writer.seq, writer.hash) = (record.seq, LineHash::of(&line));
            break;
        }
        Ok((writer, torn))
    }

    /// As [`AuditWriter::open`], once no other process writes there any more. None, if that fails or the server stops
    /// before; it is told in the log.
    pub(super) fn open_after(dir: &Path, queue: &WriterPresence) -> Option<(AuditWriter, Option<u64>)> {
        let mut closing: Option<Instant> = None;
        queue.set_locked(true);
        let opened = loop {
            let is_late = closing.is_some_and(|since| since.elapsed() > LOCKED_CLOSING);
            match AuditWriter::open(dir) {
                Ok(opened) => break Some(opened),
                Err(OpenError::Locked { .. }) if !is_late => {
                    closing = closing.or_else(|| queue.is_closing().then(Instant::now));
                    std::thread::sleep(LOCKED_INTERVAL);
                }
                Err(error) => {
                    tracing::error!(%error, "the audit log cannot be opened, and nothing is recorded; start the server again");
                    break None;
                }
            }
        };
        queue.set_locked(false);
        opened
    }

    /// Writes until the log is closed.
    pub(super) fn run(mut self, queue: &WriterPresence) {
        let mut synced = Instant::now();
        let mut unsynced = false;
        loop {
            let batch = queue.take(SYNC_INTERVAL);
            for lines in self.encode(batch.events) {
                if !self.write(&lines, queue) {
                    return;
                }
                unsynced = true;
            }
            if unsynced && (batch.last || synced.elapsed() >= SYNC_INTERVAL) {
                unsynced = !self.sync();
                queue.set_failing(unsynced);
                synced = Instant::now();
            }
            if batch.last {
                return;
            }
        }
    }

    /// Chains the events.
    fn encode(&mut self, events: VecDeque<(u64, AuditEvent)>) -> Vec<DayLines> {
        let mut days: Vec<DayLines> = Vec::new();
        for (ms, event) in events {
            let ts = files::timestamp(ms);
            let today = &ts[..10];
            if today > self.day.as_str() {
                self.day = today.to_owned();
            }
            if days.last().is_none_or(|lines| lines.day != self.day) {
                days.push(DayLines { day: self.day.clone(), text: Vec::new(), lines: 0 });
            }
            let Some(lines) = days.last_mut() else { continue };
            self.seq += 1;
            let event = serde_json::to_string(&event).expect("an event has string keys and no failing parts");
            // The event is an object with at least one member.
            let members = &event[1..event.len() - 1];
            let line = format!("{{\"seq\":{},\"ts\":\"{ts}\",{members},\"prev_sha256\":\"{}\"}}", self.seq, self.hash);
            self.hash = LineHash::of(line.as_bytes());
            lines.text.extend_from_slice(line.as_bytes());
            lines.text.push(b'\n');
            lines.lines += 1;
        }
        days
    }

    /// Writes until it has succeeded; false if it has not and the server stops.
    fn write(&mut self, lines: &DayLines, queue: &WriterPresence) -> bool {
        let mut complained: Option<Instant> = None;
        loop {
            let Err(error) = self.try_write(lines) else {
                if complained.is_some() {
                    tracing::info!("the audit log can be written again");
                }
                queue.written(lines.lines);
                return true;
            };
            queue.set_failing(true);
            if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_INTERVAL) {
                let dir = self.dir.display();
                tracing::error!(%error, %dir, "the audit log cannot be written; trying again, and events wait");
                complained = Some(Instant::now());
            }
            if queue.is_closing() {
                return false;
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    fn try_write(&mut self, lines: &DayLines) -> io::Result<()> {
        let path = self.dir.join(files::name_of(&lines.day));
        let current = match &mut self.current {
            Some(current) if current.path == path => current,
            other => {
                // The file of yesterday is complete.
                if let Some(yesterday) = other {
                    yesterday.file.sync_data()?;
                }
                other.insert(OpenFile::open(&self.dir, path)?)
            }
        };
        current.append(&lines.text)
    }

    fn sync(&self) -> bool {
        let Some(Err(error)) = self.current.as_ref().map(|current| current.file.sync_data()) else { return true };
        tracing::error!(%error, dir = %self.dir.display(), "the audit log could not be brought to disk; trying again");
        false
    }
}

impl OpenFile {
    fn open(dir: &Path, path: PathBuf) -> io::Result<OpenFile> {
        let file = private(OpenOptions::new().append(true).create(true)).open(&path)?;
        // The name of a new file is on disk before its first line.
        File::open(dir)?.sync_all()?;
        let bytes = file.metadata()?.len();
        Ok(OpenFile { path, file, bytes, is_torn: false })
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.is_torn {
            // What a failed attempt has written is taken back, so that this one follows a whole line.
            self.file.set_len(self.bytes)?;
        }
        self.is_torn = true;
        self.file.write_all(text).inspect_err(|_| {
            // If this fails too, the next attempt begins with it.
            self.is_torn = self.file.set_len(self.bytes).is_err();
        })?;
        self.is_torn = false;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

/// For the owner alone: addresses and subjects are personal data.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Moves what follows the last line feed to a file beside; returns its length, if there is something.
fn move_torn_line_aside(path: &Path) -> io::Result<Option<u64>> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = file.metadata()?.len();
    let whole = line_feed_before(&mut file, bytes)?.map_or(0, |at| at + 1);
    if whole == bytes {
        return Ok(None);
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".torn");
    let mut aside = private(OpenOptions::new().append(true).create(true)).open(aside)?;
    file.seek(SeekFrom::Start(whole))?;
    io::copy(&mut file, &mut aside)?;
    aside.sync_all()?;
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(Some(bytes - whole))
}

/// The last line of a file that ends with a line feed, without it; none if the file is empty.
fn last_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes == 0 {
        return Ok(None);
    }
    let start = line_feed_before(&mut file, bytes - 1)?.map_or(0, |at| at + 1);
    if bytes - 1 - start > LINE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its last line is too long"));
    }
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    file.take(bytes - 1 - start).read_to_end(&mut line)?;
    Ok(Some(line))
}

/// The place of the last line feed before `end`.
fn line_feed_before(file: &mut File, mut end: u64) -> io::Result<Option<u64>> {
    let mut buffer = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        buffer.clear();
        file.take(end - start).read_to_end(&mut buffer)?;
        if let Some(at) = buffer.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(start + at as u64));
        }
        end = start;
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
