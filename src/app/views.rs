//! Delayed views of the feed: their logs, and the thread that feeds them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::access::rights::{ViewDelay, ViewId};
use crate::bus::Limits;
use crate::bus::clock::Clock;
use crate::bus::delay::line::{DelayLine, LineParts, OpenLine};
use crate::bus::delay::spool::directory::SpoolDirectory;
use crate::bus::delay::spool::worker::{SpoolTerms, SpoolWorker};
use crate::bus::demand::requests::Requests;
use crate::bus::history::History;
use crate::bus::private_directory::PrivateDirectoryError;
use crate::bus::signal::pulse::Pulse;
use crate::bus::views::Views;
use crate::delivery::bus_handles::BusHandles;
use crate::settings::table::Delay;
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;

/// How often the lines look for frames: a ring is many times larger than what arrives meanwhile, and no delay is so
/// short that it matters. A doorbell would cost each frame of the live log.
const TURN_INTERVAL: Duration = Duration::from_millis(2);

/// Views that are open, and what feeds them.
pub(super) struct OpenViews {
    pub views: Views,
    pub lines: DelayLines,
    /// What reads and writes for the lines.
    pub workers: Vec<SpoolWorker>,
    /// For each shard, by view: first those of the live log.
    pub shards: Vec<BusHandles>,
    /// Of the directory of spools.
    pub spool_lock: Option<File>,
}

/// What the logs of the views are opened with, as the live one is.
pub(super) struct LogTerms<'t> {
    pub limits: Limits,
    pub history: &'t History,
    pub delay: &'t Delay,
    /// Of the process before, which still uses the directory of spools.
    pub spool_lock: Option<&'t File>,
}

pub(super) struct DelayLines {
    lines: Vec<DelayLine>,
    pub pulse: Pulse,
}

/// Opens a view for each of these delays, in the order of their numbers; `live` is for `live_shards` shards.
///
/// # Errors
/// The directory of spools cannot be used.
pub(super) fn open(
    delays: &[ViewDelay],
    (live, live_shards): (&BusHandles, usize),
    terms: &LogTerms<'_>,
    (clock, meters): (Clock, &Meters),
) -> Result<OpenViews, PrivateDirectoryError> {
    let opened = if delays.is_empty() { None } else { open_spool(terms)? };
    let (spool, spool_lock) = opened.unzip();
    let (mut lines, mut workers) = (Vec::new(), Vec::new());
    let (mut readers, mut shards) = (Vec::new(), vec![live.clone(); live_shards]);
    for (view, delay) in (1..).zip(delays) {
        let parts = LineParts {
            view,
            delay: delay.clone(),
            live: live.reader.clone(),
            epoch: Epoch(rand::random()),
            limits: terms.limits,
            history: terms.history.clone(),
            bytes_max: terms.delay.bytes_max,
            spool: spool.clone(),
        };
        let OpenLine { line, reader, workers: of_line } = DelayLine::open(parts, meters, clock.now());
        // Clients of a delayed view say nothing to the feed, whose answers would not be delayed.
        let (view, requests) = (ViewId(view), Requests::closed());
        let handles = BusHandles { view, reader: reader.clone(), requests, ..live.clone() };
        shards.extend(vec![handles; terms.delay.shards]);
        lines.push(line);
        workers.extend(of_line);
        readers.push(reader);
    }
    let lines = DelayLines { lines, pulse: Pulse::default() };
    Ok(OpenViews {
        views: Views::new(live.reader.clone(), readers),
        lines,
        workers,
        shards,
        spool_lock: spool_lock.flatten(),
    })
}

fn open_spool(terms: &LogTerms<'_>) -> Result<Option<(SpoolTerms, Option<File>)>, PrivateDirectoryError> {
    let Some(path) = terms.delay.spool_dir.as_ref().map(Path::new) else { return Ok(None) };
    let files = match terms.spool_lock {
        Some(lock) => SpoolDirectory::open_beside(path, lock)?,
        None => SpoolDirectory::open(path)?,
    };
    // Without a copy another process cannot share the directory.
    let lock = files.lock().ok();
    Ok(Some((SpoolTerms { files: Arc::new(files), bytes_max: terms.delay.spool_bytes_max as u64 }, lock)))
}

impl DelayLines {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Feeds the views until the stop.
    pub(super) fn run(mut self, clock: Clock, stopped: &watch::Receiver<bool>) -> io::Result<()> {
        while !*stopped.borrow() {
            let now = clock.now();
            self.pulse.beat(now);
            let mut is_late = false;
            for line in &mut self.lines {
                is_late |= line.turn(now) == Some(Duration::ZERO);
            }
            if !is_late {
                std::thread::sleep(TURN_INTERVAL);
            }
        }
        Ok(())
    }
}
