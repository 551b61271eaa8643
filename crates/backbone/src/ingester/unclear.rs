//! An append without a clear outcome: the log is asked, and what it says is done.

use std::collections::VecDeque;
use std::time::Duration;

use feed_log::chain::Chain;
use feed_log::entry::header::EntryHeader;
use feed_log::entry::term::TermReason;
use feed_log::entry::{EntryBody, PartCount};

use crate::append_verdict::{AppendVerdict, FoundEntry, LogReport, UnclearAppend};
use crate::election::{HELLO_WAIT, PING_EVERY};
use crate::follower::LogFollower;
use crate::hello::NodeHello;
use crate::ingester::{Ingester, Looked, Reign, Stage};
use crate::log::{LogRange, LogReply, LogRequest, LogSequence};
use crate::turn::{NodeCommand, Turn};

/// Between two questions to the log about an unclear outcome.
pub const ASK_AGAIN: Duration = Duration::from_millis(100);
/// No log is made sooner. Before, the deletion of another one may be under way: nats-server forgets a stream first and
/// removes its files then, also those of a stream that was made meanwhile, which then takes nothing any more.
const DELETION: Duration = Duration::from_millis(500);
/// Looks at an end that cannot be read: two seconds.
const UNREAD_MAX: u32 = 20;

/// Nobody takes over sooner: two pings are not answered first.
pub const TAKEOVER_MIN: Duration = PING_EVERY;
impl Ingester {
    /// The node was stopped for a while, or the log.
    pub fn wake(&mut self, follower: &LogFollower, turn: &mut Turn) {
        let may_be_deposed = turn.now >= self.committed_at + TAKEOVER_MIN;
        self.verify(if may_be_deposed { HELLO_WAIT } else { Duration::ZERO }, follower, turn);
    }

    /// Another entry may stand where the last one did, so that the place alone would let the next append pass: the
    /// other nodes are asked, and then the log.
    pub(super) fn verify(&mut self, wait: Duration, follower: &LogFollower, turn: &mut Turn) {
        if self.pending.is_none() {
            self.build(EntryBody::Batch(Vec::new()), PartCount::default(), follower, turn);
        }
        turn.out.push(NodeCommand::AskHellos);
        self.stage = Stage::Waiting { until: turn.now + wait };
    }

    /// Another node may know of a later term, or of more than the claim continues. A log that has lost it would let the
    /// next append pass all the same.
    pub fn hear(&mut self, hello: &NodeHello, follower: &LogFollower, turn: &mut Turn) -> Reign {
        let position = follower.position();
        let is_later = hello.term > position.term && hello.ingester != self.builder.node();
        let keeps_epoch = self.pending.as_ref().is_some_and(|pending| pending.entry.header.epoch == position.epoch);
        let is_further = hello.epoch == position.epoch && hello.next_offset > position.next_offset;
        let is_void = !self.is_seated && keeps_epoch && is_further;
        if is_later || is_void { self.end_reign(turn) } else { Reign::GoesOn }
    }

    fn look(&mut self, range: LogRange, look: Looked, turn: &mut Turn) {
        let call = turn.out.request(LogRequest::Read(range));
        self.stage = Stage::Looking { call, since: turn.now, look };
    }

    pub(super) fn looked(
        &mut self,
        mut look: Looked,
        reply: &LogReply,
        follower: &mut LogFollower,
        turn: &mut Turn,
    ) -> Reign {
        let from = look.found.last().map_or(LogSequence::START, |found| found.sequence);
        let LogReply::Entries { entries, read_to } = reply else {
            return self.decide(&LogReport::Unavailable, follower, turn);
        };
        look.found.extend(entries.iter().map(|stored| FoundEntry {
            sequence: stored.sequence,
            header: EntryHeader::decode(&stored.bytes).ok(),
            chain: Chain::after(&stored.bytes),
        }));
        if *read_to > from && *read_to < look.to {
            let range = LogRange { from: read_to.next(), to: look.to };
            self.look(range, look, turn);
            return Reign::GoesOn;
        }
        self.decide(&LogReport::Entries { bounds: look.bounds, entries: &look.found }, follower, turn)
    }

    pub(super) fn decide(&mut self, report: &LogReport, follower: &mut LogFollower, turn: &mut Turn) -> Reign {
        let Some(pending) = &self.pending else {
            self.stage = Stage::Idle;
            return Reign::GoesOn;
        };
        let chain = pending.entry.chain;
        let append = UnclearAppend {
            expected: self.end,
            chain,
            chain_before: follower.position().chain,
            term: self.term,
            node: self.builder.node(),
            kept: follower.kept(),
        };
        let verdict = append.verdict(report);
        let verdict = if verdict == AppendVerdict::Create {
            self.after_deletion(turn.now)
        } else {
            self.missing_since = None;
            self.patience(verdict, report)
        };
        match verdict {
            AppendVerdict::Ask => self.stage = Stage::Waiting { until: turn.now + ASK_AGAIN },
            AppendVerdict::Create => {
                turn.out.request(LogRequest::Create);
                self.stage = Stage::Waiting { until: turn.now + ASK_AGAIN };
            }
            AppendVerdict::Look(range) => {
                let bounds = match report {
                    LogReport::Bounds(bounds) | LogReport::Entries { bounds, .. } => *bounds,
                    _ => return Reign::GoesOn,
                };
                self.look(range, Looked { bounds, to: range.to, found: Vec::new() }, turn);
            }
            AppendVerdict::Committed(at) => {
                self.refill.clear();
                return self.stored(at, follower, turn);
            }
            AppendVerdict::Append { expected, is_intruded } => {
                self.refill.clear();
                self.append_at(expected, is_intruded, turn);
            }
            AppendVerdict::Refill { after, expected, is_intruded } => {
                let lost = follower.kept().after(after).into_iter().flatten();
                self.refill = lost.map(|entry| entry.bytes.clone()).collect();
                turn.out.heal();
                self.append_at(expected, is_intruded, turn);
            }
            AppendVerdict::NewEpoch { expected } => {
                self.end = expected;
                self.refill.clear();
                match self.pending.take().map(|pending| pending.entry.body) {
                    Some(EntryBody::Part(_)) => self.queue = self.parts.iter().cloned().collect(),
                    Some(batch @ EntryBody::Batch(_)) => self.queue = VecDeque::from([(batch, PartCount::default())]),
                    // What waits behind a term that was not stored still waits.
                    _ => {}
                }
                self.begin_term(TermReason::LogLost, true, follower, turn);
                self.send(turn);
            }
            AppendVerdict::Deposed => return self.end_reign(turn),
        }
        Reign::GoesOn
    }

    /// There is no log.
    fn after_deletion(&mut self, now: Duration) -> AppendVerdict {
        let since = *self.missing_since.get_or_insert(now);
        if now < since + DELETION { AppendVerdict::Ask } else { AppendVerdict::Create }
    }

    /// An entry at the end that cannot be read for long is damaged, and whoever wrote it may have gone further.
    fn patience(&mut self, verdict: AppendVerdict, report: &LogReport) -> AppendVerdict {
        match (verdict, report) {
            (AppendVerdict::Ask, LogReport::Entries { bounds, .. }) => {
                self.unread += 1;
                if self.unread > UNREAD_MAX { AppendVerdict::NewEpoch { expected: bounds.last } } else { verdict }
            }
            (AppendVerdict::Look(_) | AppendVerdict::Ask, _) => verdict,
            _ => {
                self.unread = 0;
                verdict
            }
        }
    }

    fn append_at(&mut self, expected: LogSequence, is_intruded: bool, turn: &mut Turn) {
        self.end = expected;
        if is_intruded {
            self.epoch_wanted.get_or_insert(TermReason::Fork);
        }
        self.send(turn);
    }
}
