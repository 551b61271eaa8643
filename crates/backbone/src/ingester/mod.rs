//! The one that appends: one entry in flight, the next when the one before is committed.
//!
//! A reign begins with the claim, an entry that begins a term at exactly the next place of the log, and ends when
//! another one stands where this one would append. What has become of an append without a clear outcome is decided by
//! [`crate::append_verdict`]; nothing is applied before it is committed.

pub mod builder;
#[cfg(test)]
mod pipelined;
mod unclear;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use feed_log::entry::error::EntryError;
use feed_log::entry::item::LoggedItem;
use feed_log::entry::term::TermReason;
use feed_log::entry::{EntryBody, PartCount};

use crate::append_verdict::{FoundEntry, LogReport};
use crate::election::{HELLO_WAIT, TermClaim};
use crate::follower::{LogFollower, TailedEntry};
pub use crate::ingester::builder::IngesterSettings;
use crate::ingester::builder::{EntryBuilder, PendingEntry};
use crate::ingester::unclear::{ASK_AGAIN, TAKEOVER_MIN};
use crate::log::{CallId, LogBounds, LogReply, LogRequest, LogSequence, StoredBytes};
use crate::planted::{PlantedFault, is_planted};
use crate::turn::{NodeCommand, Turn};

/// An empty batch follows when nothing was appended for this long.
const BEAT: Duration = Duration::from_millis(500);
/// No reply for this long: the outcome is unclear.
const REPLY: Duration = Duration::from_millis(500);
/// Between two new epochs: each makes every client start over.
const EPOCH_AGAIN: Duration = Duration::from_secs(10);

/// What a reign has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reign {
    GoesOn,
    /// Another one is the ingester now, or nobody.
    Ended,
}

#[derive(Debug)]
pub struct Ingester {
    builder: EntryBuilder,
    release: Duration,
    term: u64,
    /// The claim is committed.
    is_seated: bool,
    is_leaving: bool,
    has_feed: bool,
    /// The term that it answers pings for: the one that is committed, while it has the feed.
    answers_for: Option<u64>,
    /// Where the log ends: the next append stands right after it.
    end: LogSequence,
    /// Committed entries that the log has lost, before the one in flight.
    refill: VecDeque<Bytes>,
    pending: Option<PendingEntry>,
    /// Parts of the batch that is being appended, after the one in flight.
    queue: VecDeque<(EntryBody, PartCount)>,
    /// All parts of it: a new epoch begins with the first again.
    parts: Vec<(EntryBody, PartCount)>,
    stage: Stage,
    #[cfg(test)]
    second: Option<pipelined::SecondAppend>,
    /// The first call that appends these bytes at this place: a reply to an earlier one says nothing.
    sent_from: CallId,
    /// When the entry that is in flight was sent first.
    sent_at: Duration,
    committed_at: Duration,
    /// Of the entry that is in flight, with an unclear outcome.
    attempts: u32,
    /// Looks that could not read the end of the log.
    unread: u32,
    /// Since when each look has found no log.
    missing_since: Option<Duration>,
    /// A new epoch is to begin, and why.
    epoch_wanted: Option<TermReason>,
    epoch_begun_at: Option<Duration>,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Sent { since: Duration },
    Waiting { until: Duration },
    Asking { call: CallId, since: Duration },
    Looking { call: CallId, since: Duration, look: Looked },
}

/// What was read of the end of the log, in one or more replies.
#[derive(Debug)]
struct Looked {
    bounds: LogBounds,
    to: LogSequence,
    found: Vec<FoundEntry>,
}

impl Ingester {
    /// Claims the next term, once the log is seen to end with what the node has.
    pub fn claim(settings: IngesterSettings, claim: TermClaim, follower: &LogFollower, turn: &mut Turn) -> Ingester {
        let mut ingester = Ingester {
            release: settings.release,
            builder: EntryBuilder::new(settings),
            term: claim.term - 1,
            is_seated: false,
            is_leaving: false,
            has_feed: false,
            answers_for: None,
            end: follower.position().sequence,
            refill: VecDeque::new(),
            pending: None,
            queue: VecDeque::new(),
            parts: Vec::new(),
            stage: Stage::Idle,
            #[cfg(test)]
            second: None,
            sent_from: CallId::default(),
            sent_at: turn.now,
            committed_at: turn.now,
            attempts: 0,
            unread: 0,
            missing_since: None,
            epoch_wanted: None,
            epoch_begun_at: None,
        };
        ingester.begin_term(claim.reason, claim.is_new_epoch, follower, turn);
        ingester.ask(turn);
        ingester
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    pub fn is_seated(&self) -> bool {
        self.is_seated
    }

    /// Whether the next batch may be appended.
    pub fn is_ready(&self) -> bool {
        #[cfg(test)]
        if self.takes_second() {
            return true;
        }
        self.is_seated && !self.is_leaving && matches!(self.stage, Stage::Idle) && self.queue.is_empty()
    }

    /// Appends one batch; only if [`Ingester::is_ready`].
    ///
    /// # Errors
    /// Something in it is too long for an entry. Nothing was appended then.
    pub fn append(
        &mut self,
        items: Vec<LoggedItem>,
        follower: &LogFollower,
        turn: &mut Turn,
    ) -> Result<(), EntryError> {
        assert!(self.is_ready(), "one batch is in flight");
        #[cfg(test)]
        if self.takes_second() {
            return self.append_second(items, turn);
        }
        let mut bodies = EntryBuilder::bodies(items)?;
        if bodies.len() == 1 {
            let (body, count) = bodies.remove(0);
            let pending = self.builder.entry(self.term, body, count, follower.position(), turn.wall_ms)?;
            self.pending = Some(pending);
            self.send(turn);
        } else {
            self.queue.extend(bodies.iter().cloned());
            self.parts = bodies;
            self.go_on(follower, turn);
        }
        Ok(())
    }

    /// The log has two histories: what follows has an epoch of its own.
    pub fn want_epoch(&mut self, reason: TermReason, follower: &LogFollower, turn: &mut Turn) {
        self.epoch_wanted.get_or_insert(reason);
        if matches!(self.stage, Stage::Idle) {
            self.go_on(follower, turn);
        }
    }

    /// Gives the feed up, and says so in the log.
    pub fn resign(&mut self, follower: &LogFollower, turn: &mut Turn) {
        self.close_feed(turn);
        self.is_leaving = true;
        if matches!(self.stage, Stage::Idle) {
            self.go_on(follower, turn);
        }
    }

    pub fn deadline(&self) -> Duration {
        let stage = match &self.stage {
            Stage::Idle => self.committed_at + BEAT,
            Stage::Waiting { until } => *until,
            Stage::Sent { since } | Stage::Asking { since, .. } | Stage::Looking { since, .. } => *since + REPLY,
        };
        if self.has_feed { stage.min(self.committed_at + self.release) } else { stage }
    }

    pub fn tick(&mut self, follower: &LogFollower, turn: &mut Turn) {
        if turn.now >= self.committed_at + self.release {
            self.close_feed(turn);
        }
        if matches!(self.stage, Stage::Idle) {
            self.go_on(follower, turn);
        }
        match &self.stage {
            Stage::Idle if turn.now >= self.committed_at + BEAT => self.beat(follower, turn),
            Stage::Waiting { until } if turn.now >= *until => self.ask(turn),
            Stage::Sent { since } | Stage::Asking { since, .. } | Stage::Looking { since, .. }
                if turn.now >= *since + REPLY =>
            {
                self.ask(turn);
            }
            _ => {}
        }
    }

    /// The follower was given an entry that came by the tail.
    pub fn tailed(&mut self, what: TailedEntry, follower: &LogFollower, turn: &mut Turn) -> Reign {
        match what {
            TailedEntry::Known => {}
            TailedEntry::Foreign if matches!(self.stage, Stage::Idle) => self.beat(follower, turn),
            TailedEntry::Foreign => {}
            TailedEntry::Applied => {
                let is_own = self.pending.as_ref().is_some_and(|own| own.entry.chain == follower.position().chain);
                if !is_own {
                    return self.end_reign(turn);
                }
                self.pending = None;
                return self.committed(follower, turn);
            }
        }
        Reign::GoesOn
    }

    pub fn replied(&mut self, call: CallId, reply: &LogReply, follower: &mut LogFollower, turn: &mut Turn) -> Reign {
        if let LogReply::Appended(at) = reply {
            return self.appended(call, *at, follower, turn);
        }
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Sent { .. } if call >= self.sent_from => {
                if is_planted(PlantedFault::RefusalCommits) && *reply == LogReply::Refused {
                    return self.stored(self.end.next(), follower, turn);
                }
                self.doubt(turn);
            }
            Stage::Asking { call: asked, .. } if asked == call => {
                let report = match reply {
                    LogReply::Bounds(bounds) => LogReport::Bounds(*bounds),
                    LogReply::Missing => LogReport::Missing,
                    _ => LogReport::Unavailable,
                };
                return self.decide(&report, follower, turn);
            }
            Stage::Looking { call: asked, look, .. } if asked == call => {
                return self.looked(look, reply, follower, turn);
            }
            stage => self.stage = stage,
        }
        Reign::GoesOn
    }

    fn appended(&mut self, call: CallId, at: LogSequence, follower: &mut LogFollower, turn: &mut Turn) -> Reign {
        #[cfg(test)]
        self.believe_both(call, at, follower, turn);
        let has_sent = !self.refill.is_empty() || self.pending.is_some();
        if !has_sent || call < self.sent_from || at != self.end.next() {
            return Reign::GoesOn;
        }
        self.stored(at, follower, turn)
    }

    /// What is in flight stands there.
    fn stored(&mut self, at: LogSequence, follower: &mut LogFollower, turn: &mut Turn) -> Reign {
        (self.end, self.attempts) = (at, 0);
        if self.refill.pop_front().is_some() {
            self.committed_at = turn.now;
            self.send(turn);
            return Reign::GoesOn;
        }
        if let Some(PendingEntry { entry, bytes }) = self.pending.take() {
            follower.take_own(StoredBytes { sequence: at, bytes }, entry, turn);
        }
        self.committed(follower, turn)
    }

    /// The follower has applied what was pending.
    fn committed(&mut self, follower: &LogFollower, turn: &mut Turn) -> Reign {
        let position = follower.position();
        let is_late = turn.now >= self.sent_at + TAKEOVER_MIN;
        (self.end, self.committed_at, self.attempts) = (position.sequence, turn.now, 0);
        self.refill.clear();
        self.is_seated = true;
        self.stage = Stage::Idle;
        if position.is_resigned {
            return self.end_reign(turn);
        }
        if !self.is_leaving {
            if self.answers_for.replace(self.term) != Some(self.term) {
                turn.out.push(NodeCommand::Answer { term: self.answers_for });
            }
            if !std::mem::replace(&mut self.has_feed, true) {
                turn.out.push(NodeCommand::OpenFeed { term: self.term });
            }
        }
        if is_late {
            self.verify(HELLO_WAIT, follower, turn);
            return Reign::GoesOn;
        }
        #[cfg(test)]
        if self.promote_second(turn) {
            return Reign::GoesOn;
        }
        self.go_on(follower, turn);
        Reign::GoesOn
    }

    fn end_reign(&mut self, turn: &mut Turn) -> Reign {
        self.close_feed(turn);
        Reign::Ended
    }

    fn close_feed(&mut self, turn: &mut Turn) {
        if std::mem::take(&mut self.has_feed) {
            self.answers_for = None;
            turn.out.push(NodeCommand::Answer { term: None });
            turn.out.push(NodeCommand::CloseFeed);
        }
    }

    /// Nothing is in flight: builds what comes next, if there is anything.
    fn go_on(&mut self, follower: &LogFollower, turn: &mut Turn) {
        if !self.is_seated {
            return;
        }
        let may_change = self.epoch_begun_at.is_none_or(|at| turn.now >= at + EPOCH_AGAIN);
        if let Some((body, parts)) = self.queue.pop_front() {
            self.build(body, parts, follower, turn);
        } else if let Some(reason) = self.epoch_wanted.filter(|_| may_change) {
            self.begin_term(reason, true, follower, turn);
        } else if self.is_leaving {
            self.begin_term(TermReason::Resigned, false, follower, turn);
        } else {
            return;
        }
        self.send(turn);
    }

    fn beat(&mut self, follower: &LogFollower, turn: &mut Turn) {
        self.build(EntryBody::Batch(Vec::new()), PartCount::default(), follower, turn);
        self.send(turn);
    }

    fn begin_term(&mut self, reason: TermReason, is_new_epoch: bool, follower: &LogFollower, turn: &Turn) {
        if is_new_epoch {
            (self.epoch_wanted, self.epoch_begun_at) = (None, Some(turn.now));
        }
        self.term += 1;
        self.pending = Some(self.builder.term(self.term, reason, is_new_epoch, follower.position(), turn.wall_ms));
    }

    fn build(&mut self, body: EntryBody, count: PartCount, follower: &LogFollower, turn: &Turn) {
        let pending = self.builder.entry(self.term, body, count, follower.position(), turn.wall_ms);
        self.pending = Some(pending.expect("a part, nothing, or a batch that was built before"));
    }

    /// Appends what is next right after the end.
    fn send(&mut self, turn: &mut Turn) {
        let bytes = self.refill.front().or(self.pending.as_ref().map(|pending| &pending.bytes));
        let Some(entry) = bytes.cloned() else {
            self.stage = Stage::Idle;
            return;
        };
        if let Some(pending) = self.pending.as_ref().filter(|_| is_planted(PlantedFault::ShownUncommitted)) {
            let stored = StoredBytes { sequence: self.end.next(), bytes: pending.bytes.clone() };
            turn.out.push(NodeCommand::Apply { stored, entry: pending.entry.clone() });
        }
        if self.attempts == 0 {
            self.sent_at = turn.now;
        }
        self.sent_from = turn.out.request(LogRequest::Append { expected: self.end, entry });
        self.stage = Stage::Sent { since: turn.now };
    }

    /// The outcome is unclear. Where it was unclear before, the log gets some time: a leader that is cut off refuses at
    /// once and for ever.
    fn doubt(&mut self, turn: &mut Turn) {
        self.attempts += 1;
        if self.attempts > 1 {
            self.stage = Stage::Waiting { until: turn.now + ASK_AGAIN };
        } else {
            self.ask(turn);
        }
    }

    fn ask(&mut self, turn: &mut Turn) {
        let call = turn.out.request(LogRequest::Tail);
        self.stage = Stage::Asking { call, since: turn.now };
    }
}
