//! Lanes open and close, in parts: one turn of the shard never does more than a bounded amount of matching.
//!
//! A new lane is on all topics that are new from now on. It is matched against the existing topics in parts, while its
//! sessions wait. A lane without members leaves its topics in parts, too. So a client that subscribes to a hundred
//! wildcards, again and again, only makes itself wait. Nor does it keep the shard busy: matching counts like messages
//! of the client.

use std::sync::Arc;

use crate::bus::demand::interest::{Claim, Interest};
use crate::delivery::budget::Budget;
use crate::delivery::demand::TopicDemand;
use crate::delivery::lanes::Lanes;
use crate::delivery::lanes::lane::Lane;
use crate::delivery::lanes::lane_key::LaneKey;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::settings::Settings;
use crate::protocol::command::CommandRefusal;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

impl Lanes {
    /// The lane with this key, which is opened if there is none; or why it cannot be. `cursor` is the shard's.
    pub fn lane_for(
        &mut self,
        key: LaneKey,
        settings: &Settings,
        demand: &TopicDemand,
        (cursor, now): (Offset, Stamp),
    ) -> Result<LaneId, CommandRefusal> {
        if let Some(lane) = self.by_key.get(&key) {
            return Ok(*lane);
        }
        self.check_limits(&key, settings)?;
        let claim = demand.interest().map_or(Ok(None), |interest| claim(interest, &key))?;
        Ok(self.open(key, claim, (cursor, now)))
    }

    /// The lane of a client that joins, without a topic: no limit keeps it out.
    pub fn lane_to_join(&mut self, key: LaneKey, (cursor, now): (Offset, Stamp)) -> LaneId {
        self.by_key.get(&key).copied().unwrap_or_else(|| self.open(key, None, (cursor, now)))
    }

    fn open(&mut self, key: LaneKey, claim: Option<Claim>, (cursor, now): (Offset, Stamp)) -> LaneId {
        let slot = self.lanes.vacant_entry();
        let lane = LaneId(slot.key() as u32);
        let topics = self.index.add_lane(lane, &key.patterns);
        self.pattern_bytes += key.bytes();
        self.by_key.insert(key.clone(), lane);
        slot.insert(Lane::new(key, claim, topics, (cursor, now.mono_ns)));
        lane
    }

    fn check_limits(&self, key: &LaneKey, settings: &Settings) -> Result<(), CommandRefusal> {
        let max = settings.limits.lanes_max;
        if self.lanes.len() >= max {
            let message = format!(
                "expected at most {max} different sets of patterns on a shard (limits.lanes_max); \
                 subscribe to the same patterns as others do"
            );
            return Err(CommandRefusal::new("too_many_lanes", message));
        }
        let (max, wildcards) = (settings.limits.wildcards_total_max, key.wildcards());
        if wildcards > 0 && self.index.wildcards() + wildcards > max {
            let message = format!(
                "expected at most {max} wildcards of all clients on a shard (limits.wildcards_total_max), \
                 found {} and {wildcards} more; name topics, or subscribe to the same patterns as others do",
                self.index.wildcards()
            );
            return Err(CommandRefusal::new("too_many_wildcards_total", message));
        }
        let max = settings.limits.lane_bytes_total_max;
        if self.bytes() + key.bytes() > max {
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
            let topics = &mut self.lanes[lane_id.0 as usize].topics.list;
            let kept = topics.len().saturating_sub(matches.left());
            let leaving = topics.split_off(kept);
            self.index.leave(lane_id, &leaving);
            // A lane without topics has its price, too.
            matches.spend(leaving.len().max(1));
            if kept > 0 {
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
        let (until, steps) = self.index.match_lane((lane_id, &mut lane.topics), &unmatched.wildcards, part);
        unmatched.from = until;
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

/// The lane's exact topics are in demand for as long as the claim lives.
fn claim(interest: &Arc<Interest>, key: &LaneKey) -> Result<Option<Claim>, CommandRefusal> {
    if !key.patterns.iter().any(Pattern::is_exact) {
        return Ok(None);
    }
    interest.claim(key.patterns.clone()).map(Some).map_err(|full| {
        let message = format!(
            "expected at most {} topics that all clients name (limits.topics_max), \
             found more; subscribe to fewer, or try again later",
            full.max
        );
        CommandRefusal::new("too_many_topics", message)
    })
}

#[cfg(test)]
mod tests;
