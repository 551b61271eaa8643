//! Lanes open and close, in parts: one turn of the shard never does more than a bounded amount of matching.
//!
//! A new lane is on all topics that come from now on. The topics there are it is matched against bit by bit, while its
//! sessions wait; a lane that nobody is on any more leaves its topics bit by bit, too. So a client that subscribes to
//! a hundred wildcards, again and again, waits itself, and holds up nobody else. Nor does it keep the shard busy:
//! matching counts like messages of the client (`catch_up`).

use crate::bus::demand::interest::Claim;
use crate::delivery::lanes::lane::{Lane, LaneKey, SessionId};
use crate::delivery::lanes::topic_index::{LaneId, LaneSlot};
use crate::delivery::sessions::session::Socket;
use crate::delivery::shard::Shard;
use crate::protocol::command::CommandRefusal;
use crate::words::ids::TopicId;
use crate::words::stamp::Stamp;

/// 16,384 steps (topics, and patterns tried on them) at about 40 ns keep a turn of the shard below a millisecond.
pub(in crate::delivery) const MATCHES_PER_TURN: usize = 16 * 1024;

impl<S: Socket> Shard<S> {
    /// The lane with this key, which is opened if there is none; or why it cannot be.
    pub(in crate::delivery) fn lane_for(&mut self, key: LaneKey, now: Stamp) -> Result<LaneId, CommandRefusal> {
        if let Some(lane) = self.lane_by_key.get(&key) {
            return Ok(*lane);
        }
        let max = self.settings.limits.lanes_max;
        if self.lanes.len() >= max {
            let message = format!(
                "expected at most {max} different sets of patterns on a shard (limits.lanes_max); \
                 subscribe to the same patterns as others do"
            );
            return Err(CommandRefusal::new("too_many_lanes", message));
        }
        let max = self.settings.limits.wildcards_total_max;
        let wildcards = key.patterns.iter().filter(|pattern| !pattern.is_exact()).count();
        if wildcards > 0 && self.index.wildcards() + wildcards > max {
            let message = format!(
                "expected at most {max} wildcards of all clients on a shard (limits.wildcards_total_max), \
                 found {} and {wildcards} more; name topics, or subscribe to the same patterns as others do",
                self.index.wildcards()
            );
            return Err(CommandRefusal::new("too_many_wildcards_total", message));
        }
        let max = self.settings.limits.lane_bytes_total_max;
        if self.lane_bytes() + key.bytes() > max {
            let message = format!(
                "expected different sets of patterns of at most {max} bytes on a shard, about \
                 (limits.lane_bytes_total_max), found more; subscribe to the same patterns as others do, or to fewer"
            );
            return Err(CommandRefusal::new("lanes_full", message));
        }
        let claim = self.claim(&key)?;
        Ok(self.open_lane(key, claim, now))
    }

    /// About the memory of all lanes: their patterns, and their places in topics as of the last tick.
    pub(in crate::delivery) fn lane_bytes(&self) -> usize {
        /// A place in `LaneTopics::list` and one in `Entry::lanes`.
        const PLACE_BYTES: usize = size_of::<TopicId>() + size_of::<LaneSlot>();
        self.pattern_bytes + self.lane_places * PLACE_BYTES
    }

    fn claim(&self, key: &LaneKey) -> Result<Option<Claim>, CommandRefusal> {
        let Some(interest) = self.interest.as_ref().filter(|_| key.patterns.iter().any(|it| it.is_exact())) else {
            return Ok(None);
        };
        interest.claim(key.patterns.clone()).map(Some).map_err(|full| {
            let message = format!(
                "expected at most {} topics that all clients together are subscribed to by name (limits.topics_max), \
                 found more; subscribe to fewer, or try again later",
                full.max
            );
            CommandRefusal::new("too_many_topics", message)
        })
    }

    pub(in crate::delivery) fn open_lane(&mut self, key: LaneKey, claim: Option<Claim>, now: Stamp) -> LaneId {
        let slot = self.lanes.vacant_entry();
        let lane_id = LaneId(slot.key() as u32);
        let topics = self.index.add_lane(lane_id, &key.patterns);
        self.pattern_bytes += key.bytes();
        self.lane_by_key.insert(key.clone(), lane_id);
        slot.insert(Lane::new(key, claim, topics, (self.cursor, now.mono_ns)));
        lane_id
    }

    pub(in crate::delivery) fn enter_lane(&mut self, id: SessionId, lane_id: LaneId) {
        self.lanes[lane_id.0 as usize].members += 1;
        self.sessions[id.0].lane = lane_id;
    }

    /// Counts the session out of its lane, and closes the lane with its last member.
    pub(in crate::delivery) fn quit_lane(&mut self, id: SessionId) {
        self.end_walk(id);
        let lane_id = self.sessions[id.0].lane;
        let lane = &mut self.lanes[lane_id.0 as usize];
        lane.members -= 1;
        if lane.members == 0 {
            self.windows -= usize::from(lane.window.take().is_some());
            (lane.pace, lane.claim) = (None, None);
            self.index.remove_lane(lane_id, &lane.key.patterns);
            self.pattern_bytes -= lane.key.bytes();
            self.lane_by_key.remove(&lane.key);
            if lane.holders == 0 {
                self.closing.push(lane_id);
            }
        }
    }

    /// A session that was on the lane before needs no more to know on which topics it was.
    pub(in crate::delivery) fn release_lane(&mut self, lane_id: LaneId) {
        let lane = &mut self.lanes[lane_id.0 as usize];
        lane.holders -= 1;
        if lane.holders == 0 && lane.members == 0 {
            self.closing.push(lane_id);
        }
    }

    /// Begins a turn: lanes that were closed leave their topics, as many as a turn allows.
    pub(in crate::delivery) fn clear_lanes(&mut self) {
        self.matches_left = self.matches_per_turn;
        while let Some(lane_id) = self.closing.last().copied() {
            let topics = &mut self.lanes[lane_id.0 as usize].topics.list;
            let kept = topics.len().saturating_sub(self.matches_left);
            let left = topics.split_off(kept);
            self.index.leave(lane_id, &left);
            // A lane without topics has its price, too.
            self.matches_left = self.matches_left.saturating_sub(left.len().max(1));
            if kept > 0 {
                return;
            }
            self.lanes.remove(lane_id.0 as usize);
            self.closing.pop();
        }
    }

    /// Goes on matching the lane against the topics there are; gives the steps taken. Not before it was matched against
    /// all can its sessions be brought into step.
    pub(in crate::delivery) fn match_lane(&mut self, lane_id: LaneId) -> usize {
        let lane = &mut self.lanes[lane_id.0 as usize];
        let Some(unmatched) = &mut lane.unmatched else { return 0 };
        let (from, left) = (unmatched.from, self.matches_left);
        let (until, steps) = self.index.match_lane((lane_id, &mut lane.topics), &unmatched.wildcards, (from, left));
        unmatched.from = until;
        self.matches_left = left.saturating_sub(steps);
        if until == self.index.slots() {
            lane.unmatched = None;
            if let Some(pace) = &mut lane.pace {
                // Nobody is in step yet, and of topics that were matched late it is not known which have changed.
                (pace.position, pace.dirty) = (self.cursor, Vec::new());
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::delivery::handoff::SessionOptions;
    use crate::delivery::harness::{Harness, HarnessClient};
    use crate::words::topic::Pattern;

    const TOPICS: usize = 10_000;

    /// A stage with so many topics, and so few matches in a turn.
    fn crowded(matches_per_turn: usize) -> Harness {
        let mut stage = Harness::open();
        (0..TOPICS).for_each(|n| stage.publish(&format!("t{n}.x")));
        stage.settle();
        stage.shard.matches_per_turn = matches_per_turn;
        stage
    }

    fn subscribe(patterns: impl Iterator<Item = String>) -> String {
        json!({"op": "subscribe", "topics": patterns.collect::<Vec<_>>()}).to_string()
    }

    /// Turns until there is nothing to do. In each of them the other client asks something, and is answered.
    fn turns_in_which_another_is_answered(stage: &mut Harness, other: &HarnessClient) -> usize {
        let mut turns = 0;
        while stage.shard.has_work() {
            stage.say(other, r#"{"op":"ping"}"#);
            stage.turn();
            let heard = other.hear();
            assert!(heard.len() == 1 && heard[0]["op"] == "pong", "{heard:?}");
            turns += 1;
        }
        turns
    }

    #[test]
    fn a_client_with_many_wildcards_waits_and_others_do_not() {
        let mut stage = crowded(1000);
        let (greedy, other) = (stage.join(), stage.join());
        // There is nothing to find these by: they are tried one by one.
        stage.say(&greedy, &subscribe((0..100).map(|n| format!("t*{}*{}*.x", n / 10, n % 10))));
        let turns = turns_in_which_another_is_answered(&mut stage, &other);
        assert!(turns >= 30, "several tried on each of ten thousand, a thousand in a turn: found {turns} turns");
        let heard = greedy.hear();
        assert_eq!(heard[0]["op"], "subscribed");
        assert_eq!(heard.len() - 1, TOPICS - 10, "every number of two digits and more");
    }

    #[test]
    fn a_client_that_subscribes_and_unsubscribes_in_a_loop_holds_up_nobody() {
        let mut stage = crowded(1000);
        let (restless, other) = (stage.join(), stage.join());
        for _ in 0..5 {
            stage.say(&restless, &subscribe([">".to_string()].into_iter()));
            stage.say(&restless, r#"{"op":"unsubscribe","topics":[">"]}"#);
            let turns = turns_in_which_another_is_answered(&mut stage, &other);
            assert!(turns >= 20, "ten to match, ten to leave: found {turns} turns");
            let ops = restless.hear().into_iter().filter(|message| message["op"].is_string());
            assert_eq!(ops.count(), 2);
        }
        assert_eq!(stage.shard.lanes.len(), 1, "lanes that nobody is on are gone, also for those who walked");
        stage.publish("t1.x");
        stage.settle();
        assert!(restless.hear().is_empty());
    }

    #[test]
    fn what_changes_while_a_lane_is_matched_is_not_missed() {
        for every in [None, Some(Duration::from_millis(50))] {
            let mut stage = crowded(100);
            let patterns = vec![Pattern::parse(">").expect("a pattern")];
            let puppet = stage.adopt(SessionOptions { every, patterns, ..SessionOptions::default() });
            stage.turn();
            stage.turn();
            // The first has been matched, the last has not, and one is new.
            for topic in ["t0.x", "t9999.x", "new"] {
                stage.publish(topic);
            }
            stage.settle();
            stage.publish("t9999.x");
            for _ in 0..3 {
                stage.now.mono_ns += 100_000_000;
                stage.settle();
            }
            let heard = puppet.hear();
            let newest = |topic: &str| {
                let frames = heard.iter().filter(|message| message["topic"] == topic);
                frames.filter_map(|frame| frame["offset"].as_u64()).next_back()
            };
            let found = ["t0.x", "t1.x", "t9999.x", "new"].map(newest);
            let first = TOPICS as u64;
            assert_eq!(found, [Some(first + 1), Some(2), Some(first + 4), Some(first + 3)], "{every:?}");
        }
    }
}
