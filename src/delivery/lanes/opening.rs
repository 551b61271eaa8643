//! Lanes open and close, in parts: one turn of the shard never does more than a bounded amount of matching.
//!
//! A new lane is on all topics that are new from now on. It is matched against the existing topics in parts, while its
//! sessions wait. A lane without members leaves its topics in parts, too. So a client that subscribes to a hundred
//! wildcards, again and again, only makes itself wait. Nor does it keep the shard busy: matching counts like messages
//! of the client.

use crate::delivery::budget::Budget;
use crate::delivery::demand::TopicDemand;
use crate::delivery::lanes::lane::Lane;
use crate::delivery::lanes::lane_key::{LaneKey, LaneTerms};
use crate::delivery::lanes::lane_patterns::PatternChange;
use crate::delivery::lanes::names::Name;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::lanes::{Lanes, PLACE_BYTES};
use crate::delivery::settings::Settings;
use crate::protocol::command::CommandRefusal;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

impl Lanes {
    /// The lane like this one after the change, with these terms, which is opened if there is none; or why it cannot be.
    /// `cursor` is the shard's.
    pub fn lane_for(
        &mut self,
        (lane, mut change, terms): (LaneId, PatternChange, &LaneTerms),
        settings: &Settings,
        demand: &TopicDemand,
        (cursor, now): (Offset, Stamp),
    ) -> Result<LaneId, CommandRefusal> {
        // A lane that names what nobody has named before is a new one.
        let known = change.fresh.is_empty().then(|| self.changed_key(lane, &change, terms));
        if let Some(other) = known.as_ref().and_then(|key| self.by_key.get(key)) {
            return Ok(*other);
        }
        self.check_limits(&change, settings)?;
        self.name_fresh(&mut change, demand)?;
        let key = known.unwrap_or_else(|| self.changed_key(lane, &change, terms));
        Ok(self.open(key, (cursor, now)))
    }

    /// The lane of a client that joins, without a topic: no limit keeps it out.
    pub fn lane_to_join(&mut self, key: LaneKey, (cursor, now): (Offset, Stamp)) -> LaneId {
        self.by_key.get(&key).copied().unwrap_or_else(|| self.open(key, (cursor, now)))
    }

    fn open(&mut self, key: LaneKey, (cursor, now): (Offset, Stamp)) -> LaneId {
        let slot = self.lanes.vacant_entry();
        let lane = LaneId(slot.key() as u32);
        let patterns = &key.patterns;
        let newest = self.index.add_lane(lane, patterns.names(), (patterns.wildcards(), key.filter.clone()));
        self.key_bytes += key.patterns.totals().lane_bytes();
        self.by_key.insert(key.clone(), lane);
        slot.insert(Lane::new(key, newest, (cursor, now.mono_ns)));
        lane
    }

    /// Checks what a further lane would cost, with the patterns that there are after the change.
    fn check_limits(&self, change: &PatternChange, settings: &Settings) -> Result<(), CommandRefusal> {
        let max = settings.limits.lanes_max;
        if self.lanes.len() >= max {
            let message = format!(
                "expected at most {max} different sets of patterns on a shard (limits.lanes_max); \
                 subscribe to the same patterns as others do"
            );
            return Err(CommandRefusal::new("too_many_lanes", message));
        }
        let (max, wildcards) = (settings.limits.wildcards_total_max, change.totals.wildcards);
        if wildcards > 0 && self.index.wildcards() + wildcards > max {
            let message = format!(
                "expected at most {max} wildcards of all clients on a shard (limits.wildcards_total_max), \
                 found {} and {wildcards} more; name topics, or subscribe to the same patterns as others do",
                self.index.wildcards()
            );
            return Err(CommandRefusal::new("too_many_wildcards_total", message));
        }
        let subscribers = change.totals.patterns - change.totals.wildcards;
        self.check_bytes(change.totals.lane_bytes() + subscribers * PLACE_BYTES + fresh_bytes(change), settings)
    }

    /// Checks what a lane would cost more after the change.
    pub(super) fn check_growth(&self, change: &PatternChange, settings: &Settings) -> Result<(), CommandRefusal> {
        let subscribers = change.added.len() + change.fresh.len();
        if subscribers == 0 {
            Ok(())
        } else {
            self.check_bytes(subscribers * PLACE_BYTES + fresh_bytes(change), settings)
        }
    }

    /// Checks that there is room for so much more.
    fn check_bytes(&self, bytes: usize, settings: &Settings) -> Result<(), CommandRefusal> {
        let max = settings.limits.lane_bytes_total_max;
        if self.bytes() + bytes > max {
            let message = format!(
                "expected different sets of patterns of at most {max} bytes on a shard, about \
                 (limits.lane_bytes_total_max), found more; subscribe to the same patterns as others do, or to fewer"
            );
            return Err(CommandRefusal::new("lanes_full", message));
        }
        Ok(())
    }

    /// Lanes that were closed leave their topics, as many as the turn allows.
    pub fn clear(&mut self, matches: &mut Budget) {
        while let Some(lane_id) = self.closing.last().copied() {
            let topics_max = matches.left();
            let left = self.index.leave(lane_id, topics_max);
            // A lane without topics has its price, too.
            matches.spend(left.max(1));
            if left == topics_max {
                return;
            }
            self.lanes.remove(lane_id.0 as usize);
            self.closing.pop();
        }
    }

    /// Matches the lane against further topics; returns the steps taken.
    pub fn match_lane(&mut self, lane_id: LaneId, cursor: Offset, matches: &mut Budget) -> usize {
        let lane = &mut self.lanes[lane_id.0 as usize];
        let Some(unmatched) = &mut lane.unmatched else { return 0 };
        let part = (unmatched.from, matches.left());
        let (until, steps, newest) = self.index.match_lane(lane_id, &unmatched.wildcards, part);
        unmatched.from = until;
        lane.newest = lane.newest.max(newest);
        matches.spend(steps);
        if until == self.index.slots() {
            lane.unmatched = None;
            if let Some(pace) = &mut lane.pace {
                // No session is in step yet, and of topics that were matched late it is not known which have changed.
                (pace.position, pace.changed) = (cursor, Vec::new());
            }
        }
        steps
    }
}

/// What the topics cost that nobody has named before.
fn fresh_bytes(change: &PatternChange) -> usize {
    change.fresh.iter().map(|topic| Name::BYTES + topic.as_str().len()).sum()
}

#[cfg(test)]
mod tests;
