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
use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::history::History;
use crate::bus::private_directory::PrivateDirectoryError;
use crate::bus::reader::Reader;
use crate::bus::shown_log::ShownLog;
use crate::bus::signal::pulse::Pulse;
use crate::bus::views::Views;
use crate::delivery::bus_handles::BusHandles;
use crate::settings::table::Delay;
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

/// How often the lines look for frames: a ring is many times larger than what arrives meanwhile, and no delay is so
/// short that it matters. A doorbell would cost each frame of the live log.
const TURN_INTERVAL: Duration = Duration::from_millis(2);

/// Views that are open, and what feeds them.
pub(super) struct OpenViews {
    pub views: Views,
    /// The logs of the delayed ones.
    pub delayed: Vec<ShownLog>,
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
    lines: Vec<ViewLine>,
    /// The live log.
    shown: ShownLog,
    pub pulse: Pulse,
}

/// What feeds one view.
struct ViewLine {
    line: DelayLine,
    /// Of the epoch that the live log has begun, until the view gets to it.
    next: Option<(DelayLine, Reader)>,
    terms: LineTerms,
}

/// What a view is opened with again.
struct LineTerms {
    view: u8,
    delay: ViewDelay,
    limits: Limits,
    history: History,
    bytes_max: usize,
    spool: Option<SpoolTerms>,
    meters: Meters,
}

/// Has clients of a view read this log from now on, which is of another epoch.
pub(super) type ShowView<'s> = &'s dyn Fn(ViewId, Reader);

/// Opens a view for each of these delays, in the order of their numbers; `live` is for `live_shards` shards.
///
/// # Errors
/// The directory of spools cannot be used.
pub(super) fn open(
    delays: &[ViewDelay],
    ((live, live_shards), shown): ((&BusHandles, usize), &ShownLog),
    terms: &LogTerms<'_>,
    (clock, meters): (Clock, &Meters),
) -> Result<OpenViews, PrivateDirectoryError> {
    let opened = if delays.is_empty() { None } else { open_spool(terms)? };
    let (spool, spool_lock) = opened.unzip();
    let (mut lines, mut workers) = (Vec::new(), Vec::new());
    let (mut delayed, mut shards) = (Vec::new(), vec![live.clone(); live_shards]);
    for (view, delay) in (1..).zip(delays) {
        let terms_of_line = LineTerms {
            view,
            delay: delay.clone(),
            limits: terms.limits,
            history: terms.history.clone(),
            bytes_max: terms.delay.bytes_max,
            spool: spool.clone(),
            meters: meters.clone(),
        };
        let parts = terms_of_line.parts(live.reader.clone());
        let OpenLine { line, reader, workers: of_line } = DelayLine::open(parts, meters, clock.now());
        // Clients of a delayed view say nothing to the feed, whose answers would not be delayed.
        let (view, requests) = (ViewId(view), Requests::closed());
        let handles = BusHandles { view, reader: reader.clone(), requests, ..live.clone() };
        shards.extend(vec![handles; terms.delay.shards]);
        lines.push(ViewLine { line, next: None, terms: terms_of_line });
        workers.extend(of_line);
        delayed.push(ShownLog::new(reader));
    }
    let lines = DelayLines { lines, shown: shown.clone(), pulse: Pulse::default() };
    Ok(OpenViews {
        views: Views::new(shown.clone(), delayed.iter().cloned()),
        delayed,
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
    pub(super) fn run(mut self, clock: Clock, stopped: &watch::Receiver<bool>, show: ShowView<'_>) -> io::Result<()> {
        while !*stopped.borrow() {
            let now = clock.now();
            self.pulse.beat(now);
            let (live, mut is_late) = (self.shown.reader(), false);
            for line in &mut self.lines {
                line.follow(&live, now)?;
                is_late |= line.is_late_after(now, show);
            }
            if !is_late {
                std::thread::sleep(TURN_INTERVAL);
            }
        }
        Ok(())
    }
}

impl ViewLine {
    /// If the live log has begun another epoch, the view is to begin it as late as all that it shows.
    fn follow(&mut self, live: &Reader, now: Stamp) -> io::Result<()> {
        let known = self.next.as_ref().map_or(&self.line, |(next, _)| next).live_epoch();
        if known == live.epoch() {
            return Ok(());
        }
        let opened = DelayLine::open_epoch(self.terms.parts(live.clone()), &self.terms.meters, now);
        for worker in opened.workers {
            // It ends with its line, and never fails.
            std::thread::Builder::new().name("spool".into()).spawn(move || worker.run())?;
        }
        self.next = Some((opened.line, opened.reader));
        Ok(())
    }

    /// Publishes what is old enough; whether there is more of it.
    fn is_late_after(&mut self, now: Stamp, show: ShowView<'_>) -> bool {
        let is_late = self.line.turn(now) == Some(Duration::ZERO);
        let Some((next, reader)) = &mut self.next else { return is_late };
        let is_next_late = next.turn(now) == Some(Duration::ZERO);
        let is_warm = !matches!(&*reader.feed(), FeedState::Stale { reason: StaleReason::DelayWarming, .. });
        if self.line.is_empty() && is_warm {
            show(ViewId(self.terms.view), reader.clone());
            if let Some((next, _)) = self.next.take() {
                std::mem::replace(&mut self.line, next).give_way();
            }
        }
        is_late || is_next_late
    }
}

impl LineTerms {
    fn parts(&self, live: Reader) -> LineParts {
        LineParts {
            view: self.view,
            delay: self.delay.clone(),
            live,
            epoch: Epoch(rand::random()),
            limits: self.limits,
            history: self.history.clone(),
            bytes_max: self.bytes_max,
            spool: self.spool.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
