//! A look at the log: what it holds, read from where the node stands, and what that means.

use std::time::Duration;

use feed_log::chain::Chain;
use feed_log::entry::LogEntry;

use crate::follower::scan::{Known, LogScan, ScanVerdict, UnknownEntry};
use crate::follower::{DOUBTS, LogFollower, NodeRole, QUIET, Standing};
use crate::log::{CallId, LogBounds, LogRange, LogReply, LogRequest, LogSequence, StoredBytes};
use crate::position::LogPosition;
use crate::turn::{JumpReason, NodeCommand, Turn};

/// Between two looks while something is amiss.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The same after another history was found: all of the log is read each time.
const LOOK_FORKED: Duration = Duration::from_millis(1000);
/// Entries asked for at once.
const READ_ENTRIES: u64 = 256;

#[derive(Debug)]
pub(super) enum Look {
    None,
    Bounds { call: CallId, since: Duration, is_whole: bool },
    Read { call: CallId, since: Duration, scan: Box<LogScan> },
}

impl LogFollower {
    pub(super) fn ask(&mut self, is_whole: bool, turn: &mut Turn) {
        let call = turn.out.request(LogRequest::Tail);
        self.look = Look::Bounds { call, since: turn.now, is_whole };
    }

    pub(super) fn is_unanswered(&mut self, now: Duration) {
        self.answers_since = None;
        self.end_look(now);
    }

    fn end_look(&mut self, now: Duration) {
        self.look = Look::None;
        self.look_at = now + if self.standing == Standing::Forked { LOOK_FORKED } else { LOOK_AGAIN };
    }

    /// Takes the reply, if it is to a call of this.
    pub fn replied(&mut self, call: CallId, reply: &LogReply, turn: &mut Turn) {
        match std::mem::replace(&mut self.look, Look::None) {
            Look::Bounds { call: asked, is_whole, .. } if asked == call => match reply {
                LogReply::Bounds(bounds) => {
                    self.answers_since.get_or_insert(turn.now);
                    self.begin_scan(*bounds, is_whole, turn);
                }
                LogReply::Missing => {
                    self.answers_since.get_or_insert(turn.now);
                    let bounds = LogBounds { first: LogSequence::START.next(), last: LogSequence::START };
                    self.begin_scan(bounds, true, turn);
                }
                _ => self.is_unanswered(turn.now),
            },
            Look::Read { call: asked, scan, .. } if asked == call => match reply {
                LogReply::Entries { entries, read_to } if *read_to >= scan.next => {
                    self.scan(scan, entries, *read_to, turn);
                }
                _ => self.is_unanswered(turn.now),
            },
            look => self.look = look,
        }
    }

    fn begin_scan(&mut self, bounds: LogBounds, is_whole: bool, turn: &mut Turn) {
        let own = self.position.sequence;
        let from = if own >= bounds.first && own <= bounds.last && own > LogSequence::START {
            own
        } else if own > bounds.last {
            bounds.last.back(READ_ENTRIES - 1)
        } else {
            bounds.first
        };
        let hint = self.read_from().filter(|_| self.position == LogPosition::EMPTY);
        let from = hint.map_or(from, |hint| hint.min(bounds.last)).max(bounds.first);
        let from = if is_whole { bounds.first } else { from };
        let mut scan = Box::new(LogScan::new(bounds, from, self.tailed));
        if self.position == LogPosition::EMPTY {
            scan.see(Known::Last);
        }
        self.go_on(scan, turn);
    }

    fn go_on(&mut self, scan: Box<LogScan>, turn: &mut Turn) {
        if scan.next > scan.bounds.last {
            self.end_look(turn.now);
            self.judge(scan, turn);
            return;
        }
        let to = LogSequence(scan.next.0.saturating_add(READ_ENTRIES - 1)).min(scan.bounds.last);
        let call = turn.out.request(LogRequest::Read(LogRange { from: scan.next, to }));
        self.look = Look::Read { call, since: turn.now, scan };
    }

    fn scan(&mut self, mut scan: Box<LogScan>, entries: &[StoredBytes], read_to: LogSequence, turn: &mut Turn) {
        for stored in entries {
            let chain = Chain::after(&stored.bytes);
            if chain == self.position.chain {
                self.position.sequence = stored.sequence;
                scan.reach(stored.sequence);
                scan.see(Known::Last);
            } else if self.kept.contains(chain) {
                scan.reach(stored.sequence);
                scan.see(Known::Older);
            } else if let Ok(entry) = LogEntry::decode_hashed(stored.bytes.clone(), chain) {
                scan.reach(stored.sequence);
                self.scan_unknown(&mut scan, stored, entry, turn);
            }
        }
        scan.reach_end(read_to);
        self.go_on(scan, turn);
    }

    fn scan_unknown(&mut self, scan: &mut LogScan, stored: &StoredBytes, entry: LogEntry, turn: &mut Turn) {
        let unknown = UnknownEntry { stored: stored.clone(), entry };
        if self.position.takes(&unknown.entry) {
            self.take(unknown.stored, unknown.entry, turn);
            self.take_ahead(turn);
            scan.see(Known::Last);
        } else if self.leaps_to(&unknown, turn) {
            self.take_ahead(turn);
            self.ahead.clear();
            scan.see(Known::Last);
        } else if self.position == LogPosition::EMPTY {
            self.jump(JumpReason::Joined, unknown, turn);
            scan.see(Known::Last);
        } else if unknown.entry.header.term >= self.position.term || self.role == NodeRole::Reader {
            scan.see_foreign(unknown, &self.position);
        }
    }

    fn judge(&mut self, scan: Box<LogScan>, turn: &mut Turn) {
        if let Some((term, chain)) = scan.newest_foreign() {
            self.see(term, chain, turn.now);
        }
        if scan.tailed != self.tailed {
            // The look is out of date. If nothing is missing, what came by the tail is all there is.
            if !scan.has_foreign() && self.ahead.bytes() == 0 {
                self.is_level(turn);
            }
            return;
        }
        match scan.verdict(&self.position) {
            ScanVerdict::Level => self.is_level(turn),
            ScanVerdict::Shorter if self.standing == Standing::Forked => {}
            ScanVerdict::Shorter => {
                if self.has_reached_snapshot(turn) {
                    self.standing = Standing::Shorter;
                }
            }
            ScanVerdict::ReadWhole => self.ask(true, turn),
            ScanVerdict::NewEpoch(unknown) => self.meet_epoch(unknown, turn),
            ScanVerdict::Restarted(unknown) if self.role == NodeRole::Reader => {
                self.jump(JumpReason::Restarted, unknown, turn);
            }
            ScanVerdict::Unread | ScanVerdict::Hole(..) | ScanVerdict::Fork | ScanVerdict::Restarted(..)
                if self.doubts < DOUBTS =>
            {
                self.doubts += 1;
            }
            ScanVerdict::Unread => {
                if self.has_reached_snapshot(turn) {
                    self.standing = Standing::Level;
                }
            }
            ScanVerdict::Hole(unknown) if self.standing != Standing::Forked => self.meet_hole(unknown, turn),
            ScanVerdict::Hole(..) | ScanVerdict::Fork | ScanVerdict::Restarted(..) => {
                self.standing = Standing::Forked;
                turn.out.push(NodeCommand::ReportFork { epoch: self.position.epoch });
            }
        }
    }

    fn is_level(&mut self, turn: &mut Turn) {
        if !self.has_reached_snapshot(turn) {
            return;
        }
        (self.standing, self.doubts) = (Standing::Level, 0);
        self.look_at = self.look_at.max(self.heard_at + QUIET);
    }
}
