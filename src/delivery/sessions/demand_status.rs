//! What is said of topics that clients wait for and of which nothing has ever come: told to those who named them, and to
//! nobody else.
//!
//! A shard looks for news ten times a second, so that nothing of this is in the way of frames. Sessions in step are told at
//! once, one that is behind when it has caught up; nothing is queued for it, what holds then is looked up.

use std::collections::HashMap;

use crate::bus::demand::interest::{DemandStatus, TooManyTopics};
use crate::delivery::lanes::lane::SessionId;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::sessions::session::{Socket, SyncState};
use crate::delivery::shard::Shard;
use crate::protocol::command::CommandRefusal;
use crate::protocol::encoding::Format;
use crate::protocol::server_message::ServerMessage;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

impl<S: Socket> Shard<S> {
    /// Tells what was said since the last look.
    pub(in crate::delivery) fn tell_sayings(&mut self, now: Stamp) {
        let Some(interest) = self.interest.as_ref().filter(|interest| interest.status_version() != self.said) else {
            return;
        };
        let (version, news) = interest.statuses_after(self.said);
        self.said = version;
        let mut told: HashMap<LaneId, Vec<u8>> = HashMap::new();
        for (topic, saying) in &news {
            for lane in self.index.lanes_naming(topic) {
                if self.lanes[lane.0 as usize].key.format == Format::Envelope {
                    put(topic, saying, now, told.entry(*lane).or_default());
                }
            }
        }
        if told.is_empty() {
            return;
        }
        for (_, session) in &mut self.sessions {
            let waits = matches!(session.standing, SyncState::Behind(_) | SyncState::Ahead { .. });
            session.owed_sayings |= waits && told.contains_key(&session.lane);
        }
        for (lane, notices) in told {
            if self.lanes.contains(lane.0 as usize) {
                self.deliver_notice(lane, notices.into(), now);
            }
        }
    }

    /// What a session that has caught up is told of the topics that it names; nothing if it was told already.
    pub(in crate::delivery) fn owed_sayings(&mut self, id: SessionId, now: Stamp) -> Vec<u8> {
        let session = &mut self.sessions[id.0];
        let mut notices = Vec::new();
        if std::mem::take(&mut session.owed_sayings) {
            let patterns = self.lanes[session.lane.0 as usize].key.patterns.clone();
            self.put_sayings(patterns.iter().filter(|pattern| pattern.is_exact()), now, &mut notices);
        }
        notices
    }

    /// Appends what holds of these topics, as far as this shard has told it to others.
    pub(in crate::delivery) fn put_sayings<'p>(
        &self,
        topics: impl Iterator<Item = &'p Pattern>,
        now: Stamp,
        out: &mut Vec<u8>,
    ) {
        let Some(interest) = &self.interest else { return };
        for (topic, saying) in interest.statuses_of(topics, self.said) {
            match saying {
                Some(saying) => put(topic, &saying, now, out),
                None if interest.allows(topic) || self.reader.knows(topic) => {}
                None => {
                    let message = "this server does not ask the upstream for it (upstream.demand_topics)";
                    put(topic, &DemandStatus::Refused { message: message.to_string() }, now, out);
                }
            }
        }
    }

    /// Counts the exact topics that a session is to have, for itself and for its address. Gives how many it had.
    pub(in crate::delivery) fn take_share(
        &mut self,
        id: SessionId,
        patterns: &[Pattern],
    ) -> Result<usize, CommandRefusal> {
        let Some(interest) = &self.interest else { return Ok(0) };
        let asked = patterns.iter().filter(|pattern| pattern.is_exact() && interest.allows(pattern.as_str()));
        let (count, max) = (asked.count(), interest.bounds().per_session_max);
        if count > max {
            let message = format!(
                "expected at most {max} topics that one client is subscribed to by name \
                 (limits.wanted_per_session_max), found {count}; subscribe to fewer"
            );
            return Err(CommandRefusal::new("too_many_topics", message));
        }
        let Some(share) = &mut self.sessions[id.0].share else { return Ok(0) };
        let before = share.count();
        share.set(count).map(|()| before).map_err(|TooManyTopics { max }| {
            let message = format!(
                "expected at most {max} topics that all clients of one address together are subscribed to by name \
                 (limits.wanted_per_address_max), found more; subscribe to fewer"
            );
            CommandRefusal::new("too_many_topics", message)
        })
    }

    /// The session keeps what it had.
    pub(in crate::delivery) fn give_share_back(&mut self, id: SessionId, before: usize) {
        if let Some(share) = self.sessions[id.0].share.as_mut().filter(|share| before <= share.count()) {
            share.set(before).expect("fewer are never too many");
        }
    }
}

fn put(topic: &str, saying: &DemandStatus, now: Stamp, out: &mut Vec<u8>) {
    let ts = now.wall_ms;
    match saying {
        DemandStatus::Refused { message } => ServerMessage::Refused { topic, message, offset: None, ts }.put(out),
        DemandStatus::NothingYet { since_ms, message } => {
            let (topics, since_ms) = ([topic], *since_ms);
            ServerMessage::Stale { topics, reason: "nothing_yet", message, since_ms, offset: None, ts }.put(out);
        }
    }
}
