//! Sessions come, and change what they see: adoption, `subscribe`, `unsubscribe`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::bus::demand::requests::RequestKind;
use crate::bus::feed_state::FeedState;
use crate::delivery::catch_up::path::{CatchUp, Compression, SnapshotScan};
use crate::delivery::handoff::SessionOptions;
use crate::delivery::lanes::lane::{CompressionMode, LaneKey, SessionId};
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::sessions::session::{Session, Socket, SyncState};
use crate::delivery::shard::Shard;
use crate::protocol::command::{Command, CommandId, CommandRefusal};
use crate::protocol::encoding::Format;
use crate::protocol::server_message::{ServerMessage, Subscriptions};
use crate::wire::frame::Decoder;
use crate::words::ids::{Cursor, Offset};
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

/// What a command changed.
pub enum CommandEffect {
    Subscribed {
        patterns: Arc<[Pattern]>,
        offset: Offset,
        /// The cursor to resume from was of another epoch: everything before is skipped.
        other_epoch: bool,
        /// Exact topics of the command of which nothing is known yet; none where the upstream is not asked for topics.
        pending: Option<Vec<Pattern>>,
        /// Notices about topics of the command of which nothing is known, as WireFrames.
        sayings: Vec<u8>,
    },
    Unsubscribed {
        patterns: Arc<[Pattern]>,
        offset: Offset,
    },
    /// The answer comes later.
    Asked,
    Pong,
}

impl CommandEffect {
    /// Appends the answer; raw sessions get none.
    pub fn put(&self, id: Option<&CommandId>, format: Format, now: Stamp, out: &mut Vec<u8>) {
        if format == Format::Raw {
            return;
        }
        match self {
            CommandEffect::Subscribed { patterns, offset, other_epoch, pending, sayings } => {
                let pending = pending.as_deref();
                let answer = Subscriptions { id, topics: patterns, offset: *offset, pending };
                ServerMessage::Subscribed { answer }.put(out);
                if *other_epoch {
                    ServerMessage::Skipped { from: Offset::START, to: *offset, reason: "epoch" }.put(out);
                }
                out.extend_from_slice(sayings);
            }
            CommandEffect::Unsubscribed { patterns, offset } => {
                let answer = Subscriptions { id, topics: patterns, offset: *offset, pending: None };
                ServerMessage::Unsubscribed { answer }.put(out);
            }
            CommandEffect::Asked => {}
            CommandEffect::Pong => ServerMessage::Pong { id, ts: now.wall_ms }.put(out),
        }
    }
}

impl<S: Socket> Shard<S> {
    /// Takes over a client whose upgrade is done. `unread` came with the request.
    pub fn adopt(&mut self, socket: S, unread: &[u8], terms: SessionOptions, now: Stamp) -> SessionId {
        let SessionOptions { format, deflate, policy, .. } = terms;
        let mut decoder = Decoder::new(self.settings.limits.message_bytes_max, deflate.is_some());
        let scheme = CompressionMode::of(deflate);
        decoder.push(unread);
        let share = self.interest.as_ref().zip(terms.address).and_then(|(interest, address)| interest.share(address));
        let is_stale = matches!(*self.feed, FeedState::Stale { .. });
        let id = SessionId(self.sessions.insert(Session {
            socket,
            decoder,
            lane: LaneId(0),
            standing: SyncState::Behind(Box::new(CatchUp::at(self.cursor))),
            unsent: Bytes::new(),
            unsent_form: Compression::Plain,
            blocked_ns: 0,
            heard_ns: now.mono_ns,
            pinged_ns: 0,
            readable: true,
            queued: false,
            unheard: false,
            held: false,
            told_throttled: false,
            messages: 0,
            message_bytes: 0,
            inbound_bytes: 0,
            inbound_ns: 0,
            asking: None,
            feed_told: if is_stale { self.feed_version.wrapping_sub(1) } else { self.feed_version },
            format,
            policy,
            has_subscribed: false,
            owed_sayings: false,
            share: share.map(Box::new),
        }));
        self.behind += 1;
        self.meters.adopted.increment(1);
        let key = LaneKey { patterns: Arc::new([]), format, scheme, every: None };
        let lane = self.lane_by_key.get(&key).copied().unwrap_or_else(|| self.open_lane(key, None, now));
        self.enter_lane(id, lane);
        self.greet(id, terms, now);
        self.count_inbound(id, now);
        self.send_away(id, now);
        self.enqueue(id);
        id
    }

    /// The first messages: `welcome`, and the answer to what the query asked for.
    fn greet(&mut self, id: SessionId, terms: SessionOptions, now: Stamp) {
        let mut out = Vec::new();
        if terms.format == Format::Envelope {
            ServerMessage::Welcome {
                protocol: "fanline.v1",
                epoch: self.reader.epoch(),
                offset: self.cursor,
                ts: now.wall_ms,
                heartbeat_ms: self.settings.heartbeat.interval.as_millis() as u64,
                simulated: self.settings.simulated,
            }
            .put(&mut out);
        }
        if !terms.patterns.is_empty() {
            let (every, since) = (terms.every, terms.since);
            match self.subscribe(id, terms.patterns, (every, since), now) {
                Ok(done) => done.put(None, terms.format, now, &mut out),
                Err(refusal) => self.refuse(None, &refusal, terms.format, &mut out),
            }
        }
        self.sessions[id.0].unsent = out.into();
    }

    /// Does what a command says. The answer must be sent before anything else is.
    pub(in crate::delivery) fn obey(
        &mut self,
        id: SessionId,
        command_id: Option<&CommandId>,
        command: Command,
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        match command {
            Command::Ping => Ok(CommandEffect::Pong),
            Command::Send { topic, data } => self.ask(id, command_id, RequestKind::Send { topic, data }),
            Command::Request { data, timeout } => self.ask(id, command_id, RequestKind::Request { data, timeout }),
            Command::Unsubscribe { patterns } => self.unsubscribe(id, &patterns, now),
            Command::Subscribe { patterns, every, since, policy } => {
                let pace_now = self.lane_key(id).every;
                let pace = every.map_or(pace_now, |every| Some(every).filter(|every| !every.is_zero()));
                let done = self.subscribe(id, patterns, (pace, since), now)?;
                if let Some(policy) = policy {
                    self.sessions[id.0].policy = policy;
                }
                Ok(done)
            }
        }
    }

    fn subscribe(
        &mut self,
        id: SessionId,
        wanted: Vec<Pattern>,
        (every, since): (Option<Duration>, Option<Cursor>),
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        let key = self.lane_key(id);
        let mut pending = self.pending(&wanted);
        let mut patterns = key.patterns.to_vec();
        patterns.extend(wanted);
        patterns.sort_unstable();
        patterns.dedup();
        self.check_patterns(&patterns)?;
        let resume = since.map(|since| self.resume_point(id, since)).transpose()?;
        let patterns: Arc<[Pattern]> = patterns.into();
        let share = self.take_share(id, &patterns)?;
        if let Err(refusal) = self.resettle(id, LaneKey { patterns: patterns.clone(), every, ..key }, now) {
            self.give_share_back(id, share);
            return Err(refusal);
        }
        self.sessions[id.0].has_subscribed = true;
        let mut sayings = Vec::new();
        self.put_sayings(pending.iter().flatten(), now, &mut sayings);
        if let (Some(pending), Some(interest)) = (&mut pending, &self.interest) {
            pending.retain(|topic| interest.allows(topic.as_str()));
        }
        let mut offset = self.cursor;
        if let Some(Some(cursor)) = resume {
            offset = offset.max(cursor);
            self.end_walk(id);
            self.stand(id, SyncState::Behind(Box::new(CatchUp::resuming(cursor))));
        }
        let other_epoch = resume == Some(None);
        if other_epoch {
            self.meters.skips_epoch.increment(1);
        }
        Ok(CommandEffect::Subscribed { patterns, offset, other_epoch, pending, sayings })
    }

    fn check_patterns(&self, patterns: &[Pattern]) -> Result<(), CommandRefusal> {
        let (max, found) = (self.settings.limits.patterns_max, patterns.len());
        if found > max {
            let message = format!(
                "expected at most {max} patterns in one session (limits.patterns_max), found {found}; use wildcards"
            );
            return Err(CommandRefusal::new("too_many_patterns", message));
        }
        let (max, found) =
            (self.settings.limits.wildcards_max, patterns.iter().filter(|pattern| !pattern.is_exact()).count());
        if found > max {
            let message = format!(
                "expected at most {max} wildcards in one session (limits.wildcards_max), found {found}; \
                 name topics, or use fewer that match more"
            );
            return Err(CommandRefusal::new("too_many_wildcards", message));
        }
        let bytes = |pattern: &Pattern| pattern.as_str().len();
        let (max, found) = (self.settings.limits.pattern_bytes_max, patterns.iter().map(bytes).sum::<usize>());
        if found > max {
            let message = format!(
                "expected patterns of at most {max} bytes together in one session (limits.pattern_bytes_max), \
                 found {found}; use wildcards"
            );
            return Err(CommandRefusal::new("too_many_pattern_bytes", message));
        }
        Ok(())
    }

    /// The exact ones of these topics of which nothing is known yet, where the upstream is asked for topics.
    fn pending(&self, wanted: &[Pattern]) -> Option<Vec<Pattern>> {
        self.interest.as_ref()?;
        let exact = wanted.iter().filter(|pattern| pattern.is_exact());
        let mut pending: Vec<Pattern> = exact.filter(|topic| !self.reader.knows(topic.as_str())).cloned().collect();
        pending.sort_unstable();
        pending.dedup();
        Some(pending)
    }

    /// Where a replay for `since` starts; none if the cursor is of another epoch.
    fn resume_point(&self, id: SessionId, since: Cursor) -> Result<Option<Offset>, CommandRefusal> {
        if self.sessions[id.0].has_subscribed {
            let message = "`since` is possible only in the first subscription of a connection; reconnect to resume";
            return Err(CommandRefusal::new("bad_request", message));
        }
        if since.epoch != self.reader.epoch() {
            return Ok(None);
        }
        let head = self.reader.head();
        if since.offset > head {
            let message =
                format!("expected a cursor of at most offset {head}, found `{since}`, which is still to come");
            return Err(CommandRefusal::new("bad_cursor", message));
        }
        Ok(Some(since.offset))
    }

    fn unsubscribe(
        &mut self,
        id: SessionId,
        unwanted: &[Pattern],
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        let key = self.lane_key(id);
        // A lane's patterns are sorted, so that this costs no product of both numbers.
        let seats: Vec<Result<usize, usize>> =
            unwanted.iter().map(|pattern| key.patterns.binary_search(pattern)).collect();
        if let Some((_, stranger)) = seats.iter().zip(unwanted).find(|(seat, _)| seat.is_err()) {
            let message =
                format!("expected patterns as they were subscribed, found `{stranger}`, which is not in force");
            return Err(CommandRefusal::new("not_subscribed", message));
        }
        let unwanted: HashSet<usize> = seats.into_iter().flatten().collect();
        let kept = key.patterns.iter().enumerate().filter(|(seat, _)| !unwanted.contains(seat));
        let patterns: Arc<[Pattern]> = kept.map(|(_, pattern)| pattern.clone()).collect();
        self.resettle(id, LaneKey { patterns: patterns.clone(), ..key }, now)?;
        self.take_share(id, &patterns)?;
        Ok(CommandEffect::Unsubscribed { patterns, offset: self.cursor })
    }

    fn lane_key(&self, id: SessionId) -> LaneKey {
        self.lanes[self.sessions[id.0].lane.0 as usize].key.clone()
    }

    /// Moves the session to another lane. What it has been sent already is not repeated, what it has not follows.
    fn resettle(&mut self, id: SessionId, key: LaneKey, now: Stamp) -> Result<(), CommandRefusal> {
        let old = self.sessions[id.0].lane;
        if key == self.lanes[old.0 as usize].key {
            return Ok(());
        }
        // The new one first: a topic on both is wanted throughout.
        let lane = self.lane_for(key, now)?;
        let sent = self.unseat(id);
        let old_lane = &mut self.lanes[old.0 as usize];
        let known = (!old_lane.key.patterns.is_empty()).then_some((old, sent));
        old_lane.holders += u32::from(known.is_some());
        self.quit_lane(id);
        self.enter_lane(id, lane);
        let walk = SnapshotScan { reached: Offset::START, until: self.cursor, known };
        self.stand(id, SyncState::Behind(Box::new(CatchUp::walking(self.cursor, walk))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use serde_json::json;

    use super::*;
    use crate::delivery::harness::{Harness, HarnessClient};

    fn wanted(stage: &Harness) -> BTreeSet<String> {
        stage.interest.wanted().into_iter().map(String::from).collect()
    }

    /// Changes at random who is there and what they are subscribed to; gives how often the limit was reached.
    fn change(stage: &mut Harness, puppets: &mut Vec<(HarnessClient, BTreeSet<String>)>, rng: &mut StdRng) -> usize {
        const TOPICS: [&str; 7] = ["a", "b", "c.d", "e", "f", "g.*", ">"];
        let topic = TOPICS[rng.random_range(0..TOPICS.len())];
        let choice = rng.random_range(0..9);
        if choice < 2 || puppets.is_empty() {
            let terms =
                SessionOptions { patterns: Pattern::parse(topic).into_iter().collect(), ..SessionOptions::default() };
            let puppet = stage.adopt(terms);
            stage.settle();
            let answered = puppet.hear().iter().any(|message| message["op"] == "subscribed");
            puppets.push((puppet, answered.then(|| topic.to_string()).into_iter().collect()));
            return usize::from(!answered);
        }
        let at = rng.random_range(0..puppets.len());
        if choice == 2 {
            stage.vanish(&puppets.swap_remove(at).0);
        } else if choice == 3 {
            let (puppet, _) = puppets.swap_remove(at);
            puppet.pipe.borrow_mut().to_server.extend([0x88, 0x80, 0, 0, 0, 0]);
            stage.shard.ready(puppet.id, true, stage.now);
        } else {
            let op = ["subscribe", "unsubscribe"][choice % 2];
            let (puppet, topics) = &mut puppets[at];
            let heard = stage.ask(puppet, &json!({"op": op, "topics": [topic]}).to_string());
            match heard[0]["op"].as_str() {
                Some("subscribed") => drop(topics.insert(topic.into())),
                Some("unsubscribed") => drop(topics.remove(topic)),
                _ => return usize::from(heard[0]["code"] == "too_many_topics"),
            }
        }
        0
    }

    #[test]
    fn interest_is_what_those_who_are_there_are_subscribed_to() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut stage = Harness::open_with(4);
        let mut puppets = Vec::new();
        let mut told: BTreeSet<String> = BTreeSet::new();
        let mut refused = 0;
        for round in 0..3000 {
            refused += change(&mut stage, &mut puppets, &mut rng);
            let exact = |topic: &&String| !topic.contains(['*', '>']);
            let expected = puppets.iter().flat_map(|(_, topics)| topics).filter(exact).cloned().collect();
            assert_eq!(wanted(&stage), expected);
            if round % 7 == 0 {
                for change in stage.interest.drain(usize::MAX) {
                    let topic = String::from(change.topic);
                    assert!(if change.wanted { told.insert(topic) } else { told.remove(&topic) }, "news only");
                }
                assert_eq!(told, wanted(&stage));
            }
        }
        assert!(refused > 0, "the limit was reached");
        puppets.iter().for_each(|(puppet, _)| stage.vanish(puppet));
        stage.settle();
        assert!(stage.interest.wanted().is_empty());
        stage.pass_second();
        assert_eq!(stage.shard.lanes.len(), 0);
    }

    #[test]
    fn a_client_is_told_which_of_its_topics_are_still_to_come() {
        let mut stage = Harness::open();
        stage.publish("a");
        stage.settle();
        let puppet = stage.join();
        let heard = stage.ask(&puppet, r#"{"op":"subscribe","topics":["c","a","b","x.*","b"]}"#);
        assert_eq!(heard[0]["pending"], json!(["b", "c"]));
        stage.publish("b");
        stage.settle();
        puppet.hear();
        let heard = stage.ask(&puppet, r#"{"op":"subscribe","topics":["b"]}"#);
        assert_eq!(heard[0]["pending"], json!([]));
        stage.shard.interest = None;
        let heard = stage.ask(&puppet, r#"{"op":"subscribe","topics":["d"]}"#);
        assert_eq!((&heard[0]["op"], heard[0].get("pending")), (&json!("subscribed"), None));
    }

    #[test]
    fn a_session_has_a_limit_of_wildcards() {
        let mut stage = Harness::open();
        let puppet = stage.join();
        let topics = |count: usize| -> Vec<String> { (0..count).map(|n| format!("t{n}.*")).collect() };
        let max = stage.shard.settings.limits.wildcards_max;
        let heard = stage.ask(&puppet, &json!({"op": "subscribe", "topics": topics(max)}).to_string());
        assert_eq!(heard[0]["op"], "subscribed");
        let heard = stage.ask(&puppet, &json!({"op": "subscribe", "topics": topics(max + 1)}).to_string());
        assert_eq!(heard[0]["code"], "too_many_wildcards");
        let heard = stage.ask(&puppet, &json!({"op": "subscribe", "topics": ["exact"]}).to_string());
        assert_eq!(heard[0]["op"], "subscribed");
    }
}
