//! A lane: the sessions of one shard that see the identical stream.
//!
//! Sessions that are in step with the lane cost one `write` per chunk. The others have a cursor of their own and are
//! brought back by catch-up.

use std::collections::{BTreeMap, HashMap};

use crate::delivery::lanes::lane_key::LaneKey;
use crate::delivery::lanes::window::Window;
use crate::delivery::session_id::SessionId;
use crate::words::ids::{Offset, TopicId};
use crate::words::patterns::PatternSet;
use shared_deflate::deflate::WINDOW_BITS_MAX;
use shared_deflate::token::{Lookback, Mark, Stream};

pub struct Lane {
    pub(super) key: LaneKey,
    /// The newest offset of any of its topics.
    pub(super) newest: Offset,
    /// The newest gap of its topics after which newer messages are not enough.
    pub(super) gap: Offset,
    /// None once its wildcards were matched against all topics.
    pub(super) unmatched: Option<Unmatched>,
    /// Sessions on the lane, in step or not.
    pub(super) members: u32,
    /// Sessions on other lanes whose snapshot scan leaves out what they know from this one.
    pub(super) holders: u32,
    /// Sessions that have been sent everything up to the lane's position, and are not on board of its window; each
    /// knows its slot.
    pub(super) in_step: Vec<SessionId>,
    /// Where in the stream each of them arrived; only with a stream.
    pub(super) arrived: Vec<u64>,
    /// What all in step have inflated; only with `CompressionMode::Kept`.
    pub(super) stream: Option<Stream>,
    /// Only while it pays.
    pub(super) window: Option<Window>,
    /// This round's frames. Empty between rounds and on a paced lane.
    pub(super) fresh: Vec<Fresh>,
    /// When something was last sent to all in step.
    pub(super) sent_ns: u64,
    /// Only on a paced lane.
    pub(super) pace: Option<LanePace>,
}

/// A frame of the current round for one lane.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// Its place in the shard's round.
    pub place: u32,
    /// Where those in step find the messages of its topic before it, and where its text begins in the lane's stream.
    pub lookback: Lookback,
    pub position: u64,
}

/// What is left to do before a lane is on all its topics.
pub(super) struct Unmatched {
    pub wildcards: PatternSet,
    /// The first slot of the index that they were not matched against yet.
    pub from: usize,
}

/// State of a paced lane.
pub(super) struct LanePace {
    pub every_ns: u64,
    /// Everything up to here has been sent. On other lanes that is the shard's cursor.
    pub position: Offset,
    /// The next moment at which something may be sent.
    pub due_ns: u64,
    /// Topics that changed since `position`, each once.
    pub changed: Vec<TopicId>,
    /// What was last sent of each topic, compressed; only with `CompressionMode::Kept`.
    pub sent: HashMap<TopicId, SentMark>,
    /// Sessions that are ahead of `position`, because they joined since; each knows its slot.
    pub ahead: Vec<SessionId>,
}

/// What a paced lane last sent of a topic, and where that stands in what its sessions have inflated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SentMark {
    pub offset: Offset,
    pub mark: Mark,
}

/// The lists of a lane on which a session can have a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotList {
    /// `Lane::in_step`
    InStep,
    /// `SharedWindow::members`
    Boarded,
    /// `LanePace::ahead`
    Ahead,
}

/// When a lane is due next. Lanes of one pace are due at the same moments, so that they send the same frames after the
/// same ones, and share their tokens. One that is late by a quarter of its pace lets a moment pass: updates of a topic
/// keep their distance.
pub(super) fn next_due_ns(now_ns: u64, every_ns: u64) -> u64 {
    (now_ns + every_ns / 4 * 3).div_ceil(every_ns.max(1)) * every_ns
}

impl LanePace {
    /// There is nothing to send, and no session waits for it.
    pub fn is_idle(&self) -> bool {
        self.changed.is_empty() && self.ahead.is_empty()
    }
}

impl Lane {
    pub(super) fn new(key: LaneKey, newest: Offset, (position, now_ns): (Offset, u64)) -> Lane {
        let pace = key.every.map(|every| {
            let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
            let (changed, sent, ahead) = Default::default();
            LanePace { every_ns, position, due_ns: next_due_ns(now_ns, every_ns), changed, sent, ahead }
        });
        let wildcards = key.patterns.wildcards();
        let unmatched = (!wildcards.is_empty()).then(|| Unmatched { wildcards: wildcards.iter().collect(), from: 0 });
        Lane {
            unmatched,
            stream: key.compression.stream(),
            key,
            newest,
            gap: Offset::START,
            members: 0,
            holders: 0,
            in_step: Vec::new(),
            arrived: Vec::new(),
            window: None,
            fresh: Vec::new(),
            sent_ns: now_ns,
            pace,
        }
    }

    pub fn key(&self) -> &LaneKey {
        &self.key
    }

    /// The newest offset of any of its topics, up to the shard's cursor.
    pub fn newest(&self) -> Offset {
        self.newest
    }

    /// The newest gap of its topics after which newer messages are not enough; `Offset::START` if none is known.
    pub fn gap(&self) -> Offset {
        self.gap
    }

    /// It is on all its topics; before, no session of it can be in step.
    pub fn is_matched(&self) -> bool {
        self.unmatched.is_none()
    }

    /// One session is on the lane and in step; nothing of the lane is bound to its list of topics, and no limit was passed
    /// by for it.
    pub(super) fn is_private(&self) -> bool {
        let of_one = self.members == 1 && self.holders == 0 && self.in_step.len() == 1;
        let is_plain = self.window.is_none() && self.pace.is_none() && self.key.patterns.wildcards().is_empty();
        of_one && is_plain && !self.key.patterns.is_empty()
    }

    pub fn is_paced(&self) -> bool {
        self.pace.is_some()
    }

    /// What has been sent to all in step; `cursor` is the shard's.
    pub fn position(&self, cursor: Offset) -> Offset {
        self.pace.as_ref().map_or(cursor, |pace| pace.position)
    }

    /// When something was last sent to all in step, on the monotonic clock.
    pub fn sent_ns(&self) -> u64 {
        self.sent_ns
    }

    /// The sessions with a slot on this list.
    pub fn slots(&self, list: SlotList) -> &[SessionId] {
        match list {
            SlotList::InStep => &self.in_step,
            SlotList::Boarded => self.window.as_ref().map_or(&[], |window| window.members()),
            SlotList::Ahead => self.pace.as_ref().map_or(&[], |pace| &pace.ahead),
        }
    }

    /// Puts the session at the end of a list; gives its slot. A session boards by a cut alone.
    pub(super) fn take_slot(&mut self, list: SlotList, session: SessionId) -> u32 {
        let slots = match list {
            SlotList::InStep => &mut self.in_step,
            SlotList::Ahead => &mut self.pace.as_mut().expect("only a paced lane has sessions ahead").ahead,
            SlotList::Boarded => unreachable!("sessions board all at once"),
        };
        if let (SlotList::InStep, Some(stream)) = (list, &self.stream) {
            self.arrived.push(stream.position());
        }
        slots.push(session);
        slots.len() as u32 - 1
    }

    /// Takes out what is on the slot; gives it, and the session that is there now, if one was moved.
    pub(super) fn free_slot(&mut self, list: SlotList, slot: u32) -> (SessionId, Option<SessionId>) {
        let slot = slot as usize;
        let slots = match list {
            SlotList::InStep => &mut self.in_step,
            SlotList::Ahead => &mut self.pace.as_mut().expect("only a paced lane has sessions ahead").ahead,
            SlotList::Boarded => {
                let window = self.window.as_mut().expect("a session on board has a window");
                let (left, moved) = window.leave(slot);
                return (left, moved.copied());
            }
        };
        let left = slots.swap_remove(slot);
        if list == SlotList::InStep && self.stream.is_some() {
            self.arrived.swap_remove(slot);
        }
        (left, slots.get(slot).copied())
    }

    /// Sessions that a chunk goes to: those in step, on board or not.
    pub fn audience(&self) -> usize {
        self.in_step.len() + self.slots(SlotList::Boarded).len()
    }

    /// Since where all in step without a window have the lane's stream, as far as a text at `position` can refer to it; none
    /// if they differ, as after one has joined.
    pub fn known_since(&self, position: u64) -> Option<u64> {
        let newest = self.arrived.iter().copied().max().unwrap_or_default();
        let oldest = self.arrived.iter().copied().min().unwrap_or_default();
        (oldest == newest || position - newest >= 1 << WINDOW_BITS_MAX).then_some(newest)
    }

    /// The sessions in step without a window, each with those that have the same of the lane's stream.
    pub fn by_arrival(&self, position: u64) -> BTreeMap<u64, Vec<SessionId>> {
        let mut groups = BTreeMap::<u64, Vec<SessionId>>::new();
        for (session, arrived) in self.in_step.iter().zip(&self.arrived) {
            let is_whole = position - arrived >= 1 << WINDOW_BITS_MAX;
            groups.entry(if is_whole { 0 } else { *arrived }).or_default().push(*session);
        }
        groups
    }

    pub fn everyone_in_step(&self) -> impl Iterator<Item = SessionId> {
        self.in_step.iter().chain(self.slots(SlotList::Boarded)).copied()
    }
}
