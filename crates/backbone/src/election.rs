//! When a follower takes over: the place is vacant, and it is this node's turn.
//!
//! Two detectors, both on the node's own clock. *Gone*: twice in a row nobody answered for the term. *Silent*: no entry
//! came for two seconds although the log answers; while the log is down, nobody is blamed for saying nothing. The log
//! itself decides between two that try at once.

use std::time::Duration;

use feed_log::entry::term::TermReason;

use crate::follower::{LogFollower, Standing};
use crate::hello::Peers;
use crate::planted::{PlantedFault, is_planted};
use crate::turn::{NodeCommand, Turn};

pub const PING_EVERY: Duration = Duration::from_millis(250);
const SILENT: Duration = Duration::from_secs(2);
/// A history that this node cannot follow has so much time to go on.
const FORK_SILENT: Duration = Duration::from_secs(4);
/// Each node that goes before this one gets so much time.
const RANK_STEP: Duration = Duration::from_millis(100);
/// All others are asked how far they are, and get so much time to answer.
pub const HELLO_WAIT: Duration = Duration::from_millis(100);
/// The same where this node does not know the whole tail, and needs another one that does.
const WITNESS_WAIT: Duration = Duration::from_millis(300);
/// One that knows that it lacks something leaves the others so much time.
const FURTHER_WAIT: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a node claims a term with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermClaim {
    pub term: u64,
    pub reason: TermReason,
    pub is_new_epoch: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct ElectionSettings {
    pub node: u64,
    pub priority: u32,
    /// The log is trusted to have all that was ever committed.
    pub trusts_log: bool,
}

#[derive(Debug)]
pub struct Election {
    settings: ElectionSettings,
    ping_at: Duration,
    /// The term that nobody answered for, and since when.
    unanswered: Option<(u64, Duration)>,
    /// Nobody answered for this term again.
    gone: Option<u64>,
    vacancy: Option<SeenVacancy>,
}

#[derive(Clone, Copy, Debug)]
struct SeenVacancy {
    since: Duration,
    claim_at: Duration,
}

impl Election {
    pub fn new(settings: ElectionSettings, now: Duration) -> Election {
        Election { settings, ping_at: now, unanswered: None, gone: None, vacancy: None }
    }

    /// What a ping has brought.
    pub fn pinged(&mut self, term: u64, is_answered: bool, now: Duration) {
        match self.unanswered {
            _ if is_answered => (self.unanswered, self.gone) = (None, None),
            Some((of, since)) if of == term => {
                if now >= since + PING_EVERY {
                    self.gone = Some(term);
                }
            }
            _ => self.unanswered = Some((term, now)),
        }
    }

    pub fn deadline(&self) -> Duration {
        self.vacancy.map_or(self.ping_at, |vacancy| vacancy.claim_at.min(self.ping_at))
    }

    /// Gives a claim if this node is to take over now.
    pub fn tick(&mut self, follower: &LogFollower, peers: &Peers, turn: &mut Turn) -> Option<TermClaim> {
        let position = follower.position();
        if turn.now >= self.ping_at {
            self.ping_at = turn.now + PING_EVERY;
            if position.term > 0 && !position.is_resigned {
                turn.out.push(NodeCommand::Ping { term: position.term });
            }
        }
        if !self.is_vacant(follower, turn.now) {
            self.vacancy = None;
            return None;
        }
        let is_certain = follower.is_witness() || position.term == 0;
        let vacancy = *self.vacancy.get_or_insert_with(|| {
            let ElectionSettings { node, priority, .. } = self.settings;
            let rank = peers.rank((node, priority), position.term + 1, turn.now);
            turn.out.push(NodeCommand::AskHellos);
            let wait = if is_certain { HELLO_WAIT } else { WITNESS_WAIT };
            SeenVacancy { since: turn.now, claim_at: turn.now + RANK_STEP * rank + wait }
        });
        if turn.now < vacancy.claim_at {
            return None;
        }
        let is_behind = peers.any_is_ahead_of(position);
        if is_behind && turn.now < vacancy.since + FURTHER_WAIT {
            self.vacancy = Some(SeenVacancy { claim_at: turn.now + LOOK_AGAIN, ..vacancy });
            return None;
        }
        let is_forked = follower.standing() == Standing::Forked;
        let is_known = |chain| follower.kept().contains(chain);
        let is_certified = is_planted(PlantedFault::EpochKept)
            || follower.is_witness()
            || peers.any_certifies(position.epoch, position.next_offset, is_known, turn.now);
        self.vacancy = None;
        let term = peers.term().max(position.term).max(follower.seen_term()) + 1;
        if (self.settings.trusts_log || is_certified) && !is_behind && !is_forked && position.term > 0 {
            Some(TermClaim { term, reason: TermReason::Takeover, is_new_epoch: false })
        } else {
            let reason = if position.term == 0 { TermReason::First } else { TermReason::LogLost };
            Some(TermClaim { term, reason, is_new_epoch: true })
        }
    }

    /// Nobody is the ingester, as far as this node can tell, and it has all that the log has. Where the log has another
    /// history that nobody writes any more, all may be as lost as this node.
    fn is_vacant(&self, follower: &LogFollower, now: Duration) -> bool {
        let position = follower.position();
        let Some(answers_since) = follower.answers_since().filter(|_| !follower.has_doubts()) else { return false };
        let is_gone = self.gone == Some(position.term);
        let is_silent = now >= follower.heard_at().max(answers_since) + SILENT;
        match follower.standing() {
            Standing::Level | Standing::Shorter => position.term == 0 || position.is_resigned || is_gone || is_silent,
            Standing::Forked => now >= follower.seen_at().max(answers_since) + FORK_SILENT,
            Standing::Joining => false,
        }
    }
}
